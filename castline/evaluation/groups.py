"""For whom it works less: test faces by what the user says of people, and by what a face is like as a picture.

What is said of people comes from labels/people.csv and from nowhere else: nothing about anybody is inferred.
"""

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from castline.errors import DataError
from castline.evaluation.measures import wilson_interval

__all__ = [
    "CONDITIONS",
    "FEW_FACES",
    "FEW_PEOPLE",
    "NOT_KNOWN",
    "Condition",
    "Group",
    "Grouping",
    "PeopleFile",
    "by_condition",
    "by_people",
    "read_people",
]

# With fewer faces a share of 95 % has an interval of about 15 points, and with fewer people it is that of one of them.
FEW_FACES = 30
FEW_PEOPLE = 3
NOT_KNOWN = "not known"
_LONGEST = 200  # characters of a name, a column or a value


@dataclass(frozen=True)
class Condition:
    """A measure of a face as a picture, and the bins that it is looked at in: fixed, so that reports can be compared.

    column: of the faces table. edges: a value that is equal to one belongs to the bin above it. labels: one more.
    """

    name: str
    column: str
    edges: tuple[float, ...]
    labels: tuple[str, ...]

    def values(self, measured: NDArray[np.floating]) -> list[str]:
        """The label of each of (N,) measures; `NOT_KNOWN` for NaN.

        >>> CONDITIONS[3].values(np.array([-50.0, 15.0, np.nan]))
        ['45° and more', '15° to 30°', 'not known']
        """
        size = np.abs(measured)  # yaw has a sign, the others are never below 0
        places = np.searchsorted(self.edges, size, side="right")
        return [NOT_KNOWN if np.isnan(value) else self.labels[place] for value, place in zip(size, places, strict=True)]


# 90 pixels between the eyes are what ISO/IEC 39794-5 asks of a passport photo. The other edges were chosen so that
# photos of actors from the web fall into all bins.
CONDITIONS = (
    Condition(
        "face size",
        "eye_distance",
        (30, 60, 90),
        ("eyes less than 30 px apart", "30 to 60 px", "60 to 90 px", "90 px and more"),
    ),
    Condition(
        "blur",
        "sharpness",
        (0.5, 1, 2),
        ("very blurred (sharpness below 0.5)", "blurred (0.5 to 1)", "fair (1 to 2)", "sharp (2 and more)"),
    ),
    Condition(
        "brightness",
        "brightness",
        (80, 120, 160),
        ("dark (below 80 of 255)", "80 to 120", "120 to 160", "bright (160 and more)"),
    ),
    Condition(
        "head turned",
        "yaw",
        (15, 30, 45),
        ("less than 15°", "15° to 30°", "30° to 45°", "45° and more"),
    ),
)


@dataclass(frozen=True)
class Group:
    """Test faces that have something in common.

    value: what. faces, people: how many. right: named right when everybody is named. named: named right at or above the
    threshold, None where there is no threshold. behind, named_behind: there are enough faces to say, and the whole
    interval of the one or the other lies below the rate of all test faces.
    """

    value: str
    faces: int
    people: int
    right: int
    named: int | None = None
    behind: bool = False
    named_behind: bool = False

    @property
    def worse(self) -> bool:
        """In the one way or the other."""
        return self.behind or self.named_behind

    @property
    def share(self) -> float:
        """Named right, of all."""
        return self.right / self.faces

    @property
    def interval(self) -> tuple[float, float]:
        """Of `share`: 95 %, Wilson. Faces of one person are alike, so that it is rather too narrow."""
        return wilson_interval(self.right, self.faces)

    @property
    def tpir(self) -> float | None:
        """Named right and not called unknown, of all."""
        return None if self.named is None else self.named / self.faces

    @property
    def tpir_interval(self) -> tuple[float, float] | None:
        """Of `tpir`: 95 %, Wilson."""
        return None if self.named is None else wilson_interval(self.named, self.faces)

    @property
    def few(self) -> bool:
        """Too few to say."""
        return self.faces < FEW_FACES or self.people < FEW_PEOPLE


@dataclass(frozen=True)
class Grouping:
    """All test faces, each in one group: smallest group first, and last those of which nothing is known.

    by: what tells the groups apart. of_people: it is said of people, in labels/people.csv; else of pictures.
    """

    by: str
    of_people: bool
    groups: tuple[Group, ...]

    @property
    def worse(self) -> list[Group]:
        """Groups that do worse than all test faces, as far as can be said."""
        return [group for group in self.groups if group.worse]


@dataclass(frozen=True)
class PeopleFile:
    """What labels/people.csv says. columns: of each column the value of each person, "" where none is given. unknown:
    names in it that the model does not have, as they are written there."""

    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def by_people(
    file: PeopleFile, who: Sequence[str], right: NDArray[np.bool_], named: NDArray[np.bool_] | None = None
) -> list[Grouping]:
    """A grouping for each column that says something. who: N names. right, named: (N,) see `Group`."""
    return [
        _grouped(column, True, [of.get(person) or NOT_KNOWN for person in who], who, right, named)
        for column, of in file.columns.items()
        if any(of.get(person) for person in who)
    ]


def by_condition(
    measured: Mapping[str, NDArray[np.floating]],
    who: Sequence[str],
    right: NDArray[np.bool_],
    named: NDArray[np.bool_] | None = None,
) -> list[Grouping]:
    """A grouping for each of `CONDITIONS`. measured: (N,) of each of their columns, NaN where it is not known: faces
    that are remembered from earlier batches have no picture here. who: N names. right, named: (N,) see `Group`."""
    return [
        _grouped(condition.name, False, condition.values(measured[condition.column]), who, right, named)
        for condition in CONDITIONS
    ]


def _grouped(
    by: str,
    of_people: bool,
    values: Sequence[str],
    who: Sequence[str],
    right: NDArray[np.bool_],
    named: NDArray[np.bool_] | None,
) -> Grouping:
    rows: dict[str, list[int]] = {}
    for i, value in enumerate(values):
        rows.setdefault(value, []).append(i)
    found = []
    for value, own in rows.items():
        group = Group(
            value,
            len(own),
            len({who[i] for i in own}),
            int(right[own].sum()),
            None if named is None else int(named[own].sum()),
        )
        if not group.few and value != NOT_KNOWN:
            group = replace(
                group,
                behind=bool(group.interval[1] < right.mean()),
                named_behind=named is not None
                and group.tpir_interval is not None
                and bool(group.tpir_interval[1] < named.mean()),
            )
        found.append(group)
    return Grouping(
        by, of_people, tuple(sorted(found, key=lambda group: (group.value == NOT_KNOWN, group.faces, group.value)))
    )


def read_people(path: Path, people: Iterable[str]) -> PeopleFile:
    """Read labels/people.csv: UTF-8, commas, a column `person`, and others that may be called and hold anything.

    people: whom the model names. Somebody who is not in the file has no values.

    Raises: DataError with the line that cannot be read, or says something twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", f"echo person > {path}: with nobody in it, nothing is said") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8", "save it again as CSV, UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            rows.append((reader.line_num, [unicodedata.normalize("NFC", cell).strip() for cell in row]))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}", "save it again as CSV") from error
    _, header = rows[0] if rows else (1, [])
    if "person" not in header:
        raise DataError(
            f"{path}, line 1: no column 'person', only {', '.join(map(repr, header)) or 'nothing'}",
            "name the column of names 'person', and put commas between columns",
        )
    if twice := sorted({column for column in header if header.count(column) > 1 or not column}):
        raise DataError(f"{path}, line 1: columns called alike or not at all: {', '.join(map(repr, twice))}")

    said: dict[str, dict[str, str]] = {}
    for line, row in rows[1:]:
        if not any(row):
            continue
        if len(row) > len(header):
            raise DataError(
                f"{path}, line {line}: {len(row)} cells under {len(header)} columns", 'a comma in a cell: "a, b"'
            )
        if any(len(cell) > _LONGEST for cell in row):
            raise DataError(f"{path}, line {line}: a cell of more than {_LONGEST} characters", "write a shorter one")
        cells = dict(zip(header, row, strict=False))
        person = cells.pop("person", "")
        if not person:
            raise DataError(f"{path}, line {line}: whose line is it? The column 'person' is empty", "add the name")
        if person in said:
            raise DataError(f"{path}, line {line}: a second line of {person!r}", "leave one of them")
        said[person] = cells
    known = set(people)
    return PeopleFile(
        {
            column: {person: cells.get(column, "") for person, cells in said.items() if person in known}
            for column in header
            if column != "person"
        },
        tuple(person for person in said if person not in known),
    )

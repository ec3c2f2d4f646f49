"""Which faces are shown: those that curation left out on a judgement, and those that it kept in doubt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from castline.errors import DataError
from castline.files import tables
from castline.photos.batches import label_of

__all__ = ["Case", "Person", "read_people"]

TYPICAL = 5
"""Faces of each person that show what the others are compared with."""

# Nobody has to look at these: they follow from what the photos are, not from how they look.
_PLAIN = (
    "another face in the photo", "the same file again", "unlabelled", "boxed, but with no name", "left out by review",
    "too few faces",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A face to decide about.

    chip: JPEG. box: x1, y1, x2, y2 in pixels of the photo, which is `size`, width and height. score: similarity to the
    name's other photos, or None. why: reason or doubt.
    """

    batch: str
    photo: str
    face: int
    sha256: str
    name: str
    kept: bool
    why: str
    score: float | None
    chip: bytes
    box: NDArray[np.float32]
    size: tuple[int, int]


@dataclass(frozen=True)
class Person:
    """A name, chips (JPEG) of faces that fit it best, and its cases, the least similar first."""

    name: str
    typical: Sequence[bytes]
    cases: Sequence[Case]


def read_people(build: Path, batches: Sequence[str]) -> list[Person]:
    """Everybody with a face to decide about, by name.

    Raises: DataError when a table is absent or does not belong to the others.
    """
    rows = tables.read(build / "dataset.parquet").to_pylist()
    asked: dict[str, list[int]] = {}
    fitting: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        label = label_of(row["photo"])
        name = row["person"] or (label.person if label else "")
        if row["doubt"] or (row["reason"] and not row["reason"].startswith(_PLAIN)):
            asked.setdefault(name, []).append(i)
        elif row["kept"] and row["score"] is not None:
            fitting.setdefault(name, []).append(i)
    typical = {name: sorted(fitting.get(name, ()), key=lambda i: -rows[i]["score"])[:TYPICAL] for name in asked}
    wanted = sorted({i for chosen in (asked, typical) for some in chosen.values() for i in some})
    faces = dict(zip(wanted, _faces(build, batches, rows, wanted), strict=True))

    def case(name: str, i: int) -> Case:
        row, face = rows[i], faces[i]
        return Case(
            batch=row["batch"],
            photo=row["photo"],
            face=row["face"],
            sha256=row["photo_sha256"],
            name=name,
            kept=row["kept"],
            why=row["reason"] or row["doubt"],
            score=row["score"],
            chip=face["chip"],
            box=np.array(face["box"], np.float32),
            size=(face["photo_width"], face["photo_height"]),
        )

    def order(i: int) -> tuple[float, int]:
        score = rows[i]["score"]
        return (1.0 if score is None else score, i)

    return [
        Person(name, [faces[i]["chip"] for i in typical[name]], [case(name, i) for i in sorted(asked[name], key=order)])
        for name in sorted(asked)
    ]


def _faces(build: Path, batches: Sequence[str], rows: list[dict[str, object]], wanted: list[int]) -> list[dict]:  # type: ignore[type-arg]
    """The rows `wanted` of the face tables, one batch's pictures in memory at a time."""
    key, start, found = ["batch", "photo", "face"], 0, []
    for batch in batches:
        table = tables.read(build / "faces" / f"{batch}.parquet", [*key, "box", "photo_width", "photo_height", "chip"])
        own = rows[start : start + len(table)]
        if table.select(key).to_pylist() != [{name: row[name] for name in key} for row in own]:
            raise DataError("build/ holds tables that were made from different faces", "dvc repro dataset")
        here = [i - start for i in wanted if start <= i < start + len(table)]
        found += table.take(pa.array(here, pa.int64())).to_pylist()
        start += len(table)
    return found

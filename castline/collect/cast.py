"""The list of people: cast.csv, with a line for each.

    name,imdb,wikidata,score,known titles
    Ann Smith,nm0000001,,187.21,tt0000001 tt0000002

Only `name` has to be there. imdb, wikidata: who it is, where it is known. score, known titles: for the reader.
"""

import csv
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from castline.errors import DataError
from castline.text import csv_cell, shown

__all__ = ["HEADER", "Person", "folders_of", "read_cast"]

HEADER = ("name", "imdb", "wikidata", "score", "known titles")
_IDS = {"imdb": (re.compile(r"nm\d{7,9}"), "nm0000001"), "wikidata": (re.compile(r"Q[1-9]\d{0,11}"), "Q42")}


@dataclass(frozen=True)
class Person:
    """One of the cast. imdb: the number on IMDb (nconst). wikidata: the entity. All but the name may be empty."""

    name: str
    imdb: str = ""
    wikidata: str = ""
    score: str = ""
    titles: str = ""

    @property
    def row(self) -> tuple[str, ...]:
        return self.name, self.imdb, self.wikidata, self.score, self.titles


def read_cast(path: Path) -> list[Person]:
    """The people in a CSV, in its order, each once; further columns are passed over.

    Raises: DataError.
    """
    how = "its first line names the columns: name, and if they are known imdb and wikidata"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if "name" not in (reader.fieldnames or ()):
                raise DataError(f"{path}: no column name", how)
            found: dict[Person, None] = {}
            for row in reader:
                cells = {key: _uncelled((row.get(key) or "").strip()) for key in HEADER}
                for key, (form, example) in _IDS.items():
                    if cells[key] and not form.fullmatch(cells[key]):
                        raise DataError(
                            f"{path}, line {reader.line_num}: {cells[key]!r} in the column {key}",
                            f"such as {example}, or leave it empty",
                        )
                if cells["name"]:
                    name = unicodedata.normalize("NFC", shown(" ".join(cells["name"].split())))
                    found.setdefault(Person(name, *(cells[key] for key in HEADER[1:])))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not readable as CSV: {error}", how) from error
    if not found:
        raise DataError(f"{path}: nobody is listed", how)
    return list(found)


def folders_of(people: Sequence[Person]) -> dict[Person, str]:
    """A folder for each, named like them as far as file systems allow; "" where no name is left.

    A namesake who is listed later, in whatever case, gets a number of Wikidata or IMDb behind the name, else "".
    """
    folders: dict[Person, str] = {}
    taken: set[str] = set()
    for person in people:
        name = _safe(person.name)
        if name.casefold() in taken:
            number = person.wikidata or person.imdb
            name = f"{name} {number}" if number else ""
        folders[person] = name if name.casefold() not in taken else ""
        taken.add(name.casefold())
    return folders


def _uncelled(cell: str) -> str:
    """What `csv_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and csv_cell(cell[1:]) == cell else cell


def _safe(name: str) -> str:
    """A name as that of a folder: nothing in it leads elsewhere, hides it, or reads as a formula or as _strangers.

    >>> _safe("../Ann: Smith."), _safe("_strangers"), _safe("...")
    ('Ann_ Smith', 'strangers', '')
    """
    name = re.sub(r'[/\\:*?"<>|\ufffd]', "_", shown(unicodedata.normalize("NFC", name)))
    name = name.encode()[:120].decode(errors="ignore")
    return re.sub(r"^[\s._'=+@＝＋－＠-]+|[\s.]+$", "", name)

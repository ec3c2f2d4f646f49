"""Where photos come from: labels/manifests/BATCH.csv, a line for each photo of a batch, written as it is collected.

photo: path below the batch. person: whom it is said to show. source: the page that describes it. author, licence,
licence_url: whom to credit, and for what. date: when it was taken, YYYY-MM-DD or YYYY. sha256: of the file. retrieved:
YYYY-MM-DD. consent: on what ground the person's face is used. What is not known is empty.
"""

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from castline.errors import DataError

__all__ = ["COLUMNS", "MANIFESTS", "Origin", "read_origins"]

MANIFESTS = Path("labels/manifests")


@dataclass(frozen=True)
class Origin:
    """A line of a manifest."""

    photo: str
    person: str
    source: str
    author: str
    licence: str
    licence_url: str
    date: str
    sha256: str
    retrieved: str
    consent: str


COLUMNS = tuple(field.name for field in dataclasses.fields(Origin))


def read_origins(path: Path) -> list[Origin]:
    """The lines of a manifest; no file, no lines. Of the columns only `photo` has to be there.

    Raises: DataError.
    """
    how = f"its first line has to be: {','.join(COLUMNS)}"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if "photo" not in (reader.fieldnames or ()):
                raise DataError(f"{path}: no column photo", how)
            return [Origin(**{key: row.get(key) or "" for key in COLUMNS}) for row in reader if row["photo"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not readable as CSV: {error}", how) from error

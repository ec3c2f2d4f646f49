"""Where photos come from: labels/sources.csv, so that a shoot, a film or a website stays on one side of the split.

    photo,source
    first/alma/alma_01.jpg,the picnic in May

photo: BATCH/path below it. source: any text; photos with the same one belong together. Further columns are passed over.

Of photos that were collected, the manifest says enough: what one photographer took of somebody on one day is one shoot.
"""

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from castline.errors import DataError
from castline.photos.origins import MANIFESTS, read_origins

__all__ = ["read_shoots", "read_sources"]


def read_sources(path: Path) -> dict[tuple[str, str], str]:
    """The source of each photo, by batch and path below it. No file, no source.

    Raises: DataError.
    """
    how = "its first line has to be: photo,source"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"photo", "source"} <= set(reader.fieldnames or ()):
                raise DataError(f"{path}: no columns photo and source", how)
            found: dict[tuple[str, str], str] = {}
            for row in reader:
                batch, _, photo = (row["photo"] or "").partition("/")
                source = (row["source"] or "").strip()
                if not photo:
                    raise DataError(f"{path}, line {reader.line_num}: {row['photo']!r} is not BATCH/path", how)
                if source and found.setdefault((batch, photo), source) != source:
                    raise DataError(f"{path}, line {reader.line_num}: {row['photo']!r} has two sources", how)
            return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not readable as CSV: {error}", how) from error


def read_shoots(batches: Iterable[str], folder: Path = MANIFESTS) -> dict[tuple[str, str], str]:
    """The shoot that each collected photo is of, by batch and path below it: folder, author and day, all of them known.

    Two people before one camera are two shoots: they are told apart whichever side each is on, and a photographer of
    many would tie them all to one side.

    Raises: DataError.
    """
    return {
        (batch, row.photo): f"{row.photo.partition('/')[0]}: {row.author}, {row.date}"
        for batch in batches
        for row in read_origins(folder / f"{batch}.csv")
        if row.author and re.fullmatch(r"\d{4}-\d\d-\d\d", row.date)
    }

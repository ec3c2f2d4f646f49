"""Where photos come from: labels/sources.csv, so that a shoot, a film or a website stays on one side of the split.

    photo,source
    first/alma/alma_01.jpg,the picnic in May

photo: BATCH/path below it. source: any text; photos with the same one belong together. Further columns are passed over.
"""

import csv
from pathlib import Path

from castline.errors import DataError

__all__ = ["read_sources"]


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

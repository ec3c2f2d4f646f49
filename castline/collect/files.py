"""Files that are there whole or not at all."""

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from castline.errors import DataError
from castline.text import csv_cell

__all__ = ["write", "write_csv"]


def write(path: Path, data: bytes) -> None:
    """Put `data` in the place of what is at `path`; its folder is made.

    Raises: DataError when it cannot be written.
    """
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
        partial = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        partial.chmod(0o644)
        partial.replace(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written: {error.strerror}", "name a place that can be written to"
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Cells that a spreadsheet will not run. Raises: DataError."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *([csv_cell(cell) for cell in row] for row in rows)])
    write(path, text.getvalue().encode())

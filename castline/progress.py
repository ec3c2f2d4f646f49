"""What training says of each epoch, as it goes, to whoever asked for it. No result depends on it."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["asked", "epoch", "written"]

_FILES = "CASTLINE_PROGRESS"  # one a line; also in processes that training starts


def asked(path: Path) -> dict[str, str]:
    """The environment variable for a process that is to write its epochs to `path` as well."""
    return {_FILES: "\n".join(filter(None, [os.environ.get(_FILES), str(path)]))}


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Epochs of this process, and of those it starts meanwhile, are written to `path` too."""
    before = os.environ.get(_FILES)
    os.environ |= asked(path)
    try:
        yield
    finally:
        del os.environ[_FILES]
        os.environ |= {} if before is None else {_FILES: before}


def epoch(row: Mapping[str, float]) -> None:
    """Append a row (epoch, from 0, and its losses and accuracies; time, in ms since 1970, is added) as a line of JSON
    to the files that were asked for. That one cannot be written is no reason to stop training."""
    for path in filter(None, os.environ.get(_FILES, "").split("\n")):
        with suppress(OSError), Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time_ns() // 1_000_000, **row}) + "\n")

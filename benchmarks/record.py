"""Results as CSV beside the benchmarks: each row with the command, the machine and the versions that it came from."""

import csv
import os
import platform
import shlex
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

PLACES = ("--work", "--csv", "--flagged")  # options whose value is a path
COLUMNS = ["command", "machine", "versions", "kind", "name", "measure", "value"]


def command_line(photos: Path) -> str:
    """The command that is running, as anybody would type it: without the paths of this machine.

    photos: its first argument.
    """
    words, skipped = ["python", f"benchmarks/{Path(sys.argv[0]).name}", photos.name], False
    for word in sys.argv[2:]:
        if not skipped and word not in PLACES:
            words.append(_without_folders(word))
        skipped = word in PLACES
    return shlex.join(words)


def _without_folders(word: str) -> str:
    """An absolute path by its last name: where it lies is this machine's own."""
    return Path(word).name if Path(word).is_absolute() else word


def record(path: Path, command: str, rows: Iterable[tuple[str, str, str, object]]) -> None:
    """Append rows of (kind, name, measure, value) to the CSV at `path`."""
    machine = f"{platform.machine()} {platform.system()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    versions = " ".join(f"{name}=={version(name)}" for name in ("torch", "timm", "ai-edge-litert", "dvc"))
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        writer.writerows([command, machine, versions, *row] for row in rows)

"""Small files in the work folder: the configuration that was last good, and files that are whole at every moment."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from castline.errors import ConfigError

__all__ = ["keep", "last_good", "write_atomically"]

_LAST_GOOD = "configuration.json"


def keep(work: Path, values: Mapping[str, Any]) -> None:
    """Remember a configuration that is good, for a start without the nucleus."""
    with suppress(OSError):
        write_atomically(work / _LAST_GOOD, json.dumps(dict(values), default=str))


def last_good(work: Path) -> Mapping[str, Any]:
    """The configuration that was last good. Raises: ConfigError without one."""
    try:
        values = json.loads((work / _LAST_GOOD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{work / _LAST_GOOD}: no earlier configuration ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{work / _LAST_GOOD}: no configuration")
    return values


def write_atomically(path: Path, text: str) -> None:
    """Write a file, readable by its owner, so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)

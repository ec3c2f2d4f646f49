"""How much of this machine to use. Set per machine by environment, not in params: it changes no result's meaning."""

import hashlib
import os
from pathlib import Path

from castline.errors import ConfigError

__all__ = ["cache", "threads", "versions", "workers"]


def cache() -> Path:
    """The folder of what is fetched once for all projects: CASTLINE_CACHE, by default ~/.cache/castline."""
    return Path(os.environ.get("CASTLINE_CACHE") or Path("~/.cache/castline").expanduser())


def versions() -> Path:
    """The folder of the released versions of this project, which is the present folder, that the app has fetched."""
    return cache() / "versions" / hashlib.sha256(os.fsencode(Path.cwd().resolve())).hexdigest()[:16]


def workers() -> int:
    """Processes for work on photos: CASTLINE_WORKERS, else the processors that this process may use."""
    return _number("CASTLINE_WORKERS")


def threads() -> int:
    """Threads of one process's linear algebra: CASTLINE_THREADS, else the processors that this process may use."""
    return _number("CASTLINE_THREADS")


def _number(variable: str) -> int:
    value = os.environ.get(variable, "").strip()
    if not value:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not value.isdigit() or int(value) < 1:
        raise ConfigError(f"{variable} is {value!r}", f"unset it, or set it to a number: {variable}=2")
    return int(value)

"""The environment that Label Studio's server runs in: its own, since its pins fit nobody else's; made on first use."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from castline import machine
from castline.errors import CastlineError

__all__ = ["VERSION", "clean", "database", "environment", "folder"]

VERSION = "1.23.2"
_NEEDED = 1_500_000_000  # bytes; it takes 1.0 GB, and what is fetched has to lie somewhere too


def folder() -> Path:
    """Where the environment is kept, for all projects of this user; whether it is there or not."""
    return machine.cache() / f"label-studio-{VERSION}"


def environment() -> Path:
    """The folder whose bin/ holds `label-studio` and `python`; made first if need be, with a line on stderr.

    Two that ask at once get the same: the second waits. An installation that was killed is done again.

    Raises: CastlineError when it cannot be installed.
    """
    made, lock = folder(), resources.files(__package__).joinpath("requirements.lock").read_bytes()
    stamp, expected = made / ".complete", f"{hashlib.sha256(lock).hexdigest()} {sys.version_info[:2]}\n"
    if _read(stamp) != expected:
        with _guarded(made) as guard:
            if _read(stamp) != expected:
                shutil.rmtree(made, ignore_errors=True)
                _install(made, lock, guard)
                stamp.write_text(expected)
    return made


def database() -> Path:
    """An empty database in the shape that this version wants: what a minute of migrations makes, done once.

    No user, key or project is in it.

    Raises: CastlineError when it cannot be made.
    """
    made = environment()
    target = made / "empty.sqlite3"
    if not target.is_file():
        with _guarded(made) as guard, tempfile.TemporaryDirectory() as work:
            if not target.is_file():
                print("Label Studio: making an empty database, once (a minute) …", file=sys.stderr, flush=True)
                settings = {
                    "LABEL_STUDIO_BASE_DATA_DIR": work,
                    "LABEL_STUDIO_DATABASE_NAME": str(Path(work, target.name)),
                    "LABEL_STUDIO_DJANGO_DB": "sqlite",
                    "LABEL_STUDIO_SENTRY_DSN": "",
                    "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
                }
                _run([made / "bin" / "python", made / "bin" / "label-studio", "version"], guard, settings)
                unfinished = target.with_suffix(".part")
                shutil.copyfile(Path(work, target.name), unfinished)
                unfinished.replace(target)
    return target


def clean() -> dict[str, str]:
    """This process's environment variables without those that would lead into this Python's packages."""
    inner = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "DJANGO_SETTINGS_MODULE")
    return {name: value for name, value in os.environ.items() if name not in inner}


def _install(made: Path, lock: bytes, guard: int) -> None:
    free = shutil.disk_usage(made.parent).free
    if free < _NEEDED:
        raise CastlineError(
            f"{made.parent}: {free / 1e9:.1f} GB are free, Label Studio needs {_NEEDED / 1e9:.1f} GB",
            "make room, or put it elsewhere: CASTLINE_CACHE=FOLDER",
        )
    print(f"Label Studio {VERSION}: installing it into {made}, once (1 GB) …", file=sys.stderr, flush=True)
    started, uv = time.monotonic(), _uv()
    python = made / "bin" / "python"
    # Its lock, since the project's knows nothing of it. What is fetched comes from where uv or pip are set up to look.
    pins = made.with_name(f"{made.name}.txt")
    pins.write_bytes(lock)
    steps: list[list[str | Path]] = [[sys.executable, "-m", "venv", "--without-pip", made]]
    if uv:
        steps.append([uv, "pip", "sync", "--quiet", "--compile-bytecode", "--python", python, pins])
    else:
        steps[0].remove("--without-pip")
        steps.append([python, "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", pins])
    for step in steps:
        _run(step, guard)
    pins.unlink()
    print(f"Label Studio {VERSION}: installed in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _run(command: list[str | Path], guard: int, settings: dict[str, str] | None = None) -> None:
    # The child holds the lock too: should this process be killed, nobody removes what its child still writes.
    done = subprocess.run(command, env=clean() | (settings or {}), capture_output=True, pass_fds=[guard], check=False)
    if done.returncode:
        said = (done.stderr + done.stdout).decode(errors="replace").strip().splitlines()[-12:]
        raise CastlineError(
            "Label Studio could not be installed:\n    " + "\n    ".join(said),
            "it has to reach a package index this once, directly or as uv or pip are set up; then run it again",
        )


@contextmanager
def _guarded(made: Path) -> Iterator[int]:
    """One process at a time: the lock beside `made`, as a file descriptor."""
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        with made.with_name(f"{made.name}.lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield guard.fileno()
    except OSError as error:
        raise CastlineError(f"{made}: {error.strerror or error}", "CASTLINE_CACHE=FOLDER puts it elsewhere") from error


def _uv() -> str | None:
    """uv beside this Python, as the project's environment has it, else on the PATH."""
    return shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

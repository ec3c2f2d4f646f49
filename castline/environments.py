"""Environments of their own for programs whose pins fit nobody else's: made on first use, below this user's cache."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from castline import machine
from castline.errors import CastlineError

__all__ = ["Environment", "clean", "find_uv"]


@dataclass(frozen=True)
class Environment:
    """A Python environment that is installed from a lock when it is first asked for, for all projects of this user.

    title: as people know the program. name: of the folder; it says the version. lock: the package and the name of the
    file of exact versions in it. size: bytes that it takes; half as much again has to be free, since what is fetched
    lies somewhere too.
    """

    title: str
    name: str
    lock: tuple[str, str]
    size: int

    def folder(self) -> Path:
        """Where it is kept, whether it is there or not."""
        return machine.cache() / self.name

    def made(self) -> Path:
        """The folder whose bin/ holds its `python` and programs; installed first if need be, with a line on stderr.

        Two that ask at once get the same: the second waits. An installation that was killed is done again, and so is
        one whose Python is gone, which was that of this environment when it was made.

        Raises: CastlineError when it cannot be installed.
        """
        made = self.folder()
        package, file = self.lock
        lock = resources.files(package).joinpath(file).read_bytes()
        stamp, expected = made / ".complete", f"{hashlib.sha256(lock).hexdigest()} {sys.version_info[:2]}\n"
        if not _is_made(stamp, expected):
            with self.guarded() as guard:
                if not _is_made(stamp, expected):
                    shutil.rmtree(made, ignore_errors=True)
                    self._install(lock, guard)
                    stamp.write_text(expected)
        return made

    def run(self, command: list[str | Path], guard: int, settings: dict[str, str] | None = None) -> None:
        """A step of the installation, by who holds the lock; settings: more environment variables.

        Raises: CastlineError with the end of what it said, when it fails.
        """
        # The child holds the lock too: should this process be killed, nobody removes what its child still writes.
        done = subprocess.run(
            command, env=clean() | (settings or {}), capture_output=True, pass_fds=[guard], check=False
        )
        if done.returncode:
            said = (done.stderr + done.stdout).decode(errors="replace").strip().splitlines()[-12:]
            raise CastlineError(
                f"{self.title} could not be installed:\n    " + "\n    ".join(said),
                "it has to reach a package index this once, directly or as uv or pip are set up; then run it again",
            )

    @contextmanager
    def guarded(self) -> Iterator[int]:
        """One process at a time: the lock beside the folder, as a file descriptor."""
        made = self.folder()
        try:
            made.parent.mkdir(parents=True, exist_ok=True)
            with made.with_name(f"{made.name}.lock").open("w") as guard:
                fcntl.flock(guard, fcntl.LOCK_EX)
                yield guard.fileno()
        except OSError as error:
            raise CastlineError(
                f"{made}: {error.strerror or error}", "CASTLINE_CACHE=FOLDER puts it elsewhere"
            ) from error

    def _install(self, lock: bytes, guard: int) -> None:
        made = self.folder()
        free, needed = shutil.disk_usage(made.parent).free, 1.5 * self.size
        if free < needed:
            raise CastlineError(
                f"{made.parent}: {free / 1e9:.1f} GB are free, {self.title} needs {needed / 1e9:.1f} GB",
                "make room, or put it elsewhere: CASTLINE_CACHE=FOLDER",
            )
        size = f"{self.size / 1e9:.1f} GB"
        print(f"{self.title}: installing it into {made}, once ({size}) …", file=sys.stderr, flush=True)
        started, uv = time.monotonic(), find_uv()
        python = made / "bin" / "python"
        # Its lock, since the project's knows nothing of it. It is fetched from where uv or pip are set up to look.
        pins = made.with_name(f"{made.name}.txt")
        pins.write_bytes(lock)
        steps: list[list[str | Path]] = [[sys.executable, "-m", "venv", "--without-pip", made]]
        if uv:
            steps.append([uv, "pip", "sync", "--quiet", "--python", python, pins])
        else:
            steps[0].remove("--without-pip")
            steps.append([python, "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", pins])
        for step in steps:
            self.run(step, guard)
        pins.unlink()
        print(f"{self.title}: installed in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def clean() -> dict[str, str]:
    """This process's environment variables without those that would lead into this Python's packages."""
    inner = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "DJANGO_SETTINGS_MODULE")
    return {name: value for name, value in os.environ.items() if name not in inner}


def find_uv() -> str | None:
    """uv beside this Python, as the project's environment has it, else on the PATH."""
    return shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")


def _is_made(stamp: Path, expected: str) -> bool:
    return _read(stamp) == expected and (stamp.parent / "bin" / "python").exists()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

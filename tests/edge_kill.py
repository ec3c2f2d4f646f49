"""A device's store, killed by SIGKILL at every step of what it does, in a process of its own.

A step is whatever changes the disk, or starts the self-test. Python's own audit events tell of it, so the store has no
hook for tests, and no step can be forgotten.
"""

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from castline.edge.store import Event, Store

_CHANGES = {
    "os.mkdir": "mkdir", "os.rename": "rename", "os.symlink": "symlink", "os.remove": "remove", "os.rmdir": "rmdir",
}  # fmt: skip


def store_at(root: Path, events: Path | None = None, **options: Any) -> Store:
    """A store that appends what it tells to the file `events`."""

    def tell(event: Event) -> None:
        if events:
            with events.open("a") as file:
                file.write(json.dumps(event.described()) + "\n")

    return Store(root, tell=tell, **options)


def steps(store: Store, do: Callable[[Store], object]) -> list[str]:
    """Do it, and say what its steps are."""
    status, names, _ = _in_process(store, do, -1)
    assert status == 0
    return names


def kill(store: Store, do: Callable[[Store], object], step: int, power_cut: bool = False) -> None:
    """Do it until the process is killed just before a step, counted from 0.

    power_cut: files that were not forced onto the disk by then are empty afterwards.
    """
    before = {path.stat().st_ino for path in store.root.rglob("*") if path.is_file()}
    status, _, synced = _in_process(store, do, step)
    assert status == -signal.SIGKILL
    if power_cut:
        for path in store.root.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_ino not in before | synced:
                os.truncate(path, 0)


def copied(root: Path, target: Path) -> Path:
    """The same store elsewhere."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root, target, symlinks=True)
    return target


def _in_process(store: Store, do: Callable[[Store], object], kill_at: int) -> tuple[int, list[str], set[int]]:
    """How it ended; the steps that it took; the inodes that it forced onto the disk."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        status = 1
        try:
            _Killer(store.root, kill_at, writing)
            do(store)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        lines = [line.rstrip("\n").split(" ", 1) for line in pipe]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, [text for kind, text in lines if kind == "step"], {int(n) for kind, n in lines if kind == "synced"}


class _Killer:
    """Tells of what changes the disk below `root`, and kills this process before such a change."""

    def __init__(self, root: Path, at: int, pipe: int) -> None:
        self.root, self.at, self.pipe, self.count = str(root), at, pipe, 0
        self.fsync = os.fsync
        os.fsync = self.synced  # it has no audit event
        sys.addaudithook(self.heard)

    def heard(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR) and self.below(args[0]):
            self.step(f"write {self.short(args[0])}")
        elif event in _CHANGES and self.below(args[1] if event == "os.symlink" else args[0]):
            names = args[:2] if event in ("os.rename", "os.symlink") else args[:1]
            self.step(f"{_CHANGES[event]} {' → '.join(map(self.short, names))}")
        elif event == "subprocess.Popen":
            self.step("self-test")

    def synced(self, handle: int) -> None:
        self.step(f"sync {self.short(Path(f'/proc/self/fd/{handle}').readlink())}")
        self.fsync(handle)
        os.write(self.pipe, f"synced {os.fstat(handle).st_ino}\n".encode())

    def step(self, name: str) -> None:
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
        os.write(self.pipe, f"step {name}\n".encode())

    def below(self, path: object) -> bool:
        """rmtree names what it removes from inside a folder."""
        return isinstance(path, str | Path) and (str(path).startswith(self.root) or not Path(path).is_absolute())

    def short(self, path: object) -> str:
        return str(path).removeprefix(f"{self.root}/").replace(self.root, "the store")

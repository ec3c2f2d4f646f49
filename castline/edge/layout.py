"""A store of releases on the disk: what lies where, and changes that are whole or have not happened.

ROOT/
    releases/VERSION/    unpacked zips: castline.edge.manifest
    current, previous    links to releases/VERSION; what runs, and what to go back to
    state.json           failed starts, refused releases, what was announced: castline.edge.bookkeeping
    lock                 held by who changes any of it
    .tmp-*               unfinished work; whoever comes next removes it

Whatever becomes visible was written beside its place, forced onto the disk, and then renamed.
"""

import contextlib
import errno
import fcntl
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

from castline.edge.bookkeeping import State
from castline.edge.manifest import MANIFEST, Manifest
from castline.edge.unpack import force, sync, unpack
from castline.errors import ReleaseError, StoreError
from castline.files.weights import sha256_of

__all__ = ["CURRENT", "PREVIOUS", "Layout"]

CURRENT, PREVIOUS = "current", "previous"
_RELEASES, _STATE, _LOCK = "releases", "state.json", "lock"
_UNFINISHED = ".tmp-"
_SPARE = 2**20  # bytes of the disk for names, state.json and what the program itself writes
_POLL = 0.1  # seconds between two tries to get the lock


class Layout:
    """The folder of a store. Only who has it `locked` may change it. All may raise OSError where nothing is said."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def current(self) -> str | None:
        """The version that `current` leads to; None if it leads to no release."""
        return self._linked(CURRENT)

    @property
    def previous(self) -> str | None:
        """The version that `previous` leads to."""
        return self._linked(PREVIOUS)

    @property
    def versions(self) -> list[str]:
        """All that are unpacked, the newest here first."""
        return [path.name for path in self.folders() if self.manifest(path.name)]

    def folder(self, version: str) -> Path:
        """Where a release is, or would be."""
        return self.root / _RELEASES / version

    def folders(self) -> list[Path]:
        """All that lies in releases/, the newest first."""
        try:
            return sorted((self.root / _RELEASES).iterdir(), key=lambda path: path.lstat().st_mtime_ns, reverse=True)
        except FileNotFoundError:
            return []

    def manifest(self, version: str | None) -> Manifest | None:
        """Of an unpacked release, if it is there. Raises nothing."""
        if version is None:
            return None
        try:
            manifest = Manifest.parse((self.folder(version) / MANIFEST).read_bytes())
        except (OSError, ReleaseError):
            return None
        return manifest if manifest.version == version else None

    def is_whole(self, manifest: Manifest) -> bool:
        """Whether the files that are unpacked are those of the manifest. Raises nothing."""
        folder = self.folder(manifest.version)
        try:
            return all(sha256_of(folder / name) == file.sha256 for name, file in manifest.files.items())
        except OSError:
            return False

    def state(self) -> State:
        """What is remembered. Raises nothing."""
        try:
            return State.parse((self.root / _STATE).read_bytes())
        except OSError:
            return State()

    @contextlib.contextmanager
    def locked(self, ending: threading.Event) -> Iterator[None]:
        """Hold the lock; what was left unfinished is cleared away before and after.

        Raises: InterruptedError when `ending` is set while another process holds it.
        """
        (self.root / _RELEASES).mkdir(parents=True, exist_ok=True)
        with (self.root / _LOCK).open("ab") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break  # the system lets go of it when this process ends, however it does
                except BlockingIOError as error:
                    if ending.wait(_POLL):
                        raise InterruptedError(errno.EINTR, "told to end while another process changes it") from error
            self._sweep()
            try:
                yield
            finally:
                self._sweep()

    def write(self, state: State) -> None:
        """Remember it."""
        fresh = self.root / f"{_UNFINISHED}{_STATE}"
        with fresh.open("xb") as file:
            file.write(state.json_bytes())
            force(file)
        fresh.replace(self.root / _STATE)
        sync(self.root)

    def unpack(self, archive: zipfile.ZipFile, manifest: Manifest) -> Path:
        """Every file as the manifest has it and on the disk, in a folder that has no part in anything yet.

        Raises: ReleaseError for a zip with anything else in it; StoreError when there is no room.
        """
        needed, free = sum(file.bytes for file in manifest.files.values()), shutil.disk_usage(self.root).free
        if free < needed + _SPARE:
            raise StoreError(
                f"{self.root}: {needed / 1e6:.1f} MB are needed for {manifest.version}, {free / 1e6:.1f} MB are free"
            )
        folder = self.root / f"{_UNFINISHED}{manifest.version}"
        unpack(archive, manifest, folder)
        return folder

    def bring_in(self, folder: Path, version: str) -> None:
        """Let what `unpack` made be that version, in place of an older copy."""
        self.discard(self.folder(version))
        folder.rename(self.folder(version))
        sync(self.root / _RELEASES)

    def discard(self, folder: Path) -> None:
        """Take a folder away as a whole."""
        if folder.exists():
            aside = self.root / f"{_UNFINISHED}old-{folder.name}"
            folder.rename(aside)
            shutil.rmtree(aside)

    def link(self, name: str, version: str) -> None:
        """Let a link lead to a release: at every moment it leads to the one or to the other."""
        fresh = self.root / f"{_UNFINISHED}{name}"
        fresh.symlink_to(Path(_RELEASES, version))
        fresh.replace(self.root / name)
        sync(self.root)

    def unlink(self, name: str) -> None:
        """Have no such link."""
        (self.root / name).unlink(missing_ok=True)

    def _linked(self, name: str) -> str | None:
        try:
            parent, version = (self.root / name).readlink().parts
        except (OSError, ValueError):
            return None
        return version if parent == _RELEASES and self.manifest(version) else None

    def _sweep(self) -> None:
        for path in self.root.glob(f"{_UNFINISHED}*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

"""Releases on a device: brought in, tested, switched to, and left again when they do not hold.

    python -m castline.edge.store ROOT                              # what is there
    python -m castline.edge.store ROOT --install recognizer-1.2.0.zip [--again]

ROOT/
    releases/VERSION/    unpacked zips: castline.edge.manifest
    current, previous    links to releases/VERSION; what runs, and what to go back to
    state.json           failed starts, refused releases, what was announced
    lock                 held by who changes any of it
    .tmp-*               unfinished work; whoever comes next removes it

Whatever is killed at whatever moment, `current` names a release that was unpacked, verified and tested as a whole:
files are written beside it, forced onto the disk, and become visible by one rename. Versions are in no order: the one
who deploys decides, also to go back.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from castline import __version__
from castline.edge.manifest import MANIFEST, Manifest
from castline.edge.unpack import force, manifest_of, opened, sync, unpack
from castline.errors import ReleaseError, StoreError, exits_cleanly
from castline.weights import sha256_of

__all__ = ["Event", "Outcome", "Release", "Store", "self_tested"]

_RELEASES, _CURRENT, _PREVIOUS, _STATE = "releases", "current", "previous", "state.json"
_UNFINISHED = ".tmp-"
_TIMEOUT = 120.0  # seconds for a self-test, from starting Python to the last comparison
_REMEMBERED = 20  # refused releases
_SPARE = 2**20  # bytes of the disk for names, state.json and what the program itself writes


@dataclass(frozen=True)
class Event:
    """Something that the one who looks after devices wants to hear of; told at least once.

    event: model-update, model-refused or model-rollback. source, target: versions; None where there is none.
    """

    event: Literal["model-update", "model-refused", "model-rollback"]
    source: str | None
    target: str | None
    reason: str = ""

    def described(self) -> dict[str, str | None]:
        """As a message has it: event, from, to, reason."""
        return {"event": self.event, "from": self.source, "to": self.target, "reason": self.reason}


@dataclass(frozen=True)
class Outcome:
    """What became of a zip: installed, there already (unchanged), or refused and why."""

    result: Literal["installed", "unchanged", "refused"]
    version: str | None
    reason: str = ""


@dataclass(frozen=True)
class Release:
    """A release to run: `Recognizer(release.folder, release.model)`. folder: its own, not a link that may move on."""

    version: str
    folder: Path
    model: str


@dataclass
class _State:
    """state.json. current: the version that was announced last. starts: of it, in a row, that it did not live through.
    proven: versions that have run well here. leaving: why `current` is being left, until that is announced. refused: by
    the SHA-256 of a zip or of a manifest: version, reason, and the castline that refused it.
    """

    current: str | None = None
    starts: int = 0
    proven: list[str] = field(default_factory=list)
    leaving: str = ""
    refused: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> "_State":
        """A damaged one counts as none: what it costs is an announcement made twice and a refusal forgotten."""
        try:
            state = cls(**json.loads(data))
        except (ValueError, TypeError, RecursionError):
            return cls()
        sound = (
            all(type(getattr(state, part.name)) in _KINDS[part.name] for part in fields(cls))
            and all(isinstance(version, str) for version in state.proven)
            and all(_is_entry(entry) for entry in state.refused.values())
        )
        return state if sound else cls()


_KINDS = {"current": (str, type(None)), "starts": (int,), "proven": (list,), "leaving": (str,), "refused": (dict,)}


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {"version", "reason", "castline"}
        and all(isinstance(text, str) for text in entry.values())
    )


def self_tested(folder: Path) -> None:
    """Run the self-test of an unpacked release in a process of its own: it may crash there, or hang.

    Raises: ReleaseError with the reason.
    """
    # The second number ends it if this process is killed while it waits.
    command = [sys.executable, "-m", "castline.edge.golden", str(folder), str(round(2 * _TIMEOUT))]
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ReleaseError(f"self-test: no answer in {_TIMEOUT:g} s") from error
    if done.returncode < 0:
        raise ReleaseError(f"self-test: ended by signal {-done.returncode} ({signal.strsignal(-done.returncode)})")
    if done.returncode:
        last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ReleaseError(f"self-test: {last[0][:500]}")


class Store:
    """The releases in a folder of a device. One process at a time changes it; others wait.

    keep: releases at most, the current and the previous one counted. attempts: starts in a row that a new release may
    fail before the previous one is taken again. Two, because nucleus lite gives a component three starts an hour: the
    third has to be one that works. tell: gets every event; it must not raise. test: raises ReleaseError for an
    unpacked release that is not to be run.
    """

    def __init__(
        self,
        root: Path,
        keep: int = 3,
        attempts: int = 2,
        tell: Callable[[Event], None] = lambda event: None,
        test: Callable[[Path], None] = self_tested,
    ) -> None:
        self.root = root
        self._keep, self._attempts = keep, attempts
        self._tell, self._test = tell, test
        self._running: str | None = None

    @property
    def current(self) -> str | None:
        """The version that runs; None if there is none, or none that is there."""
        return self._linked(_CURRENT)

    @property
    def previous(self) -> str | None:
        """The version to go back to."""
        return self._linked(_PREVIOUS)

    @property
    def versions(self) -> list[str]:
        """All that are unpacked, the newest here first."""
        return [path.name for path in self._folders() if self._manifest(path.name)]

    @property
    def refused(self) -> list[dict[str, str]]:
        """What is not tried again: version, reason, and the castline that refused it; the oldest first."""
        return list(self._state().refused.values())

    def install(self, path: Path, again: bool = False) -> Outcome:
        """Make the release in a zip the current one, if it passes; if not, everything stays as it was.

        again: also if it was refused before. Without it a refused release is not tried again, unless castline itself
        has another version by now than when it refused it.

        Raises: StoreError when the zip or the store cannot be read or written, or the disk is full. That is no
        refusal: the same zip is tried again next time.
        """
        try:
            with self._changing() as state:
                return self._install(path, state, again)
        except OSError as error:
            raise _store_error(self.root, error) from error

    def started(self) -> Release:
        """The release to run from now on. Starts of a new one are counted until `healthy` is called, and when they are
        too many, the previous one is taken instead.

        Also on a disk that cannot be written: then nothing is counted.

        Raises: StoreError when there is no release.
        """
        with contextlib.suppress(OSError), self._changing() as state:
            self._count(state)
        version = self.current or self._other_than(self._state())
        manifest = self._manifest(version)
        if version is None or manifest is None:
            raise StoreError(
                f"{self.root}: no release is installed", f"python -m castline.edge.store {self.root} --install ZIP"
            )
        self._running = version
        return Release(version, self._folder(version).resolve(), manifest.model)

    def healthy(self) -> None:
        """The release that was started does its work: from now on its starts are not counted. Writes once."""
        with contextlib.suppress(OSError), self._changing() as state:
            if self._running is not None and self._running == self.current and self._running not in state.proven:
                state.proven.append(self._running)
                self._write(state)

    def failed(self, reason: str) -> Release:
        """The release that was started cannot be run: go back to the previous one at once. The one to run instead.

        Raises: StoreError when there is none, or the store cannot be written.
        """
        failing = self._running
        try:
            with self._changing() as state:
                if failing is not None and failing == self.current:
                    self._roll_back(state, failing, reason)
        except OSError as error:
            raise _store_error(self.root, error) from error
        if self.current in (None, failing):
            raise StoreError(f"{self.root}: {failing} cannot be run and there is no other to go back to: {reason}")
        return self.started()

    def _install(self, path: Path, state: _State, again: bool) -> Outcome:
        """The steps of an update."""
        digest = sha256_of(path)
        if not again and (before := _refusal(state, digest)):
            return Outcome("refused", before["version"] or None, before["reason"])
        version = None
        try:
            with opened(path) as archive:
                manifest = manifest_of(archive)
                version = manifest.version
                if not again and (before := _refusal(state, manifest.digest)):
                    return Outcome("refused", version, before["reason"])
                if version == self.current:
                    if self._manifest(version) != manifest:
                        raise ReleaseError(f"another release runs as {version}: give this one a version of its own")
                    if self._is_whole(manifest):
                        return Outcome("unchanged", version)
                folder = self._unpack(archive, manifest)
            self._test(folder)
        except ReleaseError as error:
            # Told before it is written down: killed in between, it is refused and told once more.
            self._tell(Event("model-refused", self.current, version, error.what))
            self._refuse(state, digest, version or "", error.what)
            self._write(state)
            return Outcome("refused", version, error.what)
        state.leaving = ""
        state.proven = [proven for proven in state.proven if proven != version]
        state.refused = {key: entry for key, entry in state.refused.items() if key not in (digest, manifest.digest)}
        self._write(state)
        self._discard(self._folder(version))  # an older copy; if it is the current one, then it is damaged
        folder.rename(self._folder(version))
        sync(self.root / _RELEASES)
        self._link(_CURRENT, version)
        self._finish(state)
        return Outcome("installed", version)

    def _count(self, state: _State) -> None:
        """One more start of the current release; or the end of its chances."""
        version = self.current
        manifest = self._manifest(version)
        if version is None or manifest is None:
            return
        if before := _refusal(state, manifest.digest):  # this was killed on its way back
            self._roll_back(state, version, before["reason"])
        elif version not in state.proven and state.starts >= self._attempts:
            self._roll_back(state, version, f"{state.starts} starts in a row that did not get as far as working")
        if self.current not in state.proven:
            state.starts += 1
            self._write(state)

    def _roll_back(self, state: _State, failing: str, reason: str) -> None:
        """Go back from the current release, if there is one to go back to."""
        target = self._other_than(state, failing)
        manifest = self._manifest(failing)
        if target is None or manifest is None:
            return
        whole = self._is_whole(manifest)
        state.leaving = reason
        if whole:  # a damaged copy says nothing about the release
            self._refuse(state, manifest.digest, failing, reason)
        self._write(state)
        self._link(_CURRENT, target)
        if not whole:
            self._discard(self._folder(failing))
        self._finish(state)

    def _other_than(self, state: _State, *versions: str | None) -> str | None:
        """What to run instead: the previous release, or else the newest here; none that was refused."""
        for other in (self.previous, *self.versions):
            manifest = self._manifest(other)
            if manifest and other not in versions and not _refusal(state, manifest.digest):
                return other
        return None

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_State]:
        """Hold the lock; before, what was left unfinished is cleared away, put right and announced."""
        (self.root / _RELEASES).mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go by the system when this process ends, however it does
            self._sweep()
            try:
                state = self._state()
                self._mend(state)
                self._finish(state)
                yield state
            finally:
                self._sweep()

    def _sweep(self) -> None:
        for path in self.root.glob(f"{_UNFINISHED}*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _mend(self, state: _State) -> None:
        """See that `current` leads somewhere, if there is anywhere; `previous` does or is not there."""
        if self.current is None and (target := self._other_than(state)):
            state.leaving = f"the files of {state.current} are not there" if state.current else ""
            self._write(state)
            self._link(_CURRENT, target)
        if self.previous is None and (self.root / _PREVIOUS).is_symlink():
            (self.root / _PREVIOUS).unlink()

    def _finish(self, state: _State) -> None:
        """What follows when `current` leads elsewhere than was announced: the new `previous`, the event, less on disk.

        It is written down last: killed on the way, all of it is done once more.
        """
        current, before = self.current, state.current
        if current in (None, before):
            return
        if state.leaving or self._manifest(before) is None:
            previous = self._other_than(state, current, before)
        else:
            previous = before
        if previous is not None:
            self._link(_PREVIOUS, previous)
        else:
            (self.root / _PREVIOUS).unlink(missing_ok=True)
        self._tell(Event("model-rollback" if state.leaving else "model-update", before, current, state.leaving))
        self._prune(state)
        here = self.versions
        state.current, state.starts, state.leaving = current, 0, ""
        state.proven = [version for version in state.proven if version in here]
        self._write(state)

    def _unpack(self, archive: zipfile.ZipFile, manifest: Manifest) -> Path:
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

    def _link(self, name: str, version: str) -> None:
        """Let a link lead to a release: at every moment it leads to the one or to the other."""
        fresh = self.root / f"{_UNFINISHED}{name}"
        fresh.symlink_to(Path(_RELEASES, version))
        fresh.replace(self.root / name)
        sync(self.root)

    def _linked(self, name: str) -> str | None:
        try:
            parent, version = (self.root / name).readlink().parts
        except (OSError, ValueError):
            return None
        return version if parent == _RELEASES and self._manifest(version) else None

    def _prune(self, state: _State) -> None:
        """Only `keep` stay, and none that was refused; the current and the previous always."""
        kept = {self.current, self.previous}
        for folder in self._folders():
            manifest = self._manifest(folder.name)
            if folder.name not in kept:
                if manifest and not _refusal(state, manifest.digest) and len(kept - {None}) < self._keep:
                    kept.add(folder.name)
                else:
                    self._discard(folder)

    def _discard(self, folder: Path) -> None:
        """Take a folder away as a whole."""
        if folder.exists():
            aside = self.root / f"{_UNFINISHED}old-{folder.name}"
            folder.rename(aside)
            shutil.rmtree(aside)

    def _refuse(self, state: _State, digest: str, version: str, reason: str) -> None:
        state.refused.pop(digest, None)
        state.refused[digest] = {"version": version, "reason": reason, "castline": __version__}
        for oldest in list(state.refused)[:-_REMEMBERED]:
            del state.refused[oldest]

    def _folder(self, version: str) -> Path:
        return self.root / _RELEASES / version

    def _folders(self) -> list[Path]:
        """All that lies in releases/, the newest first."""
        try:
            return sorted((self.root / _RELEASES).iterdir(), key=lambda path: path.lstat().st_mtime_ns, reverse=True)
        except FileNotFoundError:
            return []

    def _manifest(self, version: str | None) -> Manifest | None:
        """Of an unpacked release, if it is there."""
        if version is None:
            return None
        try:
            manifest = Manifest.parse((self._folder(version) / MANIFEST).read_bytes())
        except (OSError, ReleaseError):
            return None
        return manifest if manifest.version == version else None

    def _is_whole(self, manifest: Manifest) -> bool:
        """Whether the files that are unpacked are those of the manifest."""
        folder = self._folder(manifest.version)
        try:
            return all(sha256_of(folder / name) == file.sha256 for name, file in manifest.files.items())
        except OSError:
            return False

    def _state(self) -> _State:
        try:
            return _State.parse((self.root / _STATE).read_bytes())
        except OSError:
            return _State()

    def _write(self, state: _State) -> None:
        fresh = self.root / f"{_UNFINISHED}{_STATE}"
        with fresh.open("xb") as file:
            file.write((json.dumps(asdict(state), indent=2) + "\n").encode())
            force(file)
        fresh.replace(self.root / _STATE)
        sync(self.root)


def _refusal(state: _State, digest: str) -> dict[str, str] | None:
    """Why this is not to be tried. What another castline refused may do with this one."""
    found = state.refused.get(digest)
    return found if found and found["castline"] == __version__ else None


def _store_error(root: Path, error: OSError) -> StoreError:
    return StoreError(f"{error.filename or root}: {error.strerror or error}", "see that it is there and can be written")


@exits_cleanly
def main() -> None:
    """What is in a store, as JSON; with --install, after bringing in a release."""
    parser = argparse.ArgumentParser("python -m castline.edge.store", description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path, help="the store")
    parser.add_argument("--install", type=Path, metavar="ZIP", help="bring this release in and switch to it")
    parser.add_argument("--again", action="store_true", help="also if it was refused before")
    options = parser.parse_args()
    store = Store(options.root, tell=lambda event: print(json.dumps(event.described())))
    if options.install:
        outcome = store.install(options.install, options.again)
        if outcome.result == "refused":
            raise ReleaseError(f"{options.install}: refused: {outcome.reason}", "--again tries it once more")
    state = {"current": store.current, "previous": store.previous, "here": store.versions, "refused": store.refused}
    print(json.dumps(state, indent=2))


if __name__ == "__main__":
    main()

"""Releases on a device: brought in, tested, switched to, and left again when they do not hold.

    python -m castline.edge.store ROOT                              # what is there
    python -m castline.edge.store ROOT --install recognizer-1.2.0.zip [--again]

Whatever is killed at whatever moment, `current` names a release that was unpacked, verified and tested as a whole. What
lies where is in castline.edge.layout. Versions are in no order: the one who deploys decides, also to go back.
"""

import argparse
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from castline.edge.bookkeeping import State
from castline.edge.layout import CURRENT, PREVIOUS, Layout
from castline.edge.trial import self_tested
from castline.edge.unpack import manifest_of, opened
from castline.errors import ReleaseError, StoreError, exits_cleanly
from castline.files.weights import sha256_of

__all__ = ["Event", "Outcome", "Release", "Store"]


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


class Store:
    """The releases in a folder of a device. One process at a time changes it; others wait.

    keep: releases at most, the current and the previous one counted. attempts: starts in a row that a new release may
    fail before the previous one is taken again. Two, because nucleus lite gives a component three starts an hour: the
    third has to be one that works. tell: gets every event; it must not raise. test: raises ReleaseError for an
    unpacked release that is not to be run; None: the self-test in a process of its own. ending: set when this program
    is told to end: what takes long is then left as if killed, and is no refusal.
    """

    def __init__(
        self,
        root: Path,
        keep: int = 3,
        attempts: int = 2,
        tell: Callable[[Event], None] = lambda event: None,
        test: Callable[[Path], None] | None = None,
        ending: threading.Event | None = None,
    ) -> None:
        self.root = root
        self._disk = Layout(root)
        self._keep, self._attempts = keep, attempts
        self._ending = ending or threading.Event()
        self._tell, self._test = tell, test or partial(self_tested, ending=self._ending)
        self._running: str | None = None

    @property
    def current(self) -> str | None:
        """The version that runs; None if there is none, or none that is there."""
        return self._disk.current

    @property
    def previous(self) -> str | None:
        """The version to go back to."""
        return self._disk.previous

    @property
    def versions(self) -> list[str]:
        """All that are unpacked, the newest here first."""
        return self._disk.versions

    @property
    def refused(self) -> list[dict[str, str]]:
        """What is not tried again: version, reason, and the castline that refused it; the oldest first."""
        return list(self._disk.state().refused.values())

    def install(self, path: Path, again: bool = False) -> Outcome:
        """Make the release in a zip the current one, if it passes; if not, everything stays as it was.

        again: also if it was refused before. Without it a refused release is not tried again, unless castline itself
        has another version by now than when it refused it.

        Raises: StoreError when the zip or the store cannot be read or written, the disk is full, or `ending` is set.
        That is no refusal: the same zip is tried again next time.
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
        version = self.current or self._other_than(self._disk.state())
        manifest = self._disk.manifest(version)
        if version is None or manifest is None:
            raise StoreError(
                f"{self.root}: no release is installed", f"python -m castline.edge.store {self.root} --install ZIP"
            )
        self._running = version
        return Release(version, self._disk.folder(version).resolve(), manifest.model)

    def healthy(self) -> None:
        """The release that was started does its work: from now on its starts are not counted. Writes once."""
        with contextlib.suppress(OSError), self._changing() as state:
            if self._running is not None and self._running == self.current and self._running not in state.proven:
                state.proven.append(self._running)
                self._disk.write(state)

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

    def _install(self, path: Path, state: State, again: bool) -> Outcome:
        """The steps of an update."""
        digest = sha256_of(path)
        if not again and (before := state.refusal(digest)):
            return Outcome("refused", before["version"] or None, before["reason"])
        version = None
        try:
            with opened(path) as archive:
                manifest = manifest_of(archive)
                version = manifest.version
                if not again and (before := state.refusal(manifest.digest)):
                    return Outcome("refused", version, before["reason"])
                if version == self.current:
                    if self._disk.manifest(version) != manifest:
                        raise ReleaseError(f"another release runs as {version}: give this one a version of its own")
                    if self._disk.is_whole(manifest):
                        return Outcome("unchanged", version)
                folder = self._disk.unpack(archive, manifest)
            self._test(folder)
        except ReleaseError as error:
            # Told before it is written down: killed in between, it is refused and told once more.
            self._tell(Event("model-refused", self.current, version, error.what))
            state.refuse(digest, version or "", error.what)
            self._disk.write(state)
            return Outcome("refused", version, error.what)
        state.leaving = ""
        state.proven = [proven for proven in state.proven if proven != version]
        state.refused = {key: entry for key, entry in state.refused.items() if key not in (digest, manifest.digest)}
        self._disk.write(state)
        self._disk.bring_in(folder, version)  # an older copy that is the current one is damaged
        self._disk.link(CURRENT, version)
        self._finish(state)
        return Outcome("installed", version)

    def _count(self, state: State) -> None:
        """One more start of the current release; or the end of its chances."""
        version = self.current
        manifest = self._disk.manifest(version)
        if version is None or manifest is None:
            return
        if before := state.refusal(manifest.digest):  # this was killed on its way back
            self._roll_back(state, version, before["reason"])
        elif version not in state.proven and state.starts >= self._attempts:
            self._roll_back(state, version, f"{state.starts} starts in a row that did not get as far as working")
        if self.current not in state.proven:
            state.starts += 1
            self._disk.write(state)

    def _roll_back(self, state: State, failing: str, reason: str) -> None:
        """Go back from the current release, if there is one to go back to."""
        target = self._other_than(state, failing)
        manifest = self._disk.manifest(failing)
        if target is None or manifest is None:
            return
        whole = self._disk.is_whole(manifest)
        state.leaving = reason
        if whole:  # a damaged copy says nothing about the release
            state.refuse(manifest.digest, failing, reason)
        self._disk.write(state)
        self._disk.link(CURRENT, target)
        if not whole:
            self._disk.discard(self._disk.folder(failing))
        self._finish(state)

    def _other_than(self, state: State, *versions: str | None) -> str | None:
        """What to run instead: the previous release, or else the newest here; none that was refused."""
        for other in (self.previous, *self.versions):
            manifest = self._disk.manifest(other)
            if manifest and other not in versions and not state.refusal(manifest.digest):
                return other
        return None

    @contextlib.contextmanager
    def _changing(self) -> Iterator[State]:
        """Hold the lock; before, what was left unfinished is cleared away, put right and announced."""
        with self._disk.locked(self._ending):
            state = self._disk.state()
            self._mend(state)
            self._finish(state)
            yield state

    def _mend(self, state: State) -> None:
        """See that `current` leads somewhere, if there is anywhere; `previous` does or is not there."""
        if self.current is None and (target := self._other_than(state)):
            state.leaving = f"the files of {state.current} are not there" if state.current else ""
            self._disk.write(state)
            self._disk.link(CURRENT, target)
        if self.previous is None and (self.root / PREVIOUS).is_symlink():
            self._disk.unlink(PREVIOUS)

    def _finish(self, state: State) -> None:
        """What follows when `current` leads elsewhere than was announced: the new `previous`, the event, less on disk.

        It is written down last: killed on the way, all of it is done once more.
        """
        current, before = self.current, state.current
        if current in (None, before):
            return
        if state.leaving or self._disk.manifest(before) is None:
            previous = self._other_than(state, current, before)
        else:
            previous = before
        if previous is not None:
            self._disk.link(PREVIOUS, previous)
        else:
            self._disk.unlink(PREVIOUS)
        self._tell(Event("model-rollback" if state.leaving else "model-update", before, current, state.leaving))
        self._prune(state)
        here = self.versions
        state.current, state.starts, state.leaving = current, 0, ""
        state.proven = [version for version in state.proven if version in here]
        self._disk.write(state)

    def _prune(self, state: State) -> None:
        """Only `keep` stay, and none that was refused; the current and the previous always."""
        kept = {self.current, self.previous}
        for folder in self._disk.folders():
            manifest = self._disk.manifest(folder.name)
            if folder.name not in kept:
                if manifest and not state.refusal(manifest.digest) and len(kept - {None}) < self._keep:
                    kept.add(folder.name)
                else:
                    self._disk.discard(folder)


def _store_error(root: Path, error: OSError) -> StoreError:
    next = "" if isinstance(error, InterruptedError) else "see that it is there and can be written"
    return StoreError(f"{error.filename or root}: {error.strerror or error}", next)


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

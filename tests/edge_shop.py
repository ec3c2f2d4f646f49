"""Releases for a store to take or to refuse, and what it told."""

import json
from pathlib import Path

from edge_releases import fake_release

from castline.edge.manifest import MANIFEST
from castline.edge.store import Event, Outcome, Store
from castline.errors import ReleaseError


class Shop:
    """Fake releases, and a store that heard what was told and takes everything but what it is told to refuse."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "store"
        self.events: list[Event] = []
        self.tested: list[str] = []
        self.bad: dict[str, str] = {}
        self.store = self.again()

    def again(self) -> Store:
        """The device is switched off and on."""
        self.store = Store(self.root, tell=self.events.append, test=self._test)
        return self.store

    def _test(self, folder: Path) -> None:
        version = json.loads((folder / MANIFEST).read_text())["version"]
        self.tested.append(version)
        if version in self.bad:
            raise ReleaseError(self.bad[version])

    def zip(self, version: str, **contents: bytes) -> Path:
        return fake_release(self.folder / "zips", version, **contents)

    def install(self, version: str, again: bool = False, **contents: bytes) -> Outcome:
        return self.store.install(self.zip(version, **contents), again)

    def told(self) -> list[tuple[str, str | None, str | None]]:
        told = [(event.event, event.source, event.target) for event in self.events]
        self.events.clear()
        return told

    def start(self) -> str:
        return self.again().started().version

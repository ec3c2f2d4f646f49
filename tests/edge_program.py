"""The program with a stub in the model's place, in a thread or as it is started on a device."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from castline.edge.links import Link, LinkDown, NotAllowed
from castline.edge.message import SeenFace
from castline.edge.program import Program
from castline.edge.settings import Settings, parse
from castline.photos.decode import Photo
from castline.photos.settings import PhotoSettings

ROOT = Path(__file__).parents[1]


@dataclass
class StubModel:
    """Sees one face, alma's."""

    version: str = "1.0.0"
    photos: PhotoSettings = field(default_factory=PhotoSettings)
    before: Callable[[Photo], None] = lambda photo: None

    def look(self, photo: Photo) -> tuple[tuple[SeenFace, ...], dict[str, float]]:
        self.before(photo)
        return (SeenFace((0, 0, 9, 9), "alma", True, 0.9, 0.7),), {"detect": 2.0, "align": 0.25, "embed": 0.75}


@dataclass
class StubLink:
    """A link that takes what `down` and `denied` let it."""

    down: Callable[[], bool] = lambda: False
    denied: frozenset[str] = frozenset()
    taken: list[tuple[str, bytes]] = field(default_factory=list)
    told: list[tuple[str, bytes]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    closed: bool = False

    def publish(self, topic: str, payload: bytes) -> None:
        if self.down():
            raise LinkDown("the line is cut")
        if topic in self.denied:
            raise NotAllowed(f"not to {topic}")
        self.taken.append((topic, payload))

    def local(self, topic: str, payload: bytes) -> None:
        self.told.append((topic, payload))

    def state(self, state: str) -> None:
        self.states.append(state)

    def close(self) -> None:
        self.closed = True


class StubReleases:
    """A store that counts what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def install(self, path: Path) -> None:
        self.told.append(f"install {path.name}")

    def started(self) -> None:
        self.told.append("started")

    def healthy(self) -> None:
        self.told.append("healthy")

    def failed(self, reason: str) -> None:
        self.told.append(f"failed: {reason}")


class Running:
    """A program in a thread."""

    def __init__(
        self,
        work: Path,
        values: dict[str, Any],
        link: StubLink | None = None,
        load: Callable[[Settings], StubModel] = lambda settings: StubModel(),
        releases: StubReleases | None = None,
        **more: Any,
    ) -> None:
        self.values, self.link, self.work = values, link or StubLink(), work
        self.made: list[Settings] = []

        def link_of(settings: Settings) -> Link:
            self.made.append(settings)
            return self.link

        settings, _ = parse(values)
        more.setdefault("releases_of", lambda settings: releases)
        self.program = Program(settings, lambda: self.values, link_of, load, work, "thing", backoff=0.002, **more)
        self.result: list[int] = []
        self._thread = threading.Thread(target=lambda: self.result.append(self.program.run()))

    def __enter__(self) -> "Running":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.program.stop()
        self.join()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def configure(self, **values: Any) -> None:
        self.values = {**self.values, **values}
        self.program.configuration_changed()

    @property
    def results(self) -> list[dict[str, Any]]:
        return [said for _, said in self.messages if "event" not in said]

    @property
    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        return [(topic, json.loads(payload)) for topic, payload in list(self.link.taken)]

    @property
    def state(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads((self.work / "state.json").read_text())
        return found


def events(running: Running) -> list[tuple[str, dict[str, Any]]]:
    return [(topic, said) for topic, said in running.messages if "event" in said]


def program(work: Path, *more: str, **env: str) -> subprocess.Popen[str]:
    """The program as it is started on a device, but with a stub in the model's place."""
    code = (
        "import sys; sys.path[:0] = ['tests']; import castline.edge.__main__ as main; "
        "sys.executable = __import__('os').environ.get('TESTING', sys.executable); "
        "from edge_program import StubModel; main.open_model = lambda settings: StubModel(); main.main(sys.argv[1:])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, "--work", str(work), *more], cwd=ROOT, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def spooled(work: Path) -> int:
    return sum(path.read_bytes().count(b'"sequence"') for path in (work / "spool").glob("*.log"))

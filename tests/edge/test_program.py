"""The program as a whole, with a stub in the model's place: nothing lost, nothing growing, whatever breaks."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from nucleus import Nucleus
from PIL import Image as Picture
from test_greengrass import until

from castline.edge import program as edge
from castline.edge.links import Link, LinkDown, NotAllowed
from castline.edge.message import SeenFace
from castline.edge.model import folder_of, open_model
from castline.edge.program import Program
from castline.edge.remembered import last_good
from castline.edge.settings import Settings, parse
from castline.edge.store import Store
from castline.errors import BundleError, CastlineError, ConfigError
from castline.photos.decode import Photo, PhotoSettings

ROOT = Path(__file__).parents[2]


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


class Running:
    """A program in a thread."""

    def __init__(
        self,
        work: Path,
        values: dict[str, Any],
        link: StubLink | None = None,
        load: Callable[[Settings], StubModel] = lambda settings: StubModel(),
        releases: "StubReleases | None" = None,
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


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Picture.new("RGB", (32, 32)).save(tmp_path / "a.jpg")
    return tmp_path / "a.jpg"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    Picture.new("RGB", (32, 32)).save(folder / "000.jpg")
    for number in range(1, 40):
        shutil.copy2(folder / "000.jpg", folder / f"{number:03}.jpg")
    return folder


def test_a_folder_read_once_is_published_in_order(tmp_path: Path, folder: Path) -> None:
    running = Running(tmp_path / "work", {"Source": f"directory:{folder}", "LocalTopic": "seen"}, once=True)
    with running:
        running.join()
    assert running.result == [0]
    results = running.results
    assert [Path(said["source"]).name for said in results] == [f"{number:03}.jpg" for number in range(40)]
    assert [said["sequence"] for said in results] == list(range(1, 41))
    assert {topic for topic, _ in running.link.taken} == {"ml/tflite/image-classification"}
    assert results[0]["inference-results"] == [{"Label": "alma", "Score": "0.9000"}]
    assert results[0]["latency-ms"].keys() == {"decode", "detect", "align", "embed", "total"}
    assert results[0]["latency-ms"]["total"] == pytest.approx(3 + results[0]["latency-ms"]["decode"], abs=0.02)
    assert (results[0]["device"], results[0]["model-version"], results[0]["skipped"]) == ("thing", "1.0.0", 0)
    assert running.link.told, "the device's other programs are told, too"
    assert set(running.link.told) <= {("seen", payload) for _, payload in running.link.taken}
    assert (running.link.states, running.link.closed) == (["RUNNING"], True)
    state = running.state
    assert (state["frames"], state["faces"], state["delivered"], state["dropped"]) == (40, 40, 40, 0)
    assert state["latency-ms"]["detect"] == 2.0


def test_ten_thousand_frames_over_a_link_that_is_down_half_of_the_time(tmp_path: Path, photo: Path) -> None:
    """All arrive, in order, and memory does not grow."""
    refused = 0

    def down() -> bool:
        nonlocal refused
        cut = int(time.monotonic() * 10) % 2 == 1
        refused += cut
        return cut

    class Counting(StubLink):
        def publish(self, topic: str, payload: bytes) -> None:
            super().publish(topic, payload)
            sequences.append(json.loads(payload)["sequence"])
            self.taken.clear()

    sequences: list[int] = []
    running = Running(tmp_path / "work", {"Source": f"image:{photo}", "InferenceInterval": 0.01}, Counting(down=down))
    # As fast as frames can be handed over: the camera is a loop.
    frame = next(
        iter(edge.open_source(Settings(f"image:{photo}"), PhotoSettings(), once=True).frames(threading.Event()))
    )

    class Fast:
        name, live = "fast", False

        def frames(self, stop: threading.Event) -> Any:
            for _ in range(10_000):
                yield frame

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge, "open_source", lambda *_: Fast())
        with running:
            until(lambda: len(sequences) > 1000, 60)
            early = resident()
            until(lambda: len(sequences) == 10_000, 120)
            grown = resident() - early
    assert sequences == list(range(1, 10_001))
    assert running.state["dropped"] == 0
    assert grown < 8e6, f"{grown / 1e6:.1f} MB more"
    assert refused > 10


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_what_the_bound_cannot_hold_is_counted_and_said(tmp_path: Path, folder: Path) -> None:
    link = StubLink(down=lambda: True)
    values = {"Source": f"directory:{folder}", "SpoolMegabytes": 0.2}
    model = StubModel()
    model.look = lambda photo: (  # type: ignore[method-assign]
        tuple(SeenFace((0, 0, 9, 9), "unknown", False, 0.1, 0.1) for _ in range(300)), {"detect": 1.0},
    )  # fmt: skip
    with Running(tmp_path / "work", values, link, lambda _: model) as running:
        until(lambda: running.program._counts["frames"] == 40)
        link.down = lambda: False
        (folder / "later.jpg").write_bytes((folder / "000.jpg").read_bytes())
        until(lambda: len(running.results) > 0 and running.results[-1]["source"].endswith("later.jpg"))
    kept = [said["sequence"] for said in running.results]
    assert kept == list(range(kept[0], 42)), "the newest, without a gap"
    assert kept[0] > 20
    assert running.results[-1]["dropped"] == kept[0] - 1
    assert running.state["dropped"] == kept[0] - 1


def test_a_slow_model_skips_stale_frames_of_a_camera(tmp_path: Path, photo: Path) -> None:
    frame = next(
        iter(edge.open_source(Settings(f"image:{photo}"), PhotoSettings(), once=True).frames(threading.Event()))
    )

    class Live:
        name, live = "live", True

        def frames(self, stop: threading.Event) -> Any:
            while not stop.wait(0.001):
                yield frame

    slow = StubModel(before=lambda photo: time.sleep(0.05))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge, "open_source", lambda *_: Live())
        with Running(tmp_path / "work", {"Source": "image:x"}, load=lambda _: slow) as running:
            until(lambda: len(running.results) >= 5)
    assert running.results[-1]["skipped"] > 20


def test_what_was_said_last_is_brought_to_the_disk(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = threading.Event()
    monkeypatch.setattr(edge.Spool, "settle", lambda self: settled.set())
    with Running(tmp_path / "work", {"Source": f"image:{photo}"}):
        until(settled.is_set)


def test_a_topic_that_is_not_allowed_is_said_once_and_does_not_stop_the_rest(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link = StubLink(denied=frozenset({"no"}))
    with Running(tmp_path / "work", {"Source": f"directory:{folder}", "PublishResultsOnTopic": "no"}, link) as running:
        until(lambda: running.program._counts["refused"] == 40)
        running.configure(PublishResultsOnTopic="yes")
        until(lambda: running.program._settings.topic == "yes")
        shutil.copy(folder / "000.jpg", folder / "x.jpg")
        until(lambda: len(link.taken) == 1)
    assert link.taken[0][0] == "yes"
    assert caplog.text.count("not to no") == 1
    assert running.state["problems"] == {"topic no": "not to no"}


def test_a_configuration_is_applied_without_a_restart(
    tmp_path: Path, folder: Path, photo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = []

    def load(settings: Settings) -> StubModel:
        loaded.append(settings.threshold)
        if settings.threshold == 0.99:
            raise BundleError("no such model")
        return StubModel(f"1.0.{len(loaded)}")

    with Running(tmp_path / "work", {"Source": f"directory:{folder}"}, load=load) as running:
        until(lambda: len(running.results) == 40)
        running.configure(Source=f"image:{photo}", InferenceInterval="0.02", Threshold="0.4", Fsp=3)
        until(lambda: running.results[-1]["source"].endswith("a.jpg"))
        assert running.results[-1]["model-version"] == "1.0.2"
        until((tmp_path / "work" / "configuration.json").exists)
        assert last_good(tmp_path / "work")["Threshold"] == "0.4"
        good = running.values
        for number, wrong in enumerate(({"Fps": "many"}, {"Threshold": 0.99})):
            running.values = good
            running.configure(**wrong)
            until(lambda number=number: len(events(running)) > number)
        seen = len(running.results)
        until(lambda: len(running.results) > seen)
        running.values = good
        running.program.configuration_changed()
        until(lambda: "configuration" not in running.program._problems)
    assert loaded == [None, 0.4, 0.99]
    assert "'Fsp' is no setting" in caplog.text
    assert [told["reason"].splitlines()[0] for _, told in events(running)] == ['Fps is "many"', "no such model"]
    assert {topic for topic, _ in events(running)} == {"ml/tflite/image-classification/events"}
    assert last_good(tmp_path / "work")["Threshold"] == "0.4"
    assert len(running.made) == 1, "the link is as it was"


def events(running: Running) -> list[tuple[str, dict[str, Any]]]:
    return [(topic, said) for topic, said in running.messages if "event" in said]


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


def test_a_new_release_is_taken_between_two_frames_and_one_that_does_not_open_is_not(
    tmp_path: Path, photo: Path
) -> None:
    store = tmp_path / "store"
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        (store / "releases" / version).mkdir(parents=True)

    def load(settings: Settings) -> StubModel:
        name = Path(settings.store_path, "current").resolve().name
        if name == "1.2.0":
            raise BundleError("half a model")
        return StubModel(name)

    values = {"Source": f"image:{photo}", "InferenceInterval": "0.02", "StorePath": str(store)}
    for releases in (None, StubReleases()):
        switch(store, "1.0.0")
        with Running(tmp_path / f"work{releases}", values, load=load, releases=releases) as running:
            until(lambda running=running: len(running.results) > 2)
            switch(store, "1.1.0")
            until(lambda running=running: running.results[-1]["model-version"] == "1.1.0")
            switch(store, "1.2.0")
            until(lambda running=running: "model" in running.program._problems)
            seen = len(running.results)
            until(lambda running=running, seen=seen: len(running.results) > seen)
        assert running.results[-1]["model-version"] == "1.1.0"
        if releases is None:
            (refused,) = (said for _, said in events(running))
            assert (refused["event"], refused["to"], refused["reason"]) == ("model-refused", "1.2.0", "half a model")
        else:
            assert not events(running), "it is the store that tells"
            assert releases.told[:3] == ["started", "healthy", "started"]
            assert releases.told[-2:] == ["started", "failed: half a model"]


def test_a_release_that_becomes_current_while_the_configuration_is_read_is_taken(tmp_path: Path, photo: Path) -> None:
    store = tmp_path / "store"
    for version in ("1.0.0", "1.1.0"):
        (store / "releases" / version).mkdir(parents=True)
    switch(store, "1.0.0")
    values = {"Source": f"image:{photo}", "InferenceInterval": "0.02", "StorePath": str(store)}
    running = Running(
        tmp_path / "work", values, load=lambda settings: StubModel((store / "current").resolve().name), once=False
    )

    def read() -> Mapping[str, Any]:
        switch(store, "1.1.0")
        return {**values, "InferenceInterval": "0.03"}

    with running:
        until(lambda: bool(running.results))
        running.program._read = read
        running.program.configuration_changed()
        until(lambda: running.results[-1]["model-version"] == "1.1.0")


def test_a_release_is_not_said_to_work_by_the_one_before(tmp_path: Path, photo: Path) -> None:
    """A device that has looked at nothing yet gets a release, and its first picture while that is being opened."""
    store, folder = tmp_path / "store", tmp_path / "in"
    for version in ("1.0.0", "1.1.0"):
        (store / "releases" / version).mkdir(parents=True)
    folder.mkdir()
    switch(store, "1.0.0")
    opened = threading.Event()
    running: Running

    def load(settings: Settings) -> StubModel:
        version = (store / "current").resolve().name
        if version == "1.1.0":
            shutil.copy2(photo, folder / "a.jpg")
            until(lambda: [said["model-version"] for said in running.results] == ["1.0.0"])
            assert releases.told == ["started", "started"]
            opened.set()
        return StubModel(version)

    releases = StubReleases()
    values = {"Source": f"directory:{folder}", "StorePath": str(store)}
    running = Running(tmp_path / "work", values, load=load, releases=releases)
    with running:
        until(lambda: releases.told == ["started"])
        switch(store, "1.1.0")
        until(opened.is_set)
        shutil.copy2(photo, folder / "b.jpg")
        until(lambda: releases.told == ["started", "started", "healthy"])
    assert [said["model-version"] for said in running.results] == ["1.0.0", "1.1.0"]


def test_a_store_that_is_gone_ends_no_program(tmp_path: Path, photo: Path) -> None:
    class Gone(StubReleases):
        def started(self) -> None:
            super().started()
            if len(self.told) > 1:
                raise CastlineError("no release is installed")

        def failed(self, reason: str) -> None:
            raise CastlineError("there is no other to go back to")

    store = tmp_path / "store"
    (store / "releases/1.0.0").mkdir(parents=True)
    switch(store, "1.0.0")
    values = {"Source": f"image:{photo}", "InferenceInterval": "0.02", "StorePath": str(store)}
    with Running(tmp_path / "work", values, releases=Gone()) as running:
        until(lambda: bool(running.results))
        shutil.rmtree(store)
        until(lambda: "store" in running.program._problems)
        seen = len(running.results)
        until(lambda: len(running.results) > seen)
    assert running.result == [0]


class Shelf(StubReleases):
    """A store on the disk, of which releases in `bad` do not open."""

    def __init__(self, root: Path, *versions: str, bad: str = "") -> None:
        super().__init__()
        self.root, self.bad = root, bad
        for version in versions:
            (root / "releases" / version).mkdir(parents=True)
            switch(root, version)

    def failed(self, reason: str) -> None:
        super().failed(reason)
        others = [path.name for path in (self.root / "releases").iterdir() if path.name != self.bad]
        if not others:
            raise CastlineError("there is no other to go back to")
        switch(self.root, others[0])


def test_another_store_is_gone_over_to_as_a_restart_would(tmp_path: Path, photo: Path) -> None:
    """With the zip that is to be installed, with its starts counted, and with its releases left when they fail."""
    shelves = [
        Shelf(tmp_path / "one", "1.0.0"),
        Shelf(tmp_path / "two", "1.0.0"),
        Shelf(tmp_path / "three", "2.0.0", "3.0.0", bad="3.0.0"),
        Shelf(tmp_path / "none", "4.0.0", bad="4.0.0"),
    ]
    one, two, three, none = shelves

    def load(settings: Settings) -> StubModel:
        version = folder_of(settings).name
        if version in ("3.0.0", "4.0.0"):
            raise BundleError("half a model")
        return StubModel(version)

    def releases_of(settings: Settings) -> Shelf | None:
        return next((shelf for shelf in shelves if str(shelf.root) == settings.store_path), None)

    values = {"Source": f"image:{photo}", "InferenceInterval": "0.02", "StorePath": str(one.root)}
    with Running(tmp_path / "work", values, load=load, releases_of=releases_of, release=tmp_path / "r.zip") as running:
        until(lambda: len(one.told) == 3)
        running.configure(StorePath=str(two.root))
        until(lambda: len(two.told) == 3)
        assert one.told == two.told == ["install r.zip", "started", "healthy"]
        running.configure(StorePath=str(none.root))
        until(lambda: bool(events(running)))
        assert [said["reason"] for _, said in events(running)] == ["there is no other to go back to"]
        assert none.told == ["install r.zip", "started", "failed: half a model"]
        running.configure(StorePath=str(three.root))
        until(lambda: running.results[-1]["model-version"] == "2.0.0" and three.told[-1] == "healthy")
        assert three.told == ["install r.zip", "started", "failed: half a model", "healthy"]
        switch(two.root, "1.0.0")
        (three.root / "releases/2.1.0").mkdir()
        switch(three.root, "2.1.0")  # it is this one that is followed now
        until(lambda: running.results[-1]["model-version"] == "2.1.0")
        running.configure(StorePath="", ModelResourceKey={"model": str(tmp_path / "9.9.9")})
        until(lambda: running.results[-1]["model-version"] == "9.9.9")
    assert one.told == two.told == ["install r.zip", "started", "healthy"]


def test_what_is_wrong_with_a_configuration_is_no_start_of_a_release(tmp_path: Path, photo: Path) -> None:
    """Else two of them would be enough to leave it."""

    def link_of(settings: Settings) -> Link:
        raise ConfigError("Mqtt.ca is absent.pem")

    shelf, other = Shelf(tmp_path / "one", "1.0.0"), Shelf(tmp_path / "two", "2.0.0")
    values = {"Source": f"image:{photo}", "StorePath": str(shelf.root)}
    program = Program(
        parse(values)[0],
        lambda: values,
        link_of,
        lambda _: StubModel(),
        tmp_path / "w",
        "d",
        releases_of=lambda _: shelf,
    )
    with pytest.raises(ConfigError):
        program.run()
    assert shelf.told == []
    running = Running(
        tmp_path / "work", values, releases_of=lambda settings: other if "two" in settings.store_path else shelf
    )
    with running:
        until(lambda: len(shelf.told) == 2)
        running.program._link_of = link_of
        mqtt = {"host": "h", **dict.fromkeys(("ca", "cert", "key"), "absent.pem")}
        running.configure(StorePath=str(other.root), Mqtt=mqtt)
        until(lambda: bool(events(running)))
    assert (other.told, running.link.closed) == ([], True)


def test_another_link_is_used_when_the_one_before_is_closed(tmp_path: Path, photo: Path) -> None:
    class Slow(StubLink):
        def close(self) -> None:
            seen = len(self.taken)
            until(lambda: len(self.taken) > seen + 3 or bool(fresh.taken))
            super().close()

    class Fresh(StubLink):
        def publish(self, topic: str, payload: bytes) -> None:
            early.append(not slow.closed)
            super().publish(topic, payload)

    slow, fresh, early = Slow(), Fresh(), list[bool]()
    with Running(tmp_path / "work", {"Source": f"image:{photo}", "InferenceInterval": 0.02}, slow) as running:
        until(lambda: len(slow.taken) > 3)
        running.link = fresh
        running.configure(Mqtt={"host": "h", "ca": "a", "cert": "b", "key": "c"})
        until(lambda: len(fresh.taken) > 3)
    assert not any(early)
    numbers = [json.loads(payload)["sequence"] for _, payload in slow.taken + fresh.taken]
    assert numbers == list(range(1, len(numbers) + 1))


def switch(store: Path, version: str) -> None:
    (store / "fresh").symlink_to(Path("releases", version))
    (store / "fresh").replace(store / "current")


def test_a_release_that_cannot_be_begun_with_is_left(tmp_path: Path, photo: Path) -> None:
    releases, tries = StubReleases(), []

    def load(settings: Settings) -> StubModel:
        tries.append(settings)
        if len(tries) == 1:
            raise BundleError("half a model")
        return StubModel()

    with Running(tmp_path / "work", {"Source": f"image:{photo}"}, load=load, releases=releases, once=True) as running:
        running.join()
    assert releases.told == ["started", "failed: half a model", "healthy"]
    assert running.result == [0]


def test_a_model_that_fails_at_one_picture_goes_on_and_at_all_pictures_ends(tmp_path: Path, folder: Path) -> None:
    def moody(photo: Photo) -> None:
        nonlocal looked
        looked += 1
        if looked % 2:
            raise ValueError("an odd picture")

    looked = 0
    with Running(
        tmp_path / "a", {"Source": f"directory:{folder}"}, load=lambda _: StubModel(before=moody), once=True
    ) as running:
        running.join()
    assert (running.result, len(running.results), running.state["failed"]) == ([0], 20, 20)

    def broken(photo: Photo) -> None:
        raise ValueError("no tensor")

    link = StubLink()
    with Running(
        tmp_path / "b", {"Source": f"directory:{folder}"}, link, lambda _: StubModel(before=broken)
    ) as running:
        running.join()
    assert running.result == [1]
    assert link.states == ["RUNNING", "ERRORED"]


def test_a_score_that_is_no_number_costs_its_picture(tmp_path: Path, folder: Path) -> None:
    class Odd(StubModel):
        def look(self, photo: Photo) -> tuple[tuple[SeenFace, ...], dict[str, float]]:
            faces, steps = super().look(photo)
            return (faces if next(number) % 2 else (replace(faces[0], score=float("nan")),)), steps

    number = count()
    with Running(tmp_path / "work", {"Source": f"directory:{folder}"}, load=lambda _: Odd(), once=True) as running:
        running.join()
    assert (running.result, len(running.results), running.state["failed"]) == ([0], 20, 20)
    assert [said["sequence"] for said in running.results] == list(range(1, 21))


def test_the_state_is_written_while_pictures_are_looked_at(tmp_path: Path, folder: Path) -> None:
    class Look(dict[str, float]):
        """Another picture is done just when this one is being read."""

        def __iter__(self) -> Iterator[str]:
            running.program._looks.append({"total": 1.0})
            return super().__iter__()

    running = Running(tmp_path / "work", {"Source": f"directory:{folder}"}, once=True)
    with running:
        running.join()
    running.program._looks.append(Look(total=1.0))
    running.program._write_state()
    assert running.state["latency-ms"]["total"] > 0


def test_without_an_earlier_configuration_there_is_none_to_go_back_to(tmp_path: Path) -> None:
    for text in (None, "[]", "{"):
        if text is not None:
            (tmp_path / "configuration.json").write_text(text)
        with pytest.raises(ConfigError, match=r"configuration\.json"):
            last_good(tmp_path)


def program(work: Path, *more: str, **env: str) -> subprocess.Popen[str]:
    """The program as it is started on a device, but with a stub in the model's place."""
    code = (
        "import sys; sys.path[:0] = ['tests/edge', 'tests']; import castline.edge.__main__ as main; "
        "sys.executable = __import__('os').environ.get('TESTING', sys.executable); "
        "from test_program import StubModel; main.open_model = lambda settings: StubModel(); main.main(sys.argv[1:])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, "--work", str(work), *more], cwd=ROOT, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_greengrass_configures_it_and_survives_a_restart_of_the_nucleus(tmp_path: Path, photo: Path) -> None:
    topic = "ml/tflite/image-classification"
    values = {"ImageName": "a.jpg", "ImageDirectory": str(tmp_path), "InferenceInterval": "0.05", "LocalTopic": "seen"}
    with Nucleus(values, iot={topic, "ml/b"}, local={"seen"}) as nucleus:
        with program(tmp_path / "work", **nucleus.environment) as running:
            until(lambda: len(nucleus.published) > 6)
            assert nucleus.states == ["RUNNING"]
            assert {kind for kind, _, _ in nucleus.published} == {"iot", "local"}
            nucleus.configure(PublishResultsOnTopic="ml/b")
            until(lambda: nucleus.published[-1][1] == "ml/b" or nucleus.published[-2][1] == "ml/b")
            nucleus.end()
            time.sleep(0.3)
            nucleus.configuration["PublishResultsOnTopic"] = topic
            nucleus.start()
            until(lambda: nucleus.published[-1][1] == topic or nucleus.published[-2][1] == topic)
            running.send_signal(signal.SIGTERM)
            _, log = running.communicate(timeout=20)
        assert running.returncode == 0, log
        said = [json.loads(payload) for kind, _, payload in nucleus.published if kind == "iot"]
        numbers = [one["sequence"] for one in said]
        assert list(dict.fromkeys(numbers)) == list(range(1, max(numbers) + 1)), "none is lost, and the order holds"
        assert said[0]["device"] == "test-thing"

        before = spooled(tmp_path / "work")
        # Without a nucleus it begins with the configuration that was last good, and keeps what it cannot deliver.
        nucleus.end()
        with program(tmp_path / "work", **nucleus.environment) as running:
            until(lambda: spooled(tmp_path / "work") > before + 3)
            running.send_signal(signal.SIGTERM)
            _, log = running.communicate(timeout=20)
        assert running.returncode == 0, log
        assert "the last good configuration is used" in log
        nucleus.start()
        with program(tmp_path / "work", **nucleus.environment) as running:
            until(lambda: len({one["sequence"] for one in told(nucleus)} - set(numbers)) > 4)
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=20)
        numbers = list(dict.fromkeys(one["sequence"] for one in told(nucleus)))
        assert numbers == list(range(1, max(numbers) + 1))
        assert spooled(tmp_path / "work") > before


def told(nucleus: Nucleus) -> list[dict[str, Any]]:
    return [json.loads(payload) for kind, _, payload in nucleus.published if kind == "iot"]


def spooled(work: Path) -> int:
    return sum(path.read_bytes().count(b'"sequence"') for path in (work / "spool").glob("*.log"))


def test_it_ends_at_once_while_a_release_is_tested(tmp_path: Path, old: Path, photo: Path) -> None:
    """A script stands for the Python that runs the self-test and hangs."""
    python, pid, store = tmp_path / "python", tmp_path / "pid", tmp_path / "store"
    python.write_text(f"#!/bin/sh\necho $$ > {pid}.part; mv {pid}.part {pid}\nexec sleep 600\n")
    python.chmod(0o755)
    config = tmp_path / "edge.json"
    config.write_text(json.dumps({"Source": f"image:{photo}", "StorePath": str(store)}))
    with program(tmp_path / "work", "--config", str(config), "--install", str(old), TESTING=str(python)) as running:
        until(pid.exists)
        running.send_signal(signal.SIGTERM)
        out, log = running.communicate(timeout=60)
    assert (running.returncode, out, "Traceback" in log) == (0, "", False), log
    assert "told to end during the self-test" in log
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    found = Store(store, test=lambda folder: None)
    assert (found.current, found.versions, found.refused, spooled(tmp_path / "work")) == (None, [], [], 0)
    assert {path.name for path in store.iterdir()} == {"lock", "releases"}, "no start was counted either"
    assert found.install(old).result == "installed"


def test_a_stolen_token_ends_it_with_a_clear_error(tmp_path: Path) -> None:
    with (
        Nucleus({"Source": "image:a"}) as nucleus,
        program(tmp_path / "work", **{**nucleus.environment, "SVCUID": "stolen"}) as running,
    ):
        _, log = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "does not take this component's token" in log
    assert "next: let Greengrass start the program" in log
    assert "Traceback" not in log


def test_on_a_laptop_results_are_lines_and_the_file_is_watched(tmp_path: Path, photo: Path) -> None:
    config = tmp_path / "edge.json"
    config.write_text(json.dumps({"Source": f"image:{photo}"}))
    done = program(tmp_path / "work", "--config", str(config), "--once")
    out, log = done.communicate(timeout=30)
    assert done.returncode == 0, log
    assert [json.loads(line)["source"] for line in out.splitlines()] == [str(photo)]

    config.write_text(json.dumps({"Source": f"image:{photo}", "InferenceInterval": 0.05}))
    with program(tmp_path / "work", "--config", str(config)) as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["source"] == str(photo)
        config.write_text(json.dumps({"Source": f"directory:{tmp_path}"}))
        until(lambda: running.stdout is not None and json.loads(running.stdout.readline())["frame"] == 0)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=20)
    assert running.returncode == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [("{}", "no Source"), ("[", "no configuration that can be read"), ('{"Source": "x"}', "Source is")],
)
def test_a_wrong_file_is_an_error_in_words(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "edge.json").write_text(text)
    done = program(tmp_path / "work", "--config", str(tmp_path / "edge.json"))
    _, log = done.communicate(timeout=30)
    assert (done.returncode, "Traceback" in log) == (1, False)
    assert said in log
    assert "next:" in log


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CastlineError, match="no bundle here"):
        open_model(Settings("image:a", model=str(tmp_path)))
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(CastlineError, match="manifest cannot be read"):
        open_model(Settings("image:a", model=str(tmp_path)))


def test_releases_are_brought_in_tested_run_and_told_of(tmp_path: Path, old: Path, new: Path, sample: Path) -> None:
    """The real store and real models, as a device runs them."""
    scene = next((sample / "scenes").glob("*.jpg"))
    config = tmp_path / "edge.json"
    config.write_text(json.dumps({"Source": f"image:{scene}", "StorePath": str(tmp_path / "store")}))
    broken = tmp_path / "recognizer-3.0.0.zip"
    broken.write_bytes(new.read_bytes()[:-1000])

    def run(*more: str) -> list[tuple[Any, ...]]:
        done = subprocess.run(
            [sys.executable, "-m", "castline.edge", "--config", config, "--work", tmp_path / "work", "--once", *more],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said = [json.loads(line) for line in done.stdout.splitlines()]
        return [(one["event"], one["from"], one["to"]) if "event" in one else (one["model-version"],) for one in said]

    assert run("--install", str(old)) == [("model-update", None, "1.0.0"), ("1.0.0",)]
    assert run("--install", str(new)) == [("model-update", "1.0.0", "2.0.0"), ("2.0.0",)]
    (refused, *_), *rest = run("--install", str(broken))
    assert (refused, rest) == ("model-refused", [("2.0.0",)])
    assert run() == [("2.0.0",)]

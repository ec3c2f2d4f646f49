"""Releases that come while the program runs: taken between two frames, left again when they do not work."""

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from edge_program import Running, StubModel, StubReleases, events
from test_greengrass import until

from castline.edge.links import Link
from castline.edge.model import folder_of
from castline.edge.program import Program
from castline.edge.settings import Settings, parse
from castline.errors import BundleError, CastlineError, ConfigError


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

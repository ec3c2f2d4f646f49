"""kill -9 and power cuts at every step of updates and rollbacks: what is current afterwards is whole, and runs."""

import json
from functools import cache
from pathlib import Path

import pytest
from edge_kill import copied, kill, steps, store_at
from edge_releases import contents_of

from castline.edge.golden import self_test
from castline.edge.store import Release, Store
from castline.edge.trial import self_tested
from castline.runtime import Recognizer


def untested(folder: Path) -> None:
    """A self-test takes half a second; that it passes is tested once, for what has the same bytes."""


@pytest.fixture(scope="module")
def before(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has run 1.0.0 well for a while."""
    store = Store(tmp_path_factory.mktemp("before") / "store", test=self_test)
    store.install(old)
    store.started()
    store.healthy()
    return store.root


@pytest.fixture(scope="module")
def failing(before: Path, new: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose 2.0.0 did not get as far as working, twice."""
    store = Store(copied(before, tmp_path_factory.mktemp("failing") / "store"), test=self_test)
    store.install(new)
    store.started()
    store.started()
    return store.root


contents = cache(contents_of)


def is_one_of(release: Release, *zips: Path) -> None:
    """It is byte for byte one of the releases in `zips`."""
    found = {path.name: path.read_bytes() for path in release.folder.iterdir()}
    assert found in [contents(path) for path in zips]


def runs(release: Release, *zips: Path) -> None:
    """It is one of them, and opens."""
    is_one_of(release, *zips)
    Recognizer(release.folder, release.model)


def told(events: Path) -> list[tuple[str, str | None, str | None]]:
    lines = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
    return [(line["event"], line["from"], line["to"]) for line in lines]


@pytest.mark.parametrize("power_cut", [False, True], ids=["kill", "power cut"])
def test_an_update_killed_at_every_step(before: Path, old: Path, new: Path, tmp_path: Path, power_cut: bool) -> None:
    root, events = tmp_path / "store", tmp_path / "events"
    store = store_at(root, events, test=untested)
    names = steps(store_at(copied(before, root), events, test=untested), lambda store: store.install(new))
    assert {"mkdir .tmp-2.0.0", "rename .tmp-2.0.0 → releases/2.0.0", "rename .tmp-current → current"} <= set(names)
    assert told(events) == [("model-update", "1.0.0", "2.0.0")]
    reached = []
    for step in range(len(names)):
        copied(before, root)
        events.unlink()
        events.touch()
        kill(store, lambda store: store.install(new), step, power_cut)
        release = store.started()
        reached.append(release.version)
        runs(release, old, new)
        assert store.install(new).result == ("unchanged" if release.version == "2.0.0" else "installed"), names[step]
        is_one_of(store.started(), new)
        assert store.previous == "1.0.0"
        assert set(told(events)) == {("model-update", "1.0.0", "2.0.0")}, "at least once, and nothing else"
        assert sorted(path.name for path in root.iterdir()) == ["current", "lock", "previous", "releases", "state.json"]
    switch = names.index("rename .tmp-current → current")
    assert reached == ["1.0.0"] * (switch + 1) + ["2.0.0"] * (len(names) - switch - 1)


@pytest.mark.parametrize("power_cut", [False, True], ids=["kill", "power cut"])
def test_a_rollback_killed_at_every_step(failing: Path, old: Path, new: Path, tmp_path: Path, power_cut: bool) -> None:
    root, events = tmp_path / "store", tmp_path / "events"
    store = store_at(root, events, test=untested)
    names = steps(store_at(copied(failing, root)), Store.started)
    assert "rename .tmp-current → current" in names
    for step in range(len(names)):
        copied(failing, root)
        events.unlink(missing_ok=True)
        kill(store, Store.started, step, power_cut)
        runs(store.started(), old)
        assert set(told(events)) == {("model-rollback", "2.0.0", "1.0.0")}
        outcome = store.install(new)
        assert outcome.result == "refused" and "2 starts in a row" in outcome.reason
        assert (store.current, store.previous, store.versions) == ("1.0.0", None, ["1.0.0"])


def test_going_back_by_deployment_killed_at_every_step(failing: Path, old: Path, new: Path, tmp_path: Path) -> None:
    """1.0.0 is there already, as the previous release: its copy makes room for the one that was just tested."""
    root, events = tmp_path / "store", tmp_path / "events"
    store = store_at(root, events, test=untested)
    names = steps(store_at(copied(failing, root), test=untested), lambda store: store.install(old))
    for step in range(names.index("rename releases/1.0.0 → .tmp-old-1.0.0"), len(names)):
        copied(failing, root)
        events.unlink(missing_ok=True)
        kill(store, lambda store: store.install(old), step, power_cut=True)
        assert store.current in ("1.0.0", "2.0.0")
        assert store.install(old).result in ("installed", "unchanged"), names[step]
        runs(store.started(), old)
        assert store.previous == "2.0.0" and set(told(events)) == {("model-update", "2.0.0", "1.0.0")}


def test_the_very_first_installation_killed_at_every_step(old: Path, tmp_path: Path) -> None:
    names = steps(store_at(tmp_path / "store", test=untested), lambda store: store.install(old))
    for step in range(len(names)):
        events = tmp_path / f"events{step}"
        store = store_at(tmp_path / f"store{step}", events, test=untested)
        kill(store, lambda store: store.install(old), step)
        store.install(old)
        is_one_of(store.started(), old)
        assert set(told(events)) == {("model-update", None, "1.0.0")}


def test_killed_while_the_self_test_runs(before: Path, old: Path, new: Path, tmp_path: Path) -> None:
    """The real self-test, started and left alone: what it reads is taken away without harm."""
    store = store_at(copied(before, tmp_path / "other"), test=self_tested)
    names = steps(store, lambda store: store.install(new))
    store = store_at(copied(before, tmp_path / "store"), test=self_tested)
    kill(store, lambda store: store.install(new), names.index("self-test") + 1)
    runs(store.started(), old)
    assert store.install(new).result == "installed"


def test_the_two_have_other_models_and_labels(old: Path, new: Path) -> None:
    """A mixture of them would name people wrongly: nothing of what decides is alike."""
    one, two = contents_of(old), contents_of(new)
    assert all(one[name] != two[name] for name in ("model.tflite", "head.safetensors", "bundle.json", "golden.json"))
    assert json.loads(one["bundle.json"])["people"] != json.loads(two["bundle.json"])["people"]

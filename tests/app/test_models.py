"""Which models there are, how a version gets here, and that nothing half-written or hostile is taken for a model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from castline.app import models
from castline.app.about import about, card_of, pair_of, report_of
from castline.app.models import BUNDLE, WORKSPACE, Fetch, Fetches, opened, released
from castline.errors import BundleError, CastlineError, DataError
from castline.forgetting.holders import _fetched


@pytest.fixture
def here(versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, with an empty cache of versions in `tmp_path`."""
    monkeypatch.chdir(versions)
    monkeypatch.setenv("CASTLINE_CACHE", str(tmp_path))
    return versions


@pytest.fixture
def bundle(model_folder: Path, tmp_path: Path) -> Path:
    """One that may be spoilt."""
    return Path(shutil.copytree(model_folder, tmp_path / "bundle"))


def fetched(fetches: Fetches, name: str) -> Path:
    version = next(version for version in released() if version.name == name)
    if isinstance(found := fetches.bundle(version), Fetch):
        found.ended.result(60)
        found = fetches.bundle(version)
    assert isinstance(found, Path)
    return found


def test_versions_are_listed_newest_first_with_their_stages(here: Path) -> None:
    assert [(version.name, version.stages) for version in released()] == [("v0.2.0", ()), ("v0.1.0", ("prod",))]


def test_a_folder_that_is_no_project_has_no_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert released() == []


def test_a_version_is_fetched_once_and_whole(here: Path, tmp_path: Path) -> None:
    assert _fetched() == []
    fetches, version = Fetches(), released()[-1]
    first = fetches.bundle(version)
    assert fetches.bundle(version) is first  # two visitors, one fetch
    folder = fetched(fetches, "v0.1.0")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in (here / BUNDLE).iterdir()
    }
    (project,) = (tmp_path / "versions").iterdir()
    assert [path.name.split("-")[0] for path in project.iterdir()] == ["v0.1.0"]  # and nothing that was left behind

    (holder,) = _fetched()  # what forgetting somebody has to purge
    assert holder.commands == [f"rm -r {project}"]

    model = opened("v0.1.0", folder)
    assert b"Who is who" in (report_of(model) or b"")
    assert about(model).metrics["top1"] == 1.0
    assert about(opened(WORKSPACE, BUNDLE)).metrics["top1"] == 0.5


def test_a_version_that_is_not_to_be_had_leaves_nothing_and_is_tried_again(here: Path, tmp_path: Path) -> None:
    fetches, version = Fetches(), released()[0]
    cache = here / ".dvc/cache"
    cache.rename(here / ".dvc/away")
    try:
        found = fetches.bundle(version)
        assert isinstance(found, Fetch)
        assert isinstance(found.ended.exception(60), DataError)
        assert found.error is not None
        assert "not in DVC's cache here" in found.error.what
        assert fetches.bundle(version) is found
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        (here / ".dvc/away").rename(cache)
    assert list(tmp_path.glob("versions/*/*")) == []
    fetches.again(version)
    assert (fetched(fetches, "v0.2.0") / "bundle.json").is_file()


@pytest.mark.parametrize("md5", [None, "", "../../../../etc.dir", "x" * 32 + ".dir"])
def test_only_a_hash_gets_into_a_path(here: Path, monkeypatch: pytest.MonkeyPatch, md5: str | None) -> None:
    monkeypatch.setattr(models, "_bundle_at", lambda commit: (md5, 5))
    with pytest.raises(DataError, match=r"v0\.2\.0: its dvc\.lock"):
        Fetches().bundle(released()[0])


def test_a_model_is_opened_anew_when_it_was_made_anew(bundle: Path) -> None:
    first = opened(WORKSPACE, bundle)
    assert opened(WORKSPACE, bundle) is first
    said = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**said, "provenance": {"commit": "another"}}))
    second = opened(WORKSPACE, bundle)
    assert second.key != first.key
    assert second.bundle.provenance == {"commit": "another"}


def cut(bundle: Path) -> None:
    path = bundle / "bundle.json"
    path.write_bytes(path.read_bytes()[:-20])


def without_a_head(bundle: Path) -> None:
    (bundle / "head.safetensors").unlink()


def half_a_head(bundle: Path) -> None:
    path = bundle / "head.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def nested(bundle: Path) -> None:
    (bundle / "bundle.json").write_text('{"format": 3, "files": ' + "[" * 100_000)


@pytest.mark.parametrize("spoil", [cut, without_a_head, half_a_head, nested, shutil.rmtree])
def test_a_bundle_that_is_being_written_gives_words(bundle: Path, spoil: Any) -> None:
    spoil(bundle)
    with pytest.raises(BundleError):
        opened(WORKSPACE, bundle)


@pytest.mark.parametrize(
    "change",
    [
        {"people": [1, 2, 3, 4]},
        {"people": None},
        {"unknown": []},
        {"files": []},
        {"files": {"float32": 5}},
        {"threshold": "0.5"},
        {"latency_ms": None},
        {"top1": "1"},
        {"temperature": float("nan")},
        {"format": 99},
    ],
)
def test_values_that_somebody_else_has_written_give_words(bundle: Path, change: dict[str, Any]) -> None:
    said = json.loads((bundle / "bundle.json").read_text())
    if change.keys() & said.keys():
        said |= change
    else:
        said["files"]["float32"] |= change
    (bundle / "bundle.json").write_text(json.dumps(said))
    with pytest.raises(BundleError):
        opened(WORKSPACE, bundle)


def test_a_card_loads_nothing(here: Path) -> None:
    model = opened("v0.1.0", here / BUNDLE)
    card = card_of(model, about(model))
    assert card.startswith("## A card")
    assert "![" not in card
    ours = card_of(opened(WORKSPACE, BUNDLE), about(opened(WORKSPACE, BUNDLE)))
    assert "names 4 people" in ours
    assert "dvc artifacts get" not in ours


def test_a_bundle_of_elsewhere_is_not_told_of_with_this_projects_reports(here: Path, bundle: Path) -> None:
    model = opened(WORKSPACE, bundle)
    assert (about(model).metrics, report_of(model)) == ({}, None)
    assert about(model).people == list(model.bundle.people)


def test_versions_side_by_side(here: Path) -> None:
    pair = pair_of("v0.1.0", "v0.2.0")
    assert [(found.actual, found.before, found.now) for found in pair.confusions] == [("ann", 0, 1)]
    assert [(change.name, change.before, change.now) for change in pair.changes.worse] == [("ann", (2, 2), (1, 2))]
    assert [row[2] for row in pair.files] == ["100.0 → 50.0"]
    with pytest.raises(CastlineError, match=r"v9\.0\.0"):
        pair_of("v9.0.0", WORKSPACE)

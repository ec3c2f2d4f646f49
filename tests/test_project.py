"""`castline data`: a user's own folders become batches, without a photo being moved or copied."""

import os
from pathlib import Path

import pytest
import yaml
from projects import ROOT, copy, make_project, run

from castline import project
from castline.errors import ConfigError, DataError


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as a fresh clone has it: the sample imported by data.dvc, and DVC set up."""
    make_project(tmp_path)
    copy(ROOT / "sample" / "photos", tmp_path / "sample" / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photos(folder: Path, **people: int) -> Path:
    for person, count in people.items():
        for number in range(count):
            path = folder / person.replace("__", "/") / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{folder.name} {person} {number}".encode())
    return folder


def batches() -> list[str]:
    conf = yaml.safe_load(Path("conf/data.yaml").read_text())["data"]["batches"]
    assert yaml.safe_load(Path("params.yaml").read_text())["data"]["batches"] == conf
    return list(conf)


def dvc(*arguments: str) -> str:
    return run(Path.cwd(), "dvc", *arguments)


def test_own_photos_take_the_samples_place_and_stay_where_they_are(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mine = photos(tmp_path_factory.mktemp("mine"), ann=3, bob=2, _strangers__eve=1)
    before = {path: path.stat().st_mtime_ns for path in mine.rglob("*")}
    found = project.use_batch(mine, "autumn")
    assert (found.people, found.strangers, found.unlabelled) == ({"ann": 3, "bob": 2}, 1, 0)
    assert batches() == ["autumn"]
    assert Path("data/autumn").is_symlink()
    assert Path("data/autumn").resolve() == mine.resolve()
    assert not Path("data.dvc").exists()
    assert "/data" not in Path(".gitignore").read_text().split()
    assert {path: path.stat().st_mtime_ns for path in mine.rglob("*")} == before
    assert "faces@autumn" in dvc("stage", "list", "--name-only")
    assert "data/autumn" in dvc("status")
    assert not any(path.is_file() for path in Path(".dvc/cache").rglob("*"))


def test_a_pile_of_photos_without_folders_is_a_batch_too(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    pile = tmp_path_factory.mktemp("pile")
    for number in range(3):
        (pile / f"{number}.jpg").write_bytes(bytes([number]))
    found = project.use_batch(pile, "pile")
    assert (found.people, found.unlabelled, batches()) == ({}, 3, ["pile"])
    assert [found.batch for found in project.check_data()] == ["pile"]


def test_a_delivery_is_added_to_the_sample_and_the_samples_batches_stay_the_same(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    more = photos(tmp_path_factory.mktemp("more"), alma=2, zoe=2)
    project.add_batch(more, "winter")
    assert batches() == ["first", "second", "winter"]
    assert sorted(path.name for path in Path("data/first").iterdir()) == sorted(
        path.name for path in Path("sample/photos/first").iterdir()
    )
    with pytest.raises(ConfigError, match="a batch 'winter' already"):
        project.add_batch(more, "winter")


def test_what_dvc_would_stop_at_is_passed_over(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    odd = photos(tmp_path_factory.mktemp("odd"), ann=2, bob=2, **{"o'\"n[e]!\n #": 2})
    (odd / "ann" / "loop.jpg").symlink_to("loop.jpg")
    (odd / "ann" / "gone *[x]?.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(odd / "bob" / "pipe.jpg")
    Path(os.fsdecode(os.fsencode(odd) + b"/bob/bad\xff.jpg")).write_bytes(b"x")
    found = project.use_batch(odd, "odd")
    assert found.problems == {"broken_link": 2, "not_a_file": 1, "bad_name": 1}
    assert "data/odd" in dvc("status")  # one of them alone makes it fail, or wait for ever
    lines = Path(".dvcignore").read_text()
    project.check_data()
    assert Path(".dvcignore").read_text() == lines


@pytest.mark.parametrize(
    ("people", "batch", "message"),
    [
        ({}, "b", "no photo in this batch"),
        ({"ann": 5}, "b", "only 'ann'"),
        ({"ann": 5, "bob": 1}, "b", "one photo only of 'bob'"),
        ({"ann": 2, "bob": 2}, "../up", "cannot be the name of a batch"),
    ],
)
def test_a_refusal_leaves_everything_as_it_was(
    clone: Path, tmp_path_factory: pytest.TempPathFactory, people: dict[str, int], batch: str, message: str
) -> None:
    folder = photos(tmp_path_factory.mktemp("few"), **people)
    files = {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()}
    with pytest.raises((DataError, ConfigError), match=message):
        project.use_batch(folder, batch)
    assert {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()} == files


def test_a_missing_folder_or_batch_is_said(clone: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        project.use_batch(Path("nowhere"), "b")
    with pytest.raises(DataError, match="data/first: no such batch"):
        project.check_data()


def test_photos_that_are_not_the_samples_are_never_deleted(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy(ROOT / "sample" / "photos", Path("data"))
    Path("data/first/alma/mine.jpg").write_bytes(b"mine")
    mine = photos(tmp_path_factory.mktemp("mine"), ann=3, bob=2)
    with pytest.raises(DataError, match=r"mine\.jpg"):
        project.use_batch(mine, "autumn")
    assert Path("data/first/alma/mine.jpg").read_bytes() == b"mine"


def test_photos_that_lie_in_data_already_are_used_in_place(clone: Path) -> None:
    Path("data.dvc").unlink()
    photos(Path("data/here"), ann=2, bob=2)
    project.use_batch(Path("data/here"), None)
    assert batches() == ["here"]
    assert not Path("data/here").is_symlink()


def test_outside_a_project_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no Castline project here"):
        project.use_batch(tmp_path, "b")


def features_of(*overrides: str) -> dict[str, object]:
    project.compose(overrides)
    return dict(yaml.safe_load(Path("params.yaml").read_text())["features"])


def test_the_reference_models_embeddings_are_computed_once_more_for_what_they_cannot_serve(clone: Path) -> None:
    own = {"folder": "features", "batches": ["first", "second"]}
    left = Path("build/features/first.parquet")
    for overrides in (
        ["base_model=mobilenetv2"],
        ["augmentation=light", "augmentation.views=2"],
        ["training.start=scratch"],
        ["base_model.input_size=112"],
        ["features.folder=features"],
    ):
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"")
        assert features_of(*overrides) == own and left.exists()
    assert "features@second" in dvc("stage", "list", "--name-only")

    project.compose([], Path("others.yaml"))
    assert left.exists(), "the project's own settings are as they were"
    assert features_of("augmentation=light") == {"folder": "embeddings", "batches": []}
    assert not left.exists(), "what no stage knows, nobody would forget"
    assert features_of("base_model=mobilenetv2", "base_model@reference_model=mobilenetv2")["folder"] == "embeddings"
    assert not any("features" in name for name in dvc("stage", "list", "--name-only").split())
    with pytest.raises(ConfigError, match="reference_model"):
        project.compose(["reference_model=mobilenetv2"])
    with pytest.raises(ConfigError, match=r"features\.folder=faces"):
        project.compose(["features.folder=faces"])

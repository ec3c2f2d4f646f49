"""A released version learns new people from new photos alone, as a user does it: the old photos are not there."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from projects import PEOPLE, ROOT, cast, commit, run, stages_run

from castline import project
from castline.errors import CastlineError
from castline.files import tables

pytestmark = pytest.mark.slow


def git(folder: Path, *command: str) -> None:
    names = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    subprocess.run(["git", *names, *command], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def updated(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A project after an incremental update, the bundle that it started from, and what the update printed."""
    folder = tmp_path_factory.mktemp("project") / "project"
    shutil.copytree(whole, folder, symlinks=True)
    photos = tmp_path_factory.mktemp("photos")
    commit(folder, "the first version")
    git(folder, "tag", "-a", "recognizer@v1.0.0", "-m", "first")
    before = tmp_path_factory.mktemp("before") / "recognizer"
    shutil.copytree(folder / "models" / "recognizer", before)

    (folder / "data/one").unlink()
    (folder / "data/one").symlink_to(photos / "gone")
    cast(photos / "new", ("femi",), 8)
    shutil.copytree(ROOT / "sample/photos/second/alma", photos / "new" / "alma")
    known = ROOT / "sample/photos/first/alma/alma_01.jpg"  # one that the version has seen
    (photos / "new/alma/seen before.jpg").write_bytes(known.read_bytes())
    run(folder, "castline", "data", "add", str(photos / "new"), "--batch", "new")
    commit(folder, "a delivery")
    output = run(folder, "dvc", "exp", "run", "-S", "training=incremental", "-S", "training.start=recognizer@v1.0.0")
    return folder, before, output


def test_only_what_the_version_has_not_seen_is_read(updated: tuple[Path, Path, str]) -> None:
    folder, _, output = updated
    assert stages_run(output) == [
        "faces@new", "embeddings@new", "base", "dataset", "train", "evaluate", "convert", "export", "package",
    ]  # fmt: skip
    settings = yaml.safe_load((folder / "params.yaml").read_text())
    assert settings["data"] == {"batches": ["one", "new"], "read": ["new"]}
    assert settings["features"] == {"folder": "embeddings", "batches": []}
    assert sorted(path.name for path in (folder / "build/faces").iterdir()) == ["new.parquet", "new.rejects.parquet"]
    rows = tables.read(folder / "build/dataset.parquet").to_pylist()
    assert {row["photo"]: row["reason"] for row in rows if not row["kept"]} == {
        "alma/seen before.jpg": "the same file again"
    }


def test_old_people_are_kept_and_new_ones_named(updated: tuple[Path, Path, str]) -> None:
    folder, _, _ = updated
    bundle = json.loads((folder / "models/recognizer/bundle.json").read_text())
    assert bundle["people"] == [*PEOPLE, "femi"], "new people come after those it knew: places in the scores stay"
    metrics = json.loads((folder / "reports/metrics.json").read_text())
    assert metrics["old_faces"] == 8 and metrics["old_in_new_photos_faces"] > 0 and metrics["new_faces"] > 0
    assert metrics["n_test"] == sum(metrics[f"{group}_faces"] for group in ("old", "old_in_new_photos", "new"))
    assert metrics["old_before"] == 1.0 and metrics["points_forgotten"] <= 13  # one of eight
    assert metrics["new_after"] >= 0.5
    every = tables.read(folder / "models/recognizer/memory.parquet").column("batch").to_pylist()
    assert metrics["share_read"] == round(every.count("new") / len(every), 4) < 1
    said = f"{every.count('new')} of the {len(every)} faces that a full run would have read"
    assert said in (folder / "reports/index.html").read_text()
    with (folder / "reports/groups.csv").open() as file:
        unknown = [row for row in csv.DictReader(file) if row["value"] == "not known"]
    assert [int(row["faces"]) for row in unknown] == [metrics["old_faces"]] * 4, (
        "earlier photos are not here to look at"
    )
    report = (folder / "reports/index.html").read_text()
    assert "What changed since <bdi>v1.0.0</bdi>" in report and "New people" in report
    assert "What the update kept and what it learned" in report and "recognizer@v1.0.0" in report
    for person in ("bruno", "femi"):
        photo = str(sorted((ROOT / "sample/photos/first" / person).iterdir())[-1])
        found = json.loads(run(folder, "castline", "identify", photo, "--file", "float16", "--json"))
        assert [face["name"] for face in found[0]["people"]] == [person]


def test_the_base_models_files_are_the_versions_own(updated: tuple[Path, Path, str]) -> None:
    folder, before, output = updated
    assert "taken over" in output
    for file in ("model.onnx", "model.tflite", "model_fp16.tflite", "model_int8.tflite", "base.safetensors"):
        assert (folder / "models/recognizer" / file).read_bytes() == (before / file).read_bytes(), file
    first, second = (json.loads((path / "bundle.json").read_text()) for path in (before, folder / "models/recognizer"))
    took = [{name: file["latency_ms"] for name, file in bundle["files"].items()} for bundle in (first, second)]
    assert took[0] == took[1] and first["provenance"]["machine"] == second["provenance"]["machine"]
    assert (folder / "models/recognizer/head.safetensors").read_bytes() != (before / "head.safetensors").read_bytes()
    measured = json.loads((folder / "reports/export.json").read_text())
    faces = json.loads((folder / "reports/metrics.json").read_text())["n_test"]
    assert {file["faces"] for file in measured.values()} == {faces}, "every file, on old test faces and new"


def test_the_memory_grows(updated: tuple[Path, Path, str]) -> None:
    folder, before, _ = updated
    earlier, later = tables.read(before / "memory.parquet"), tables.read(folder / "models/recognizer/memory.parquet")
    assert later.slice(0, len(earlier)).equals(earlier)
    assert set(later.column("batch").to_pylist()) == {"one", "new"}


def test_what_cannot_be_gone_on_from_is_said(
    updated: tuple[Path, Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(updated[0], folder, symlinks=True)
    monkeypatch.chdir(folder)

    def refused(*overrides: str) -> str:
        with pytest.raises(CastlineError) as error:
            project.compose(overrides)
        return str(error.value)

    assert "there is no such version" in refused("training=incremental", "training.start=recognizer@v9.0.0")
    assert "goes on from a released version" in refused("training=incremental", "training.start=pretrained")
    assert "training.start" in refused("training=incremental")
    assert "allowed: pretrained, scratch" in refused("training.start=recognizer@1.0")
    assert "incremental training tunes the head" in refused(
        "training=incremental", "training.start=recognizer@v1.0.0", "training.tune=all"
    )
    git(folder, "tag", "-a", "recognizer@v1.1.0", "-m", "saw both", "HEAD")
    assert "has seen all batches" in refused("training=incremental", "training.start=recognizer@v1.1.0")
    start = ("training=incremental", "training.start=recognizer@v1.0.0")
    run(folder, "castline", "compose", *start, "head.dropout=0.5")
    assert "choose the same head" in run(folder, "dvc", "repro", "train", fails=True)
    run(folder, "castline", "compose", *start, "base_model=efficientnet_lite0")
    assert "-S base_model=dlib_face_resnet" in run(folder, "dvc", "repro", "base", fails=True)

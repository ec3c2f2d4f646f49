"""A delivery of photos to the pipeline itself: what it runs, and that the version before comes back."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from projects import PEOPLE, cast, commit, contents, lighter, odd_photos, run, stages_run

from castline.files import tables
from castline.scoring import Scorer


@dataclass(frozen=True)
class Delivered:
    """The pipeline itself: a project with two versions. first: the bundle of v1.0.0. log, rows, people: of v1.1.0, what
    its run said, its dataset and whom it knows. What is checked out is not said: a test checks out what it needs, here,
    since a copy would lose what DVC knows of the files that it has put there, to take them away again."""

    project: Path
    first: dict[str, bytes]
    log: str
    rows: list[dict[str, Any]]
    people: tuple[str, ...]


@pytest.fixture(scope="module")
def delivered(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    folder = tmp_path_factory.mktemp("delivered")
    more = cast(folder / "more", ("alma", "bruno", "kamal"), 5, "second")
    project = shutil.copytree(whole, folder / "project", symlinks=True)
    for key, value in (("user.name", "Tester"), ("user.email", "tester@example.org")):
        run(project, "git", "config", key, value)
    lighter(project)
    run(project, "castline", "compose")
    run(project, "dvc", "repro")
    commit(project, "First model")
    run(project, "castline", "release", "major")
    first = contents(project / "models/recognizer")

    run(project, "castline", "data", "add", str(more), "--batch", "two")
    log = run(project, "dvc", "repro")
    commit(project, "A delivery")
    run(project, "castline", "release", "minor")
    assert contents(project / "models/recognizer") != first
    rows = tables.read(project / "build/dataset.parquet").to_pylist()
    return Delivered(project, first, log, rows, Scorer.read(project / "build/model/head.safetensors").people)


@pytest.mark.slow
def test_a_new_batch_runs_for_its_own_photos_and_moves_no_other(delivered: Delivered, whole: Path) -> None:
    assert stages_run(delivered.log) == [
        "faces@two", "embeddings@two", "dataset", "train", "evaluate", "convert", "export", "package",
    ]  # fmt: skip
    old = {row["photo"]: row["split"] for row in tables.read(whole / "build/dataset.parquet").to_pylist()}
    assert {row["photo"]: row["split"] for row in delivered.rows if row["batch"] == "one"} == old
    assert delivered.people == (*PEOPLE, "kamal")


@pytest.mark.slow
def test_an_old_version_comes_back_bit_for_bit(delivered: Delivered, tmp_path: Path) -> None:
    """Checked out, and fetched elsewhere."""
    project = delivered.project
    found = json.loads(run(project, "castline", "compare", "v1.0.0", "v1.1.0", "--json"))
    assert found["people"] == {"added": ["kamal"], "removed": []}
    assert [pair[0] for pair in found["data"].values()] == [None]

    run(project, "git", "checkout", "-q", "recognizer@v1.0.0")
    run(project, "dvc", "checkout")
    assert contents(project / "models/recognizer") == delivered.first
    assert stages_run(run(project, "dvc", "repro")) == []
    assert run(project, "git", "status", "--porcelain") == ""

    # The second clone has a remote with what the first one pushed, and no cache of its own.
    run(project, "dvc", "push", "-q", "--remote", remote(project, tmp_path / "remote"))
    elsewhere = tmp_path / "elsewhere"
    run(tmp_path, "git", "clone", "-q", str(project), str(elsewhere))
    name = remote(elsewhere, tmp_path / "remote")
    get = ("dvc", "artifacts", "get", ".", "recognizer", "--rev", "v1.0.0", "-o", "out")
    run(elsewhere, *get, "--remote", name)
    assert contents(elsewhere / "out") == delivered.first


@pytest.mark.slow
def test_the_same_photos_elsewhere_give_the_same_bytes(
    delivered: Delivered, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old version from photos alone: neither cache nor outputs, nor a release that the report could compare with.
    Two processes find its faces, and two threads make its embeddings, however many did before."""
    for name in ("CASTLINE_THREADS", "CASTLINE_WORKERS"):
        monkeypatch.setenv(name, "2")
    elsewhere = tmp_path / "another place"
    run(tmp_path, "git", "clone", "-q", str(delivered.project), str(elsewhere))
    run(elsewhere, "git", "checkout", "-q", "recognizer@v1.0.0")
    run(elsewhere, "git", "tag", "-d", "recognizer@v1.0.0", "recognizer@v1.1.0")
    (elsewhere / "data/one").unlink()
    (elsewhere / "data/one").symlink_to(odd_photos(tmp_path / "same photos"))
    assert not (elsewhere / "build").exists() and not (elsewhere / ".dvc/cache").exists()
    shutil.rmtree(elsewhere / "reports")
    lock = yaml.safe_load((elsewhere / "dvc.lock").read_text())["stages"]
    made_by = {out["path"]: name for name, stage in lock.items() for out in stage["outs"]}
    assert stages_run(run(elsewhere, "dvc", "repro", "--force", made_by["reports/metrics.json"])) == [
        "faces@one", "reference", "embeddings@one", "base", "dataset", "train", "evaluate",
    ]  # fmt: skip
    for file in (
        "build/faces/one.parquet", "build/faces/one.rejects.parquet", "build/embeddings/one.parquet",
        "build/dataset.parquet", "reports/metrics.json", "reports/curves.csv", "reports/roc.csv", "reports/index.html",
    ):  # fmt: skip
        assert (elsewhere / file).read_bytes() == (whole / file).read_bytes(), file


def remote(folder: Path, path: Path) -> str:
    """A folder as a DVC remote, known to one clone only."""
    run(folder, "dvc", "remote", "add", "--local", "--default", "shelf", os.fspath(path))
    return "shelf"

"""Fine-tuning through the pipeline: killed in the middle it goes on, and what it tuned is what is evaluated."""

import os
import runpy
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from projects import ROOT, environment, run

from castline.embedding.feature_tables import fingerprint
from castline.files import tables
from castline.training.fit import Fitted

pytestmark = pytest.mark.slow

TUNED = (
    "training=last_block", "training.base_pace=0.01", "training.epochs=8", "training.patience=8", "augmentation=light"
)  # fmt: skip


@pytest.fixture(scope="module")
def project(three_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "project"
    shutil.copytree(three_people, folder, symlinks=True)
    run(folder, "castline", "compose", *TUNED)
    run(folder, "dvc", "repro", "dataset")
    return folder


def test_killed_in_the_middle_it_goes_on_and_ends_where_it_would_have(project: Path, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        shutil.copytree(project, folder, symlinks=True)
    one_thread = environment() | {"CASTLINE_THREADS": "1"}
    repro = subprocess.Popen(
        ["dvc", "repro", "train"], cwd=killed, env=one_thread, start_new_session=True, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not list(killed.glob("build/checkpoints/*.ckpt")):
        assert repro.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(repro.pid, signal.SIGKILL)
    repro.wait()
    assert not (killed / "build/model/head.safetensors").exists(), "it was killed in time"

    outputs = [
        subprocess.run(
            ["dvc", "repro", "train"], cwd=folder, env=one_thread, capture_output=True, text=True, timeout=600
        )
        for folder in (killed, whole)
    ]
    assert [done.returncode for done in outputs] == [0, 0], outputs
    assert "going on after epoch" in outputs[0].stdout and "going on after epoch" not in outputs[1].stdout
    for file in ("build/model/base/base.safetensors", "build/model/head.safetensors", "reports/curves.csv"):
        assert (killed / file).read_bytes() == (whole / file).read_bytes(), file
    assert not list(killed.glob("build/checkpoints/*"))

    run(killed, "dvc", "repro", "evaluate")
    assert fingerprint(killed / "build/model/base") != fingerprint(killed / "build/base")
    frozen = tables.matrix(tables.read(killed / "build/embeddings/one.parquet"), "feature")
    memory = tables.read(killed / "build/model/memory.parquet")
    tested = memory.filter(memory.column("feature").is_valid())
    assert not any((row == frozen).all(1).any() for row in tables.matrix(tested, "feature")), (
        "features of the tuned model"
    )


@pytest.mark.parametrize(("best", "expected"), [(0, True), (1, False)])
def test_that_nothing_was_better_is_said(best: int, expected: bool, capsys: pytest.CaptureFixture[str]) -> None:
    summary = runpy.run_path(str(ROOT / "stages/train.py"))["summary"]
    history = [{"epoch": -1.0, "val_loss": 0.5}, {"epoch": 0.0, "val_loss": 0.6, "train_loss": 0.1}]
    summary(SimpleNamespace(people=("ann", "bob")), [1, 2, 3], [4], Fitted(history, best), 0.01)
    said = capsys.readouterr().out
    assert said.startswith("3 faces of 2 people, 1 to stop by\nkept ")
    assert ("kept what it started from, better than any of 1: val_loss 0.5000" in said) == expected
    assert ("next: other steps of the base model, training.base_pace is 0.01" in said) == expected

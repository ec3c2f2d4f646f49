"""Every named recipe in conf/experiment/ runs, at small scale: a few photos, and the pipeline up to its report."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from projects import ROOT, run

pytestmark = pytest.mark.slow

EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
# Weights that are fetched are not at hand; a thousand numbers, and fifteen epochs, are more than a test needs.
SMALLER = {"resnet50": ["training.start=scratch"], "seed": ["head.hidden=16"], "tuned": ["training.epochs=1"]}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_recipe_runs(three_people: Path, tmp_path: Path, name: str) -> None:
    """No recipe changes the faces that are found."""
    folder = tmp_path / "project"
    shutil.copytree(three_people, folder, symlinks=True)
    smaller = [override for word, overrides in SMALLER.items() if word in name for override in overrides]
    run(folder, "castline", "compose", f"experiment={name}", "training.folds=0", *smaller)
    run(folder, "dvc", "repro", "evaluate")
    metrics = json.loads((folder / "reports/metrics.json").read_text())
    assert metrics["n_people"] == 3 and metrics["n_test"] == 3
    if name.startswith("seed"):
        with (folder / "reports/curves.csv").open() as file:
            runs = [(row["run"], int(row["epoch"])) for row in csv.DictReader(file)]
        assert runs == [(run, epoch) for run in ("dropout=0.5", "dropout=0") for epoch in range(1, 11)]
        report = (folder / "reports/index.html").read_text()
        assert "heads that differ in dropout alone" in report
        base = json.loads((folder / "build/model/base/base.json").read_text())
        assert base["embedding_size"] > 50_000 if "gap" not in name else base["embedding_size"] < 3000


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_recipe_says_what_it_reached_or_that_it_was_not_run(name: str) -> None:
    said = " ".join(
        line.removeprefix("#").strip()
        for line in (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text().splitlines()
        if line.startswith("#")
    )
    assert re.search(r"[Tt]op-1 0\.\d+.* on (FaceScrub|Pins)", said) or "not run" in said.lower(), said

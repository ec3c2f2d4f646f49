"""A project of one stage, with released versions of a model that is given, for tests of the app."""

import json
import shutil
from pathlib import Path

import yaml
from projects import run

_PIPELINE = {
    "stages": {
        "export": {
            "cmd": "python -c pass",
            "deps": ["data/first"],
            "params": ["data", "head"],
            "outs": ["models/recognizer", "reports/index.html"],
        }
    }
}
HOSTILE = "Eve :red[x] <b>*y*</b>"


def make_versions(folder: Path, bundle: Path) -> Path:
    """v0.1.0, which is in prod, and v0.2.0, which takes Ann for somebody else; tags that are no versions; and a card
    that would load a picture.
    """
    shutil.copytree(bundle, folder / "models/recognizer")
    (folder / "data/first/ann").mkdir(parents=True)
    (folder / "data/first/ann/1.jpg").write_text("no picture")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(_PIPELINE))
    (folder / "params.yaml").write_text(yaml.safe_dump({"data": {"batches": ["first"]}, "head": {"kind": "softmax"}}))
    (folder / "reports").mkdir()
    (folder / "reports/index.html").write_text("<!doctype html><title>Report</title><p>Who is who")
    (folder / "MODEL_CARD.md").write_text("---\nlicense: other\n---\n\n# A card\n\n![x](https://example.org/x.png)\n")
    _measured(folder, 1.0, ["ann", "ann", HOSTILE])
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "config", "user.name", "Tester")
    run(folder, "git", "config", "user.email", "tester@example.org")
    run(folder, "dvc", "init", "-q")
    run(folder, "dvc", "commit", "-q", "-f")
    _release(folder, "recognizer@v0.1.0", "recognizer#prod#1")
    _measured(folder, 0.5, ["ann", HOSTILE, HOSTILE])
    _release(folder, "recognizer@v0.2.0", "recognizer@v0.3.0-rc.1")
    run(folder, "git", "tag", "recognizer@v0.4.0")  # a bookmark
    return folder


def _measured(folder: Path, top1: float, named: list[str]) -> None:
    """named: whom two faces of Ann's and one of the hostile name's were taken for."""
    reports = {
        "metrics": {"top1": top1, "top1_low": 0.2, "top1_high": 1.0, "n_test": 3, "n_people": 4, "ece": 0.02},
        "export": {"float32": {"top1": top1, "faces": 3, "bytes": 5, "threshold": 0.4}},
        "dataset": {
            "photos": 9,
            "faces": 8,
            "kept": 6,
            "left_out": {"too_small": 1},
            "splits": {"train": 3, "test": 3},
        },
        "labels": {"photos": 2, "rule": "majority", "agreement": {"alpha": 0.8}},
    }
    for name, values in reports.items():
        (folder / "reports" / f"{name}.json").write_text(json.dumps(values))
    rows = [f'"{actual}","{name}"' for actual, name in zip(["ann", "ann", HOSTILE], named, strict=True)]
    (folder / "reports/confusion.csv").write_text("\n".join(["actual,predicted", *rows]) + "\n")


def _release(folder: Path, *tags: str) -> None:
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", tags[0])
    for tag in tags:
        run(folder, "git", "tag", "-a", "-m", tag, tag)

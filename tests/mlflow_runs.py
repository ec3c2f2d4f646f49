"""A folder with what a stage's run leaves behind, and stages that track it, without a pipeline."""

import json
from pathlib import Path

import yaml

from castline.tracking.spool import tracked

CURVES = "run,epoch,train_loss,val_loss,train_accuracy,val_accuracy,kept\n"


def make(folder: Path, uri: str, seed: int = 1, epochs: int = 3, **tracking: object) -> Path:
    """The present state of a pipeline that has run with `seed`."""
    for name in ("build", "reports", "conf"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "conf/config.yaml").touch()
    (folder / "build/dataset.parquet").write_bytes(b"a table")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": {"deps": ["build/dataset.parquet"]}}}))
    settings = {
        "base_model": {"name": "net"},
        "head": {"kind": "softmax"},
        "training": {"seed": seed, "odd 'key'; DROP": "x" * 7000},
        "data": {"batches": ["one"]},
        "tracking": {"kind": "mlflow", "uri": uri, **tracking},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    lock = {
        "dataset": {
            "deps": [{"path": "data/one", "md5": "a1.dir"}],
            "outs": [{"path": "build/dataset.parquet", "md5": "d1"}],
        },
        "train": {"outs": [{"path": "build/model", "md5": f"m{seed}"}]},
    }
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}))
    rows = [f"softmax,{n},{1 / n:.6g},{2 / n:.6g},0.5,0.5,{int(n == epochs)}\n" for n in range(1, epochs + 1)]
    rows += ["dropout=0.5,1,1,1,0.5,0.5,1\n"]
    (folder / "reports/curves.csv").write_text(CURVES + "".join(rows))
    (folder / "reports/index.html").write_text("<!doctype html><title>Who is who</title>")
    metrics = {"top1": 0.5 + seed / 100, "open": {"fpir": 0.01}, "../odd": 1.0}
    (folder / "reports/metrics.json").write_text(json.dumps(metrics))
    return folder


@tracked("train", "reports/curves.csv")
def train() -> None:
    """What a stage does is not looked at."""


@tracked("evaluate", "reports/metrics.json", "reports/index.html")
def evaluate() -> None:
    """The same."""

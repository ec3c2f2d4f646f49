"""Base models, heads and what of them is tuned, on the same photos and split: how good, how long, how large.

    python benchmarks/choices.py PHOTOS                            # frozen base models under every head
    python benchmarks/choices.py PHOTOS --tune last_block all      # and these parts tuned, under the softmax head
    python benchmarks/choices.py PHOTOS --base mobilenetv2 --head cosine
    python benchmarks/choices.py PHOTOS --work DIR                 # keep the project, and go on from it

Prints a table and appends to a CSV beside this file. CPU seconds are the operating system's account of `dvc repro
train`: features by the base model and training, with the start of DVC and PyTorch in it; of a second head on the same
base model, training alone. Megabytes are those of the network in float32 with its head.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from account import account
from pipeline import make_project, run
from record import command_line, record

ROOT = Path(__file__).parents[1]
COLUMNS = ("base_model", "head", "tune", "top1", "top1_low", "top1_high", "epochs", "cpu_s", "mb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--base", nargs="+", default=["dlib_face_resnet", "efficientnet_lite0", "mobilenetv2"])
    parser.add_argument("--head", nargs="+", default=["softmax", "cosine", "prototype"])
    parser.add_argument("--tune", nargs="*", default=[], help="batchnorm, last_block, all: under the first head")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="Hydra overrides, for all runs")
    parser.add_argument("--work", type=Path, help="the project's folder; a temporary one if left out")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "choices.csv", help="rows are appended")
    options = parser.parse_args()
    command = command_line(options.photos)
    print(f"$ {command}\n")
    print(f"{'base model':<20}{'head':<11}{'tuned':<12}{'top-1':>7}{'95 %':>16}{'epochs':>8}{'CPU s':>8}{'MB':>7}")
    with tempfile.TemporaryDirectory() as temporary:
        project = options.work or Path(temporary, "project")
        if not project.exists():
            make_project(project)
            run(project, "castline", "data", "use", str(options.photos.resolve()), "--batch", "photos")
        run(project, "dvc", "repro", "dataset")
        for base in options.base:
            run(project, "castline", "compose", f"base_model={base}", *options.set)
            run(project, "dvc", "repro", "base")
            plans = [(head, "head") for head in options.head] + [(options.head[0], tune) for tune in options.tune]
            for head, tune in plans:
                row = measured(project, base, head, tune, options.set)
                show(row)
                # At once: tuning takes hours, and what was measured before it is stopped counts.
                name = f"{base} {head} {tune}"
                record(options.csv, command, [("choice", name, column, row[column]) for column in COLUMNS[3:]])


def measured(project: Path, base: str, head: str, tune: str, overrides: list[str]) -> dict[str, Any]:
    training = [] if tune == "head" else [f"training={tune}", "augmentation=light"]
    run(project, "castline", "compose", f"base_model={base}", f"head={head}", *training, *overrides)
    log = project / "train.log"
    _, cpu, _ = account(["dvc", "repro", "train"], log, project)
    run(project, "dvc", "repro", "evaluate")
    metrics = json.loads((project / "reports" / "metrics.json").read_text())
    files = (
        project / "build" / "model" / "base" / "base.safetensors",
        project / "build" / "model" / "head.safetensors",
    )
    return {
        "base_model": base,
        "head": head,
        "tune": tune,
        **{name: metrics[name] for name in ("top1", "top1_low", "top1_high")},
        "epochs": int((project / "reports" / "curves.csv").read_text().splitlines()[-1].split(",")[1]),
        "cpu_s": round(cpu, 1),
        "mb": round(sum(file.stat().st_size for file in files) / 1e6, 1),
    }


def show(row: dict[str, Any]) -> None:
    interval = f"{row['top1_low']:.3f}–{row['top1_high']:.3f}"
    print(f"{row['base_model']:<20}{row['head']:<11}{row['tune']:<12}{row['top1']:>7.4f}{interval:>16}", end="")
    print(f"{row['epochs']:>8}{row['cpu_s']:>8.1f}{row['mb']:>7.1f}", flush=True)


if __name__ == "__main__":
    main()

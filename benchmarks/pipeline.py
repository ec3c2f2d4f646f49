"""The whole pipeline on a folder of photos, in a project of its own: how good, how long, how much memory.

    python benchmarks/pipeline.py PHOTOS                                    # a folder of photos for each person
    python benchmarks/pipeline.py PHOTOS --set base_model=efficientnet_lite0
    python benchmarks/pipeline.py PHOTOS --splits 5                         # top-1 over five other splits as well
    python benchmarks/pipeline.py PHOTOS --work DIR                         # keep the project, and go on from it

Prints tables and appends to a CSV beside this file, with machine, versions and command. Wall and CPU seconds and the
peak memory of the largest process are the operating system's account of each `dvc repro STAGE`, DVC's start included.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from account import account, environment
from record import record

ROOT = Path(__file__).parents[1]
STAGES = (
    "faces", "reference", "embeddings", "base", "dataset", "features", "train", "evaluate", "convert", "export",
    "package",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--batch", default="photos", help="name of the batch in the new project")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="Hydra overrides")
    parser.add_argument("--work", type=Path, help="the project's folder; a temporary one if left out")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "pipeline.csv", help="rows are appended")
    parser.add_argument("--splits", type=int, default=0, help="train and measure on so many other splits as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        project = options.work or Path(temporary, "project")
        if not project.exists():
            make_project(project)
            run(project, "castline", "data", "use", str(options.photos.resolve()), "--batch", options.batch)
        run(project, "castline", "compose", *options.set)
        settings = yaml.safe_load((project / "params.yaml").read_text())
        idle = set() if settings["features"]["batches"] else {"features"}  # DVC would take no stage for all stages
        stages = [(stage, *measured(project, stage)) for stage in STAGES if stage not in idle]
        report(project, stages, options)
        if options.splits:
            over_splits(project, options)


def over_splits(project: Path, options: argparse.Namespace) -> None:
    """How much of top-1 is the luck of one split: the same photos and settings under other salts."""
    found = []
    for number in range(options.splits):
        run(project, "castline", "compose", *options.set, f"split.salt=split{number}")
        run(project, "dvc", "repro", "evaluate")
        found.append(json.loads((project / "reports" / "metrics.json").read_text())["top1"])
    mean = sum(found) / len(found)
    print(f"\ntop-1 over {len(found)} other splits: {', '.join(f'{top1:.4f}' for top1 in found)}; mean {mean:.4f}")
    record(
        options.csv,
        f"{command_line(options)} --splits {options.splits}",
        [("splits", "pytorch", "top1_mean", round(mean, 4))],
    )


def make_project(project: Path) -> None:
    """What git tracks of this tree, as it stands now, in a repository of its own."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        source, target = ROOT / name, project / name
        if source.is_file() and not name.startswith("sample/") and name != "dvc.lock":
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    (project / "sample" / "photos").mkdir(parents=True)
    for command in ("git init -q", "git add -A", "git -c user.name=b -c user.email=b@localhost commit -qm benchmark"):
        run(project, *command.split())


def run(project: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")


def measured(project: Path, stage: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak megabytes of `dvc repro --single-item STAGE`."""
    return account(["dvc", "repro", "--single-item", stage], project / f"{stage}.log", project)


def report(project: Path, stages: list[tuple[str, float, float, float]], options: argparse.Namespace) -> None:
    metrics = json.loads((project / "reports" / "metrics.json").read_text())
    dataset = json.loads((project / "reports" / "dataset.json").read_text())
    exported = json.loads((project / "reports" / "export.json").read_text())
    command = command_line(options)
    print(f"$ {command}\n")
    print(f"{dataset['photos']} photos, {dataset['faces']} faces, {dataset['kept']} kept of {dataset['people']} people")
    low, high = metrics["top1_low"], metrics["top1_high"]
    print(f"top-1 {metrics['top1']:.4f} ({low:.3f}–{high:.3f}) on {metrics['n_test']} test faces", end=", ")
    print(f"top-5 {metrics['top5']:.4f}\n")
    print(f"{'file':<10}{'top-1':>8}{'agrees':>8}{'MB':>8}{'ms':>8}")
    for name, file in exported.items():
        print(f"{name:<10}{file['top1']:>8.4f}{file['agreement']:>8.4f}{file['bytes'] / 1e6:>8.1f}", end="")
        print(f"{bundle(project)['files'][name]['latency_ms']:>8.2f}")
    print(f"\n{'stage':<12}{'wall s':>8}{'CPU s':>8}{'peak MB':>9}")
    for stage, wall, cpu, peak in stages:
        print(f"{stage:<12}{wall:>8.1f}{cpu:>8.1f}{peak:>9.0f}")
    print(f"{'total':<12}{sum(row[1] for row in stages):>8.1f}{sum(row[2] for row in stages):>8.1f}")
    rows: list[tuple[str, str, str, object]] = [("metric", "pytorch", name, value) for name, value in metrics.items()]
    rows += [("file", name, key, value) for name, file in exported.items() for key, value in file.items()]
    for stage, wall, cpu, peak in stages:
        measures = {"wall_s": f"{wall:.1f}", "cpu_s": f"{cpu:.1f}", "peak_mb": f"{peak:.0f}"}
        rows += [("stage", stage, measure, value) for measure, value in measures.items()]
    record(options.csv, command, rows)


def command_line(options: argparse.Namespace) -> str:
    overrides = ["--set", *options.set] if options.set else []
    return shlex.join(["python", "benchmarks/pipeline.py", options.photos.name, *overrides])


def bundle(project: Path) -> dict[str, Any]:
    return json.loads((project / "models" / "recognizer" / "bundle.json").read_text())


if __name__ == "__main__":
    main()

"""People arrive in deliveries: each learned on top of the version before, beside a full run on all photos so far.

    python benchmarks/incremental.py PHOTOS                                  # 50 people, then 10 more
    python benchmarks/incremental.py PHOTOS --repeats 3                      # each run three times, in turn
    python benchmarks/incremental.py PHOTOS --people 20 10 10 10 10 --later 0.2 --draw docs/incremental.svg

PHOTOS is a folder of photos for each person. `--later` holds back that share of each person's photos for the next
delivery, so that new photos of known people come as well. Full runs start from nothing, in a project and a cache of
their own. Both are tested on the same faces: those of all deliveries so far.

Prints a table and appends to a CSV beside this file. CPU seconds are the operating system's account: `cpu`, from
photos to bundle, of `castline compose` and `dvc repro export`, DVC itself included; `stages`, of the stages in it
alone; `all`, with the report as well. What the version cost before is not counted again. With `--repeats`, costs are
medians, and shares are medians of the shares of runs that followed each other; each run's costs are printed.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from account import account
from pipeline import make_project, run
from record import command_line, record

ROOT = Path(__file__).parents[1]
COLUMNS = (
    ("delivery", "{}"), ("people", "{}"), ("photos_read", "{}"), ("test_faces", "{}"),
    ("old_before", "{:.4f}"), ("old_after", "{:.4f}"), ("points_forgotten", "{:+.2f}"), ("new_after", "{:.4f}"),
    ("top1", "{:.4f}"), ("full_top1", "{:.4f}"), ("cpu_s", "{:.1f}"), ("full_cpu_s", "{:.1f}"), ("cpu_share", "{:.3f}"),
    ("stages_share", "{:.3f}"), ("all_share", "{:.3f}"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--people", type=int, nargs="+", default=[50, 10], help="new people in each delivery")
    parser.add_argument("--later", type=float, default=0.0, help="share of a person's photos that come one later")
    parser.add_argument("--repeats", type=int, default=1, help="how often each run's cost is taken")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="Hydra overrides, for all runs")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "incremental.csv", help="rows are appended")
    parser.add_argument("--draw", type=Path, help="draw top-1 over the deliveries into this file")
    options = parser.parse_args()
    command = command_line(options.photos)
    print(f"$ {command}\n")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        names = deliveries(options, work / "photos")
        rows = [row for row in learned(names, work, options) if row]
    print("  ".join(f"{name:>{width(name)}}" for name, _ in COLUMNS))
    for row in rows:
        print("  ".join(f"{shown(row, name, form):>{width(name)}}" for name, form in COLUMNS))
    if options.draw:
        draw(rows, options.draw)
    record(
        options.csv,
        command,
        [("delivery", str(row["delivery"]), name, row[name]) for row in rows for name, _ in COLUMNS[1:] if name in row],
    )


def width(name: str) -> int:
    return max(len(name), 7)


def shown(row: dict[str, Any], name: str, form: str) -> str:
    return form.format(row[name]) if name in row else "–"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Top-1 after each delivery, learned bit by bit and in full, and what the bits cost."""
    from matplotlib.figure import Figure

    later = [row for row in rows if "full_top1" in row]
    figure = Figure(figsize=(8, 3), layout="constrained")
    accuracy, cost = figure.subplots(1, 2)
    people = [row["people"] for row in rows]
    accuracy.plot(people, [row["top1"] for row in rows], "o-", color="#0072b2", label="delivery by delivery")
    full = [rows[0]["top1"], *(row["full_top1"] for row in later)]
    accuracy.plot(people, full, "s--", color="#d55e00", label="all photos each time")
    accuracy.set(xlabel="people", ylabel="top-1", ylim=(min(0.9, *full, *(row["top1"] for row in rows)), 1))
    accuracy.legend(frameon=False, loc="lower left")
    people = [row["people"] for row in later]
    cost.plot(people, [row["cpu_s"] for row in later], "o-", color="#0072b2")
    cost.plot(people, [row["full_cpu_s"] for row in later], "s--", color="#d55e00")
    cost.set(xlabel="people", ylabel="CPU seconds, photos to bundle", ylim=(0, None))
    for axes in (accuracy, cost):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None}, transparent=False)


def deliveries(options: argparse.Namespace, folder: Path) -> list[str]:
    """Photos laid out by delivery, as hard links or copies: folder/d1/PERSON/*, folder/d2/PERSON/* ..."""
    people = sorted(path for path in options.photos.resolve().iterdir() if path.is_dir() and path.name[0] != "_")
    if sum(options.people) > len(people):
        sys.exit(f"{sum(options.people)} people are wanted, {options.photos} has {len(people)}")
    first = 0
    for number, count in enumerate(options.people, start=1):
        for person in people[first : first + count]:
            photos = sorted(path for path in person.iterdir() if path.is_file())
            held = round(options.later * len(photos)) if number < len(options.people) else 0
            for i, photo in enumerate(photos):
                target = folder / f"d{number + (i < held)}" / person.name / photo.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(photo, target)
        first += count
    return [f"d{number}" for number in range(1, len(options.people) + 1)]


def learned(names: list[str], work: Path, options: argparse.Namespace) -> Any:
    project = work / "incremental"
    make_project(project)
    before = work / "before"
    for number, name in enumerate(names, start=1):
        adding(project, work, name, number - 1)
        if number == 1:
            cost_of(project, *options.set)
            row = outcome(project, number)
        else:
            costs, full_costs = [], []
            shutil.copytree(project, before, symlinks=True)
            for _ in range(options.repeats):
                full = work / f"full{number}"
                shutil.rmtree(full, ignore_errors=True)
                make_project(full)
                for i, earlier in enumerate(names[:number]):
                    adding(full, work, earlier, i)
                full_costs.append(cost_of(full, *options.set))
                shutil.rmtree(project)
                shutil.copytree(before, project, symlinks=True)
                # The photos of earlier deliveries are not to be had: only what the version remembers of them is.
                (work / "photos" / names[number - 2]).rename(work / "photos" / f"gone{number}")
                start = f"training.start=recognizer@v{number - 1}.0.0"
                costs.append(cost_of(project, *options.set, "training=incremental", start))
                (work / "photos" / f"gone{number}").rename(work / "photos" / names[number - 2])
                print(f"CPU seconds: update {costs[-1]}, in full {full_costs[-1]}", file=sys.stderr)
            shutil.rmtree(before)
            cost, full_cost = median(costs), median(full_costs)
            share = median([one / other for one, other in zip(costs, full_costs, strict=True)])
            row, of_full = outcome(project, number), outcome(full, number)
            row |= {"full_top1": of_full["top1"], "full_cpu_s": full_cost.bundle, "cpu_s": cost.bundle}
            row |= {"cpu_share": share.bundle, "stages_share": share.stages, "all_share": share.all}
            if row["test_faces"] != of_full["test_faces"]:
                print(f"note: tested on {row['test_faces']} faces, the full run on {of_full['test_faces']}")
        git(project, "add", "-A")
        git(project, "commit", "-qm", f"delivery {number}")
        git(project, "tag", "-a", f"recognizer@v{number}.0.0", "-m", f"delivery {number}")
        print(json.dumps(row), file=sys.stderr)
        yield row


def adding(project: Path, work: Path, name: str, number: int) -> None:
    run(project, "castline", "data", "add" if number else "use", str(work / "photos" / name), "--batch", name)


def git(project: Path, *command: str) -> None:
    run(project, "git", "-c", "user.name=b", "-c", "user.email=b@localhost", *command)


@dataclass
class Cost:
    """CPU seconds, or shares of them: from photos to bundle; of the stages in it alone; and with the report as well."""

    bundle: float
    stages: float
    all: float

    def __truediv__(self, other: "Cost") -> "Cost":
        return Cost(self.bundle / other.bundle, self.stages / other.stages, self.all / other.all)


def median(costs: list[Cost]) -> Cost:
    return Cost(*map(statistics.median, zip(*map(astuple, costs), strict=True)))


# DVC in a process of ours, which the operating system tells what DVC's own children took.
_DVC = """
import json, resource, sys
from dvc.cli import main
code = main(["repro", *sys.argv[2:]])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
open(sys.argv[1], "w").write(json.dumps(used.ru_utime + used.ru_stime))
sys.exit(code)
"""


def cost_of(project: Path, *overrides: str) -> Cost:
    """What composing the settings and running what they ask for costs."""
    log, stages = project / "run.log", project / "stages.json"
    _, composed, _ = account(["castline", "compose", *overrides], log, project)
    _, bundle, _ = account([sys.executable, "-c", _DVC, str(stages), "export"], log, project)
    _, report, _ = account(["dvc", "repro"], log, project)
    return Cost(composed + bundle, json.loads(stages.read_text()), composed + bundle + report)


def outcome(project: Path, number: int) -> dict[str, Any]:
    metrics = json.loads((project / "reports" / "metrics.json").read_text())
    photos = json.loads((project / "reports" / "dataset.json").read_text())["photos"]
    kept = {key: metrics[key] for key in ("old_before", "old_after", "points_forgotten", "new_after") if key in metrics}
    known = {"people": metrics["n_people"], "photos_read": photos, "test_faces": metrics["n_test"]}
    return {"delivery": number, **known, "top1": metrics["top1"], **kept}


if __name__ == "__main__":
    main()

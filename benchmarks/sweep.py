"""What a point of a sweep over the head costs, and which stages it runs, in a project of its own.

    python benchmarks/sweep.py                                    # on the sample
    python benchmarks/sweep.py PHOTOS --points 0.1 0.3 0.5        # a folder of photos for each person
    python benchmarks/sweep.py PHOTOS --work DIR                  # keep the project, and go on from it

The pipeline runs once and is committed; each point is then `dvc exp run --temp -S head.dropout=POINT`. Wall and CPU
seconds are the operating system's account of that command, DVC's start and the copy it makes included; those of each
stage are not told apart. Prints a table and appends to a CSV beside this file.
"""

import argparse
import re
import shlex
import tempfile
from pathlib import Path

from account import account
from pipeline import ROOT, make_project, run
from record import record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", default=ROOT / "sample" / "photos" / "first")
    parser.add_argument("--points", nargs="+", default=["0.1", "0.3", "0.5"], help="values of head.dropout")
    parser.add_argument("--work", type=Path, help="the project's folder; a temporary one if left out")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "sweep.csv", help="rows are appended")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        project = options.work or Path(temporary, "project")
        if not project.exists():
            make_project(project)
            run(project, "castline", "data", "use", str(options.photos.resolve()), "--batch", "photos")
        for command in ("git config user.name b", "git config user.email b@localhost", "dvc repro", "git add -A"):
            run(project, *command.split())
        run(project, "git", "commit", "--allow-empty", "-qm", "where the sweep starts")
        points = [measured(project, point) for point in options.points]
    command = shlex.join(["python", "benchmarks/sweep.py", options.photos.name, "--points", *options.points])
    print(f"$ {command}\n\n{'head.dropout':<14}{'wall s':>8}{'CPU s':>8}  stages that ran")
    for point, wall, cpu, stages in points:
        print(f"{point:<14}{wall:>8.1f}{cpu:>8.1f}  {' '.join(stages) or 'none'}")
    rows: list[tuple[str, str, str, object]] = []
    for point, wall, cpu, stages in points:
        measures = {"wall_s": f"{wall:.1f}", "cpu_s": f"{cpu:.1f}", "stages": " ".join(stages)}
        rows += [("point", f"head.dropout={point}", measure, value) for measure, value in measures.items()]
    record(options.csv, command, rows)


def measured(project: Path, point: str) -> tuple[str, float, float, list[str]]:
    """A point, its wall and CPU seconds, and the stages that ran and were not taken from the cache."""
    log = project / ".dvc" / "tmp" / "point.log"
    wall, cpu, _ = account(["dvc", "exp", "run", "--temp", "-S", f"head.dropout={point}"], log, project)
    return point, wall, cpu, re.findall(r"Running stage '([^']+)'", log.read_text())


if __name__ == "__main__":
    main()

"""What `castline fleet` adds to a stage: a pipeline whose stages take no time, by `dvc repro` and as tasks of ClearML.

    python benchmarks/fleet.py

The tasks run against the tests' double of ClearML's server, by their stand-in for an agent, which starts a Python for
each as an agent does. What a real agent adds, and a server on a network, is not in it. CPU seconds are the operating
system's account of all processes but the double's. Prints a table and appends to a CSV beside this file.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from account import environment
from record import record

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from clearml_double import agent_double, clearml_double  # noqa: E402
from fleet_projects import tiny_project  # noqa: E402
from projects import run  # noqa: E402

STAGES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "fleet.csv", help="rows are appended")
    options = parser.parse_args()
    rows: list[tuple[str, str, str, object]] = []
    print(f"{'way':<14}{'stages':>7}{'wall s':>9}{'CPU s':>8}{'CPU s a stage':>15}")
    with tempfile.TemporaryDirectory() as folder:
        for way in (repro, fleet):
            project = tiny_project(Path(folder, way.__name__, "project"))
            began, used = time.perf_counter(), cpu()
            way(project)
            wall, seconds = time.perf_counter() - began, cpu() - used
            print(f"{way.__name__:<14}{STAGES:>7}{wall:>9.1f}{seconds:>8.1f}{seconds / STAGES:>15.1f}")
            measures = {"wall_s": wall, "cpu_s": seconds, "cpu_s_a_stage": seconds / STAGES}
            rows += [("way", way.__name__, measure, f"{value:.1f}") for measure, value in measures.items()]
    record(options.csv, "python benchmarks/fleet.py", rows)


def repro(project: Path) -> None:
    """`dvc repro`, in the project itself."""
    run(project, "dvc", "repro")


def fleet(project: Path) -> None:
    """`castline fleet run`, its tasks included."""
    with clearml_double(project.with_name("files")) as server:
        os.environ.update(server.environment())
        with agent_double(server, project.with_name("agent"), environment(), fresh=True):
            run(project, "castline", "fleet", "run", "orchestrator=clearml", f"orchestrator.repository={project}")


def cpu() -> float:
    """CPU seconds of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()

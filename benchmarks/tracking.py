"""What telling MLflow costs a run of train, evaluate and export: off, to a server, to a server that is away.

    python benchmarks/tracking.py PROJECT           # a clone that has run, such as pipeline.py --work DIR
    python benchmarks/tracking.py PROJECT --runs 3

PROJECT is copied and only read. MLflow's server is started as `castline track ui` starts it, and is not counted. Prints
a table and appends to a CSV beside this file, with machine, versions and command. Wall and CPU seconds are the system's
account of `dvc repro --single-item --force` of the three stages, DVC's start included; of several runs, the quickest.
"""

import argparse
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from account import account, environment
from record import record

ROOT = Path(__file__).parents[1]
STAGES = ("train", "evaluate", "export")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path, help="a clone whose pipeline has run")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "tracking.csv", help="rows are appended")
    options = parser.parse_args()
    rows: list[tuple[str, str, str, object]] = []
    with tempfile.TemporaryDirectory() as temporary:
        project = Path(temporary, "project")
        shutil.copytree(options.project, project, symlinks=True)
        with mlflow_server(project) as url:
            away = f"http://127.0.0.1:{free_port()}"
            ways = {
                "off": ["tracking=none"],
                "to a server": ["tracking=mlflow", f"tracking.uri={url}", "tracking.timeout=60"],
                "to a server that is away": ["tracking=mlflow", f"tracking.uri={away}"],
            }
            print(f"{'tracking':<26}{'wall s':>8}{'CPU s':>8}")
            for way, overrides in ways.items():
                run(project, "castline", "compose", *overrides)
                wall, cpu = min(measured(project) for _ in range(options.runs))
                print(f"{way:<26}{wall:>8.1f}{cpu:>8.1f}", flush=True)
                rows += [("tracking", way, "wall_s", f"{wall:.1f}"), ("tracking", way, "cpu_s", f"{cpu:.1f}")]
    command = ["python", "benchmarks/tracking.py", options.project.name, "--runs", str(options.runs)]
    record(options.csv, shlex.join(command), rows)


def measured(project: Path) -> tuple[float, float]:
    spent = [
        account(["dvc", "repro", "--single-item", "--force", stage], project / f"{stage}.log", project)
        for stage in STAGES
    ]
    return sum(one[0] for one in spent), sum(one[1] for one in spent)


@contextmanager
def mlflow_server(project: Path) -> Iterator[str]:
    command = ["castline", "track", "ui", "--port", str(free_port())]
    with subprocess.Popen(command, cwd=project, env=environment(), stdout=subprocess.PIPE, text=True) as server:
        try:
            found = re.search(r"http://\S+", server.stdout.readline() if server.stdout else "")
            if not found:
                sys.exit("MLflow did not start")
            yield found[0]
        finally:
            server.send_signal(signal.SIGTERM)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def run(project: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()

"""Bytes moved when a second clone reuses the first one's work, for each way of sharing.

    python benchmarks/sharing.py PROJECT        # a clone that has run and is committed, such as pipeline.py --work DIR

PROJECT is cloned and its cache copied; it is only read. Prints a table and appends to a CSV beside this file, with
machine, versions and command. What passes to and from S3 is counted by the double of the tests, requests' heads left
out; what is copied to and from a folder or a shared cache is the size of the files that are new there.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from record import record

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from s3_double import ACCESS_KEY, BUCKET, SECRET_KEY, S3Double  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path, help="a clone whose pipeline has run, its dvc.lock committed")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "sharing.csv", help="rows are appended")
    options = parser.parse_args()
    rows: list[tuple[str, str, str, object]] = []
    print(f"{'way':<14}{'step':<34}{'objects':>8}{'bytes':>13}{'stages run':>11}")
    for way in (through_s3, through_folder, through_shared_cache):
        with tempfile.TemporaryDirectory() as temporary:
            for step, objects, size, stages in way(options.project.resolve(), Path(temporary)):
                name = way.__name__.removeprefix("through_")
                print(f"{name:<14}{step:<34}{objects:>8}{size:>13,}{stages:>11}")
                rows += [
                    (name, step, measure, value)
                    for measure, value in (("objects", objects), ("bytes", size), ("stages_run", stages))
                ]
    record(options.csv, shlex.join(["python", "benchmarks/sharing.py", options.project.name]), rows)


Steps = list[tuple[str, int, int, int]]


def through_s3(project: Path, work: Path) -> Steps:
    first = first_clone(project, work)
    with S3Double() as server:
        run(first, "dvc", "remote", "add", "-d", "team", f"s3://{BUCKET}/castline")
        run(first, "dvc", "remote", "modify", "team", "endpointurl", server.url)
        commit(first)
        steps: Steps = []

        def step(name: str, direction: str, stages: int) -> None:
            steps.append((name, server.moved[f"objects {direction}"], server.moved[f"bytes {direction}"], stages))
            server.moved.clear()

        run(first, "castline", "share", "push")
        run(first, "dvc", "push")
        step("first push, up", "up", 0)
        run(first, "dvc", "push", "--run-cache")
        step("push of the same again, up", "up", 0)
        second = clone_of(first, work / "second")
        run(second, "dvc", "pull", "--run-cache")
        stages = ran_stages(run(second, "dvc", "repro"))
        step("second clone, down", "down", stages)
        run(second, "castline", "compose", "head.dropout=0.5")
        stages = ran_stages(run(second, "dvc", "repro", "train"))
        run(second, "castline", "share", "push")
        step("second trains another head, up", "up", stages)
        server.moved.clear()
        run(first, "castline", "compose", "head.dropout=0.5")
        run(first, "dvc", "pull", "--run-cache")
        stages = ran_stages(run(first, "dvc", "repro", "--pull", "train"))
        step("first gets that head, down", "down", stages)
        return steps


def through_folder(project: Path, work: Path) -> Steps:
    first, remote = first_clone(project, work), work / "remote"
    run(first, "dvc", "remote", "add", "-d", "team", str(remote))
    commit(first)
    run(first, "castline", "share", "push")
    run(first, "dvc", "push")
    steps: Steps = [("first push, up", *held(remote), 0)]
    second = clone_of(first, work / "second")
    run(second, "dvc", "pull", "--run-cache")
    stages = ran_stages(run(second, "dvc", "repro"))
    return [*steps, ("second clone, down", *held(second / ".dvc/cache"), stages)]


def through_shared_cache(project: Path, work: Path) -> Steps:
    first, cache = first_clone(project, work), work / "cache"
    shutil.move(first / ".dvc/cache", cache)
    for setting in (("cache.dir", str(cache)), ("cache.shared", "group"), ("cache.type", "reflink,hardlink,symlink")):
        run(first, "dvc", "config", *setting)
    commit(first)
    before = held(cache)
    second = clone_of(first, work / "second")
    run(second, "dvc", "checkout")
    stages = ran_stages(run(second, "dvc", "repro"))
    copied = [
        path
        for name in ("build", "models", "reports")
        for path in (second / name).rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1 and not tracked(second, path)
    ]
    after = held(cache)
    return [
        ("in the shared cache", *before, 0),
        ("second clone, into the cache", after[0] - before[0], after[1] - before[1], stages),
        ("second clone, copied, not linked", len(copied), sum(path.stat().st_size for path in copied), stages),
    ]


def first_clone(project: Path, work: Path) -> Path:
    first = clone_of(project, work / "first")
    shutil.copytree(project / ".dvc/cache", first / ".dvc/cache")
    run(first, "dvc", "checkout")
    return first


def clone_of(project: Path, folder: Path) -> Path:
    run(project, "git", "clone", "-q", str(project), str(folder))
    return folder


def commit(folder: Path) -> None:
    run(folder, "git", "-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "-qam", "shared")


def held(folder: Path) -> tuple[int, int]:
    """How many files a cache or a remote holds, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def tracked(folder: Path, path: Path) -> bool:
    return bool(run(folder, "git", "ls-files", str(path.relative_to(folder))))


def ran_stages(output: str) -> int:
    return len(re.findall(r"Running stage '", output))


def run(folder: Path, *command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    done = subprocess.run(command, cwd=folder, env={**os.environ, **keys, "PATH": path}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()

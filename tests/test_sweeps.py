"""Sweeps and tuning as a user runs them: through DVC, on part of the sample cast."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from projects import cast, commit, environment, lighter, make_project, run, stages_run, with_runs_of

pytestmark = pytest.mark.slow

HEAD_ONLY = ["train", "evaluate", "export", "package"]
SPACE = """\
fixed: [training.patience=2]
space:
  head.dropout: { choices: [0.0, 0.25] }
  training.lr: { type: float, low: 1e-3, high: 1e-2, log: true }
"""


def until(happened: Callable[[], bool], seconds: float = 300, pause: float = 0.2) -> None:
    """Look again and again, but not for ever."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"nothing after {seconds} s"
        time.sleep(pause)


@pytest.fixture(scope="module")
def project(three_people_to_the_end: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as it is cloned, its sample imported by data.dvc, but smaller: three people, one file exported."""
    folder = make_project(tmp_path_factory.mktemp("project") / "project")
    with_runs_of(three_people_to_the_end, folder)
    cast(folder / "sample/photos/one", ("alma", "bruno", "chidi"), 6)
    (folder / "conf/data.yaml").write_text(yaml.safe_dump({"data": {"batches": ["one"]}}))
    lighter(folder, epochs=5, folds=0)
    run(folder, "git", "config", "user.name", "t")
    run(folder, "git", "config", "user.email", "t@localhost")
    run(folder, "castline", "compose")
    run(folder, "dvc", "repro")
    commit(folder)
    (folder / "space.yaml").write_text(SPACE)  # not committed: a search space is read where it lies
    return folder


def test_a_queued_sweep_over_the_head_runs_neither_faces_nor_embeddings(project: Path) -> None:
    points = ("0.0", "0.5")
    # It queues them and starts the queue, as the README's two commands do. To look takes a program a second.
    fleet = ("castline", "fleet", "run", "orchestrator.poll=4", "--name", "sweep")
    said = run(project, *fleet, "-S", f"head.dropout={','.join(points)}")
    assert re.findall(r"^(sweep-\d  \w+)$", said, re.M) == ["sweep-1  Success", "sweep-2  Success"]
    states = run(project, "castline", "fleet", "status")
    assert sorted(re.findall(r"sweep-(\d)\W+(\w+)", states)) == [("1", "Success"), ("2", "Success")]
    logs = [run(project, "dvc", "queue", "logs", f"sweep-{number}") for number in (1, 2)]
    assert [stages_run(log) for log in logs] == [[], HEAD_ONLY]  # the first is what was committed
    assert all("Stage 'faces@one' didn't change" in log and "'embeddings@one' didn't change" in log for log in logs)

    shown = json.loads(run(project, "dvc", "exp", "show", "--json"))
    swept = [each["revs"][0] for each in shown[1]["experiments"]]
    by_name = {each["name"]: each["data"] for each in swept}
    for number, point in enumerate(points, 1):
        data = by_name[f"sweep-{number}"]
        assert data["params"]["params.yaml"]["data"]["head"]["dropout"] == float(point)
        assert "top1" in data["metrics"]["reports/metrics.json"]["data"]
    readable = run(project, "dvc", "exp", "show", "--csv", "--only-changed", "--drop", ".*/.*", "--keep", "top1$")
    columns = readable.splitlines()[0].split(",")
    assert {"Experiment", "head.dropout", "top1"} <= set(columns)
    assert len(columns) < 20, columns
    plots = json.loads(run(project, "dvc", "plots", "diff", "sweep-1", "sweep-2", "--json"))["data"]
    assert all(plots[name][0]["revisions"] == ["sweep-1", "sweep-2"] for name in ("Loss", "Accuracy"))


def test_a_study_goes_on_after_an_interrupt_and_a_kill_and_its_winner_is_applied(project: Path, tmp_path: Path) -> None:
    command = ["castline", "tune", "--search", "space.yaml", "--name", "trial", "--json"]

    def stopped(number: int, how: signal.Signals) -> subprocess.Popen[str]:
        """A run of the study, stopped while its trial runs a stage."""
        log = project / f".castline/tune/trial-000{number}.log"
        tuning = subprocess.Popen(
            [*command, "--trials", "9"], cwd=project, env=environment(), stdout=subprocess.PIPE, text=True
        )
        until(lambda: log.is_file() and "Running stage 'train'" in log.read_text())
        (trial,) = psutil.Process(tuning.pid).children()
        tuning.send_signal(how)
        if how == signal.SIGKILL:
            os.killpg(trial.pid, signal.SIGSTOP)  # however long the next command takes, it is at work
            tuning.wait()
            assert "a trial of trial is at work" in run(project, *command, "--trials", "9", fails=True)
            os.killpg(trial.pid, signal.SIGKILL)
        return tuning

    interrupted = stopped(1, signal.SIGINT)
    printed = json.loads(interrupted.communicate()[0])
    assert interrupted.returncode == 130
    assert [trial["reason"] for trial in printed["trials"]] == ["interrupted"]
    stopped(2, signal.SIGKILL).communicate()

    said = run(project, *command[:-1], "--trials", "3")
    found = json.loads(run_stdout(project, *command, "--trials", "3"))  # nothing left to do: it says what it found
    assert [trial["reason"] for trial in found["trials"]] == ["interrupted", "killed before it ended", ""]
    assert [trial["value"] is None for trial in found["trials"]] == [True, True, False]
    assert run(project, "git", "status", "--porcelain", "--untracked-files=no") == ""
    best = found["best"]
    name = best["experiment"]
    assert name == "trial-0003"
    assert stages_run((project / f".castline/tune/{name}.log").read_text()) == HEAD_ONLY
    head = run(project, "git", "rev-parse", "HEAD").strip()
    ref = f"refs/exps/{head[:2]}/{head[2:]}/{name}"
    settings = yaml.safe_load(run(project, "git", "show", f"{ref}:params.yaml"))
    assert settings["training"]["lr"] == best["settings"]["training.lr"]
    assert settings["training"]["patience"] == 2
    kept = [row for row in run(project, "git", "show", f"{ref}:reports/curves.csv").split() if row.endswith(",1")]
    assert [float(row.split(",")[3]) for row in kept] == [best["value"]]
    assert "top1" in best["test_metrics"]

    assert f"next: dvc exp apply {name}" in said
    space = project / "space.yaml"
    space.write_text(SPACE.replace("0.25", "0.3"))
    assert "has changed: search.space.head.dropout" in run(project, *command, "--trials", "5", fails=True)
    space.write_text(SPACE)

    elsewhere = tmp_path / "project"
    shutil.copytree(project, elsewhere, symlinks=True)
    run(elsewhere, "dvc", "exp", "apply", name)
    assert "Data and pipelines are up to date." in run(elsewhere, "dvc", "status")
    assert "not committed: " in run(elsewhere, *command, "--trials", "5", fails=True)


def test_a_trial_that_fails_says_why_and_the_study_goes_on(project: Path) -> None:
    def tuned(name: str, trials: int, text: str) -> str:
        (project / f"{name}.yaml").write_text(text)
        return run(project, "castline", "tune", "--trials", str(trials), "--search", f"{name}.yaml", fails=True)

    setting = tuned("setting", 2, "space: {head.dropout: {choices: [1.5]}}")
    assert "setting-0002  failed: head.dropout=1.5, allowed is 0 or more and below 1" in setting
    assert "setting: 2 of 2 trials, 2 failed" in setting
    stage = tuned("stage", 1, f"fixed: [base_model.sha256={'a' * 64}]\nspace: {{training.lr: {{choices: [0.1]}}}}")
    assert re.search(r"stage-0001  failed: .*dlib_face_recognition.*stage-0001\.log", stage)
    assert "Traceback" not in setting + stage


def run_stdout(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

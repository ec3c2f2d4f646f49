"""`castline fleet` as a user runs it, on a project whose stages take no time.

Through ClearML by its real SDK: against a double of the server and a stand-in for an agent, and the same test against a
real server and its agents where CLEARML_API_HOST names one (docs/testing.md).
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from clearml_double import ClearMLDouble, agent_double, clearml_double
from fleet_projects import tiny_project
from projects import commit, environment, run

pytestmark = pytest.mark.slow

SPACE = "space:\n  head.dropout: { choices: [0.1, 0.9] }\n"


@dataclass
class Fleet:
    """A project, the words that choose the server's queue, and the double, if it is one."""

    project: Path
    words: tuple[str, ...]
    double: ClearMLDouble | None


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_project(tmp_path_factory.mktemp("fleet") / "project")
    (folder / "space.yaml").write_text(SPACE)  # not committed: it is read where it lies
    return folder


@pytest.fixture(scope="module", params=["double", "real"])
def fleet(request: pytest.FixtureRequest, project: Path) -> Iterator[Fleet]:
    words = ("orchestrator=clearml", f"orchestrator.repository={project}", "orchestrator.poll=1")
    if request.param == "real":
        if not os.environ.get("CLEARML_API_HOST"):
            pytest.skip("CLEARML_API_HOST names no server")
        yield Fleet(project, (*words, f"orchestrator.queue={os.environ.get('CASTLINE_TEST_QUEUE', 'default')}"), None)
        return
    with clearml_double(project.with_name("files")) as double, pytest.MonkeyPatch.context() as patch:
        for name, value in double.environment().items():
            patch.setenv(name, value)
        with agent_double(double, project.with_name("agent"), environment()):
            yield Fleet(project, words, double)


def test_stages_run_as_tasks_and_end_in_one_commit(fleet: Fleet, tmp_path: Path) -> None:
    before = run(fleet.project, "git", "rev-parse", "HEAD")
    said = run(fleet.project, "castline", "fleet", "run", *fleet.words, "-S", "head.dropout=0.25")
    assert "fleet-0001  Success" in said and "next: dvc exp apply fleet-0001" in said
    for stage in ("faces@one", "train", "evaluate"):
        assert f"{stage}: sent to" in said and f"{stage}: completed" in said
    # The project is as it was; what came of it is one commit on top of that, an experiment as DVC's own are.
    assert run(fleet.project, "git", "status", "--porcelain", "--untracked-files=no") == ""
    assert run(fleet.project, "git", "rev-parse", "HEAD") == before
    assert not (fleet.project / "dvc.lock").exists() and not (fleet.project / "build").exists()
    assert len(run(fleet.project, "git", "worktree", "list").splitlines()) == 1
    run(fleet.project, "dvc", "exp", "apply", "fleet-0001")
    params = yaml.safe_load((fleet.project / "params.yaml").read_text())
    assert params["head"]["dropout"] == 0.25
    commit(fleet.project)
    run(fleet.project, "git", "clone", "-q", str(fleet.project), str(tmp_path / "clone"))
    run(tmp_path / "clone", "dvc", "checkout")
    assert "up to date" in run(tmp_path / "clone", "dvc", "status")
    assert json.loads((tmp_path / "clone/reports/metrics.json").read_text()) == {"top1": 0.75, "n_test": 2}
    assert (tmp_path / "clone/reports/curves.csv").read_text().splitlines()[1].startswith("fleet-0001,")

    if fleet.double:
        assert not fleet.double.unknown
        tasks = fleet.double.tasks.values()
        assert {task["name"]: task["status"] for task in tasks} == dict.fromkeys(
            ("fleet-0001", "faces@one", "train", "evaluate"), "completed"
        )
        parent = fleet.double.named("fleet-0001")["id"]
        assert {task.get("parent") for task in tasks} == {None, parent}
        drawn = {
            (event["metric"], event["variant"], event["iter"]) for event in fleet.double.events if "value" in event
        }
        assert {("Loss", "train", 1), ("Loss", "val", 1), ("Summary", "metrics.top1", -(2**31))} <= drawn
        texts = [path.read_text() for path in fleet.double.files.rglob("*") if path.is_file()]
        assert any("<p>plain</p>" in text for text in texts) and not any("image/jpeg" in text for text in texts)
        everything = json.dumps([list(tasks), fleet.double.events]) + "".join(texts)
        assert "secret" not in everything.lower() and os.environ["PATH"] not in everything


def test_what_is_up_to_date_is_not_sent_and_a_failure_leaves_what_was_done(fleet: Fleet) -> None:
    assert "nothing was sent" in run(fleet.project, "castline", "fleet", "run", *fleet.words)
    said = run(fleet.project, "castline", "fleet", "run", *fleet.words, "-S", "head.dropout=0.9", fails=True)
    assert "faces@one: sent" not in said
    assert re.search(r"2 of 3 stages were not done:\n +train: failed.*\n +evaluate: not run", said)
    assert "Traceback" not in said
    rows = json.loads(run(fleet.project, "castline", "fleet", "status", fleet.words[0], "--json"))
    assert [row["name"] for row in rows][1:] == ["train"]
    assert {row["status"] for row in rows} == {"failed"}


def test_trials_are_tasks_and_experiments_of_the_same_study(fleet: Fleet) -> None:
    command = ["castline", "fleet", "tune", *fleet.words, "--search", "space.yaml", "--trials", "2", "--parallel", "2"]
    said = run(fleet.project, *command)
    assert "space: 2 of 2 trials, 1 failed" in said
    assert re.search(r"space-0001  failed: failed.*\(http", said)
    assert re.search(r"space-0002  val_loss 1\.04  head\.dropout 0\.1", said)
    best = re.findall(r"next: dvc exp apply (space-000\d)", said)[0]
    curves = run(fleet.project, "git", "show", f"{ref(fleet.project, best)}:reports/curves.csv")
    row = curves.splitlines()[1].split(",")
    assert row[0] == best and float(row[3]) == pytest.approx(1.04)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_task_that_is_stopped_leaves_neither_faces_nor_processes(project: Path, how: signal.Signals) -> None:
    command = ["castline", "fleet", "task", "--rev", "HEAD", "-S", "head.dropout=0.5", "--out", "out.json"]
    with subprocess.Popen(command, cwd=project, env=environment(), stdout=subprocess.PIPE, text=True) as task:
        assert task.stdout is not None
        assert any("Running stage 'train'" in line for line in task.stdout)
        started = psutil.Process(task.pid).children(recursive=True)
        assert started and list(project.glob(".castline/fleet/task-*/build/faces"))
        task.send_signal(how)
        assert task.wait(60) != 0
    gone, alive = psutil.wait_procs(started, timeout=30)
    assert len(gone) == len(started) and not alive
    assert not list(project.glob(".castline/fleet/task-*")) and not (project / "out.json").exists()
    assert len(run(project, "git", "worktree", "list").splitlines()) == 1


def ref(project: Path, name: str) -> str:
    head = run(project, "git", "rev-parse", "HEAD").strip()
    return f"refs/exps/{head[:2]}/{head[2:]}/{name}"

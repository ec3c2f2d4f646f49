"""The parts of `castline fleet`: settings, what comes back, what people see, and who is at work or lost."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from fleet_projects import tiny_project
from hypothesis import given
from hypothesis import strategies as st
from projects import ROOT

from castline.errors import CastlineError, ConfigError, DataError
from castline.fleet import controller, fragment, local, settings, tune
from castline.fleet.controller import Watch
from castline.fleet.fragment import Fragment
from castline.fleet.server import Server, State, result_of
from castline.fleet.task import Show, without_pictures
from castline.fleet.tree import commit_of
from castline.versions.git import git

METRICS = b'{"top1": 1}\n'
OUTS = [
    {"path": "reports/index.html", "md5": "0" * 32},
    {"path": "reports/metrics.json", "md5": "915fdbe48cfccefcd3d9776004f0441c"},
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_project(tmp_path_factory.mktemp("fleet") / "project")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", settings.KINDS)
def test_every_orchestrator_composes(kind: str) -> None:
    assert settings.read([f"orchestrator={kind}"]).kind == kind


@pytest.mark.usefixtures("here")
def test_nobody_is_asked_to_have_a_fleet() -> None:
    assert settings.read().kind == "local"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("orchestrator=kubernetes", "cannot be composed"),
        ("orchestrator.kind=none", "orchestrator.kind=none, allowed: local, clearml"),
        ("orchestrator.poll=0", "orchestrator.poll=0"),
        ("+orchestrator.queue='$(id)'", "no name for a project or queue"),
        ("head.dropout=0.5", "says nothing of the orchestrator"),
    ],
)
def test_settings_that_do_not_fit_are_said(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(").replace("$", r"\$")):
        settings.read([override])


def test_what_tunes_more_than_the_head_goes_to_its_own_queue() -> None:
    made = settings.OrchestratorSettings("clearml", 1, 1, 1, queues={"faces": "big"})
    head, more = {"training": {"tune": "head"}}, {"training": {"tune": "last_block"}}
    assert [made.queue_of(stage, head) for stage in ("faces@one", "train", None, "export")] == [
        "big", "cpu", "cpu", "cpu",
    ]  # fmt: skip
    assert [made.queue_of(stage, more) for stage in ("faces@one", "train", None, "export")] == [
        "big", "gpu", "gpu", "cpu",
    ]  # fmt: skip


@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=20), max_size=3), st.text(max_size=20))
@hypothesis.settings(max_examples=30)
def test_a_fragment_is_the_same_after_its_journey(files: dict[str, bytes], cmd: str) -> None:
    made = Fragment({"train": {"cmd": cmd}}, files)
    assert Fragment.from_json(made.to_json()) == made


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"stages": 1, "files": {}}', '{"stages": {}, "files": {"a": "é"}}'])
def test_what_is_no_fragment_is_said(text: str) -> None:
    with pytest.raises(DataError, match="a result that is none"):
        Fragment.from_json(text)


@pytest.mark.parametrize(
    ("stage", "files", "message"),
    [
        ("evaluate", {"reports/metrics.json": b"other"}, "is not the one that its entry"),
        ("evaluate", {}, "not those that its stages leave to git: reports/metrics.json"),
        ("evaluate", {"reports/metrics.json": METRICS, "../../.bashrc": b"x"}, r"leave to git: \.\./\.\./\.bashrc"),
        ("evaluate", {"reports/metrics.json": METRICS, "reports/index.html": b"x"}, "leave to git: reports/index.html"),
        ("no such", {}, "a result of no such, which this project has no stage for"),
    ],
)
def test_nothing_is_written_that_the_stage_does_not_leave_to_git(
    project: Path, stage: str, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        fragment.put(project, [Fragment({stage: {"cmd": "x", "outs": OUTS}}, files)])
    assert not (project / "dvc.lock").exists()
    assert not (project / "reports/metrics.json").exists()


def test_agents_clone_without_anybodys_password(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    made = settings.OrchestratorSettings("clearml", 1, 1, 1)
    with pytest.raises(ConfigError, match="no origin"):
        controller.ready(made)
    git = ["git", "-c", "advice.detachedHead=false"]
    subprocess.run([*git, "remote", "add", "origin", "https://me:secret@git.example.org/team/cast.git"], check=True)
    with pytest.raises(DataError, match="not pushed"):
        controller.ready(made)
    subprocess.run([*git, "update-ref", "refs/remotes/origin/main", "HEAD"], check=True)
    assert controller.ready(made).script[0] == "https://git.example.org/team/cast.git"
    (project / "dvc.yaml").touch()
    (project / "conf/data.yaml").write_text("data: {batches: [one, two]}\n")
    with pytest.raises(DataError, match=r"not committed: conf/data\.yaml"):
        controller.ready(made)
    subprocess.run([*git, "checkout", "-q", "conf/data.yaml"], check=True)
    subprocess.run([*git, "remote", "remove", "origin"], check=True)


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://me:p@ss@git.example.org/cast.git", "https://git.example.org/cast.git"),
        ("HTTPS://token@git.example.org:8443/a@b.git", "HTTPS://git.example.org:8443/a@b.git"),
        ("ssh://git:secret@git.example.org:22/cast.git", "ssh://git@git.example.org:22/cast.git"),
        ("git@git.example.org:team/cast.git", "git@git.example.org:team/cast.git"),
        ("/srv/git/a@b.git", "/srv/git/a@b.git"),
    ],
)
def test_a_password_in_the_settings_stays_here(url: str, sent: str) -> None:
    made = settings.OrchestratorSettings("clearml", 1, 1, 1, repository=url)
    assert controller._repository(made, "c") == sent


@pytest.mark.parametrize("page", [b"", b'<img src="data:image/svg+xml;base64,AA">', b"data:text/plain,x"])
def test_a_page_without_pictures_stays(page: bytes) -> None:
    assert without_pictures(page) == page


@given(st.sampled_from(["jpeg", "png", "JPEG", "webp"]), st.binary(max_size=200))
@hypothesis.settings(max_examples=30)
def test_no_picture_leaves_with_the_report(kind: str, data: bytes) -> None:
    text = data.hex().encode()
    page = b'<p>a</p><img src="data:image/%s;base64,%s" alt="x"><p>b</p>' % (kind.encode(), text)
    assert without_pictures(page) == b'<p>a</p><img src="data:," alt="x"><p>b</p>'


class Noted:
    """A double of ClearML's logger: what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: self.told.append((name, (*arguments, *named.values())))


def test_curves_that_were_seen_as_they_grew_are_not_drawn_twice() -> None:
    rows = b"run,epoch,train_loss,val_loss,kept\na,1,2.0,,1\nb,1,3.0,2.5,0\n"
    late, live = Noted(), Noted()
    Show(late)._curves(rows)
    show = Show(live)
    show.epoch({"epoch": 0, "train_loss": 2.0})
    show._curves(rows)
    assert late.told == live.told
    assert [told[1] for told in live.told] == [
        ("Loss", "train", 2.0, 1),
        ("Loss", "b train", 3.0, 1),
        ("Loss", "b val", 2.5, 1),
    ]


class Told:
    """A double of `Server`: tasks are in the states that a test says, one look after another."""

    def __init__(self, looks: list[tuple[str, str] | None]) -> None:
        self.looks, self.stopped, self.ended = looks, list[str](), list[str]()

    def states(self, tasks: list[str]) -> dict[str, State]:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if look is None:
            raise CastlineError("ClearML is away")
        return {task: State(task, "train", look[0], look[1], "") for task in tasks}

    def create(self, *_: Any) -> str:
        return "t1"

    def enqueue(self, *_: Any) -> None: ...

    def ping(self, *_: Any) -> None: ...

    def page(self, task: str) -> str:
        return f"http://x/{task}"

    def stop(self, tasks: list[str]) -> None:
        self.stopped += tasks

    def end(self, task: str, problem: str) -> None:
        self.ended.append(problem)


def watched(looks: list[tuple[str, str] | None], lost: float = 0.001, hours: float = 1) -> tuple[Told, str]:
    server = Told(looks)
    made = settings.OrchestratorSettings("clearml", hours, 0.001, lost)
    watch = Watch(server, made, "p")  # type: ignore[arg-type]
    watch.send("train", "training", {}, ("", ""), "cpu")
    ended: list[str] = []
    try:
        while watch.open:
            ended += [problem for _, problem in watch.ended()]
    except CastlineError as error:
        ended.append(error.what)
    watch.close("".join(ended))
    return server, ended[0]


def test_a_task_that_is_silent_is_lost() -> None:
    server, ended = watched([("in_progress", "1"), ("in_progress", "2")])
    assert ended.startswith("lost: nothing was heard of it")
    assert server.stopped == ["t1"], "if it is at work yet, nobody waits for it"


def test_a_task_that_waits_is_not_lost() -> None:
    server, ended = watched([("queued", "1")], hours=0.3 / 3600)
    assert ended.startswith("not done after")
    assert server.stopped == ["t1"]


@pytest.mark.parametrize("state", ["failed", "stopped", "gone", "unknown"])
def test_only_completed_is_completed(state: str) -> None:
    server, ended = watched([("in_progress", "1"), (state, "2")])
    assert ended == f"{state} (http://x/t1)"
    assert server.ended == [ended]
    assert watched([("in_progress", "1"), ("completed", "2")])[1] == ""


def test_a_task_that_somebody_took_out_of_its_queue_is_not_waited_for() -> None:
    server, ended = watched([("queued", "1"), ("created", "2")])
    assert ended.startswith("lost: it is in no queue for")
    assert server.stopped == ["t1"], "should somebody put it back"
    assert watched([("created", "2"), ("queued", "3"), ("completed", "4")], lost=1)[1] == ""


def test_a_server_that_goes_away_for_a_while_stops_nothing() -> None:
    assert watched([("in_progress", "1"), None, None, ("completed", "2")], lost=1)[1] == ""
    assert watched([("in_progress", "1"), None])[1] == "ClearML is away"


def test_a_result_that_cannot_be_fetched_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_task(**_: str) -> None:
        raise ValueError("Task ID 1 could not be found")

    monkeypatch.setitem(sys.modules, "clearml", SimpleNamespace(Task=SimpleNamespace(get_task=get_task)))
    with pytest.raises(DataError, match=r"cannot be had: ValueError\('Task ID 1"):
        result_of("1")


def test_a_name_that_is_taken_is_said_before_anything_is_sent(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    head = commit_of("HEAD")
    git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/night", head)
    monkeypatch.setattr(controller, "ready", lambda _: controller.Ready(head, ("", head)))
    monkeypatch.setattr(controller, "Server", lambda _: pytest.fail("it was asked"))
    with pytest.raises(ConfigError, match="there is an experiment night already"):
        controller.run(settings.OrchestratorSettings("clearml", 1, 1, 1), "night", [])
    assert controller.free_name("night") == "night-0001"
    git("update-ref", "-d", f"refs/exps/{head[:2]}/{head[2:]}/night")


class Trials:
    """A double of `Study`: proposals, and what came of each."""

    name = "study"

    def __init__(self) -> None:
        self.trials: list[str] = []

    def propose(self) -> Any:
        self.trials.append("at work")
        return SimpleNamespace(name=f"study-{len(self.trials)}", overrides=[], number=len(self.trials) - 1)

    def composed(self, proposed: Any) -> dict[str, Any]:
        return {}

    def settle(self, proposed: Any, made: Any) -> str:
        try:
            self.trials[proposed.number] = made()
        except CastlineError as error:
            self.trials[proposed.number] = error.what
        return self.trials[proposed.number]


class Absent(Told):
    """A server that is away for a while when the first trial is sent, or has no queue of that name."""

    def __init__(self, pings: int, queue: bool = True) -> None:
        super().__init__([("completed", "1")])
        self.pings, self.has_queue, self.made = pings, queue, 0

    def start(self, task: str) -> None: ...

    def create(self, name: str, *_: Any) -> str:
        if self.made and self.pings:
            raise CastlineError("ClearML is away")
        self.made += 1
        return f"t{self.made}"

    def ping(self, *_: Any) -> None:
        if self.pings:
            self.pings -= 1
            raise CastlineError("ClearML is away")

    def enqueue(self, *_: Any) -> None:
        if not self.has_queue:
            raise ConfigError("ClearML has no queue 'cpu'")


@pytest.mark.parametrize(
    ("server", "lost", "settled"),
    [
        (Absent(pings=3), 1, ["done", "done", "done"]),
        (Absent(pings=10**9), 0.0001, ["ClearML is away"]),
        (Absent(pings=0, queue=False), 1, ["ClearML has no queue 'cpu'"]),
    ],
)
def test_no_trial_fails_for_a_server_that_goes_away_for_a_while(
    server: Absent, lost: float, settled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, study = settings.OrchestratorSettings("clearml", 1, 0.001, lost), Trials()
    monkeypatch.setattr(tune, "ready", lambda _: controller.Ready("c", ("", "c")))
    monkeypatch.setattr(tune, "Server", lambda _: server)
    monkeypatch.setattr(tune, "_experiment", lambda *_: lambda: "done")
    problem = ""
    try:
        list(tune._elsewhere(made, study, 3, 1, None))  # type: ignore[arg-type]
    except CastlineError as error:
        problem = error.what
    assert study.trials == settled
    assert server.ended == [problem] and problem in ("", settled[0])


class Api:
    """A double of ClearML's API: tasks that wait; an agent takes one at this moment, another has just ended."""

    def __init__(self) -> None:
        self.tasks, self.done = self, list[tuple[str, str]]()

    def get_all(self, id: list[str], **_: Any) -> list[Any]:
        return [SimpleNamespace(id=task, name=task, status="queued") for task in id]

    def dequeue(self, task: str) -> None:
        if task == "taken":
            raise RuntimeError("task is not queued")
        self.done.append(("dequeue", task))

    def stop(self, task: str, force: bool) -> None:
        if task == "ended":
            raise RuntimeError("task has ended")
        self.done.append(("stop", task))

    def failed(self, task: str, **_: Any) -> None:
        self.done.append(("failed", task))


def test_a_task_that_cannot_be_stopped_keeps_no_other_at_work() -> None:
    server, made = object.__new__(Server), settings.OrchestratorSettings("clearml", 1, 1, 1)
    server._api, server.host = Api(), "http://x"
    watch = Watch(server, made, "run")
    watch.open = {task: controller.Sent(task, task) for task in ("taken", "ended", "last")}
    watch.close("interrupted")
    assert server._api.done == [
        ("stop", "taken"), ("dequeue", "ended"), ("dequeue", "last"), ("stop", "last"), ("failed", "run"),
    ]  # fmt: skip


def test_runs_that_dvcs_queue_loses_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = iter([[{"rev": "a", "status": "Running"}], [{"rev": "a", "status": "Success"}]])
    monkeypatch.setattr(local, "entries", lambda: next(listed, []))
    monkeypatch.setattr(local, "_workers", lambda: 0)
    made = settings.OrchestratorSettings("local", 1, 0.001, 0.001)
    found = local._watched(made, {"a": "one", "b": "two"})
    assert found["a"] == "Success" and found["b"] == "lost: DVC's queue no longer knows it"
    looks = iter([[{"rev": "a", "status": "Queued"}], [], [{"rev": "a", "status": "Running"}]])
    monkeypatch.setattr(local, "entries", lambda: next(looks, [{"rev": "a", "status": "Success"}]))
    assert local._watched(made, {"a": "one"})["a"] == "Success", "it started between two lists of one look"
    monkeypatch.setattr(local, "entries", lambda: [{"rev": "a", "status": "Running"}])
    assert local._watched(made, {"a": "one"})["a"].startswith("lost: no worker for")


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # ClearML's parser of its configuration
def test_a_server_that_is_absent_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("CLEARML_", "TRAINS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(tmp_path / "none"))
    made = settings.OrchestratorSettings("clearml", 1, 1, 1)
    with pytest.raises(ConfigError, match="no keys on this machine"):
        Server(made)
    monkeypatch.setenv("CLEARML_API_ACCESS_KEY", "k")
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "k")
    monkeypatch.setenv("CLEARML_API_HOST", "http://127.0.0.1:9")
    with pytest.raises(CastlineError, match=r"no ClearML server answers at http://127\.0\.0\.1:9"):
        Server(made)

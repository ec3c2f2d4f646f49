"""The pipeline as tasks on other machines: one a stage, each sent when what it needs is there; in the end, one commit.

What is sent, and in which order, is DVC's own graph of the commit with the experiment's settings. A stage is sent when
DVC says that it is not up to date, or when one before it came back with other outputs. What comes back is merged here
and nowhere else, so tasks that run side by side never push to one branch; it becomes a DVC experiment, and neither a
branch nor the project's files change before somebody says `dvc exp apply`.
"""

import fcntl
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, TypeVar

from castline import lock, sharing
from castline.errors import CastlineError, ConfigError, DataError
from castline.files import params
from castline.fleet import fragment
from castline.fleet.fragment import Fragment
from castline.fleet.server import Server, State, parameters_of, result_of
from castline.fleet.settings import OrchestratorSettings
from castline.fleet.stage import compose
from castline.fleet.tree import FOLDER, commit_of, record, tree
from castline.versions.git import check_root, git

__all__ = ["Ready", "Sent", "Watch", "alone", "experiment_of", "free_name", "ready", "run", "say"]

R = TypeVar("R")
_RUNNING = ("created", "queued", "in_progress")


@dataclass(frozen=True)
class Ready:
    """What every task of this project is told: where git's repository is, and the commit."""

    commit: str
    script: tuple[str, str]


def ready(settings: OrchestratorSettings) -> Ready:
    """Whether tasks elsewhere could start from the last commit, and what they leave behind could be found.

    Raises: DataError, ConfigError with what to do about it.
    """
    check_root()
    try:
        commit = commit_of("HEAD")
    except DataError as error:
        raise DataError("there is no commit to start from", "git add -A && git commit") from error
    if changed := git("status", "--porcelain", "--untracked-files=no").splitlines():
        raise DataError(f"not committed: {changed[0][3:]}; tasks start from the last commit", "git commit -a")
    with fragment.opened(Path()) as repo:
        remote = repo.config["core"].get("remote")
    if not remote and sharing.cache_of(Path()).is_relative_to(Path.cwd().resolve()):
        raise ConfigError(
            "there is neither a shared cache nor a remote: what tasks make would be lost",
            "dvc cache dir, or dvc remote add -d: docs/sharing.md",
        )
    return Ready(commit, (_repository(settings, commit), commit))


def run(settings: OrchestratorSettings, name: str, overrides: Sequence[str]) -> str | None:
    """Run what is not up to date as tasks; the commit of the experiment `name`, None when nothing had to run.

    Raises: ConfigError when there is an experiment of that name; CastlineError when a stage failed or was lost; what
    others made is in the cache for the next run.
    """
    start = ready(settings)
    if name in _taken():  # rather now than after hours
        raise ConfigError(f"there is an experiment {name} already", f"dvc exp remove {name}, or another --name")
    server = Server(settings)
    with alone(), tree(start.commit, "tree") as folder:
        compose(folder, overrides)
        pipeline = _Pipeline.read(folder)
        if not pipeline.stale:
            return None
        values = params.load(folder / "params.yaml")
        for stage in pipeline.order:
            server.queue(settings.queue_of(stage, values))  # rather now than after hours
        parent = server.create(
            name, "controller", parameters_of(name, None, start.commit, overrides, ()), start.script, ""
        )
        server.start(parent)
        say(f"{name}: {server.page(parent)}")
        watch = Watch(server, settings, parent)
        problem = "interrupted"
        try:
            sent, problems = _through(name, pipeline, watch, start, overrides, values)
            problem = "; ".join(f"{stage}: {why}" for stage, why in problems.items())
            if not problem:
                commit = experiment_of(folder, sent, name, f"{name}: {len(sent)} stages, through ClearML")
        except CastlineError as error:
            problem = error.what
            raise
        finally:
            watch.close(problem)
    if problems:
        lines = "".join(f"\n    {stage}: {why}" for stage, why in problems.items())
        raise CastlineError(
            f"{len(problems)} of {len(pipeline.order)} stages were not done:{lines}",
            "mend it and run it again: what is done is taken from DVC's cache",
        )
    return commit


def experiment_of(folder: Path, fragments: Sequence[Fragment], name: str, message: str) -> str:
    """Merge what came back into the work tree and record it as the DVC experiment `name`; its commit.

    Raises: DataError when what came back does not fit together.
    """
    fragment.put(folder, fragments)
    if stale := _stale(folder):
        raise DataError(
            f"what came back does not fit together: {', '.join(stale)} would run again", "castline fleet run, once more"
        )
    files = [path for one in fragments for path in one.files]
    return record(folder, ["dvc.lock", "params.yaml", *files], message, name)


def free_name(prefix: str) -> str:
    """PREFIX-0001, or the first after it that no experiment on the present commit has."""
    taken = _taken()
    return next(name for number in range(1, 10_000) if (name := f"{prefix}-{number:04d}") not in taken)


def _taken() -> set[str]:
    """Names of the experiments on the present commit."""
    head = commit_of("HEAD")
    return set(git("for-each-ref", "--format=%(refname:lstrip=4)", f"refs/exps/{head[:2]}/{head[2:]}").split())


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass
class _Pipeline:
    """DVC's graph: stages, each after what it needs; what each stands on; who has to run; outputs as committed."""

    order: list[str]
    upstream: dict[str, list[str]]
    stale: set[str]
    outs: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "_Pipeline":
        with fragment.opened(folder) as repo:
            graph = repo.index.graph
            # An edge leads from a stage to one that it needs; data.dvc is no stage.
            upstream = {
                stage.name: sorted(one.name for one in graph.successors(stage) if one.cmd)
                for stage in graph
                if stage.cmd
            }
        committed = lock.entries(path=folder / "dvc.lock")
        outs = {stage: entry.get("outs") for stage, entry in committed.items()}
        return cls(list(TopologicalSorter(upstream).static_order()), upstream, set(_stale(folder)), outs)


def _stale(folder: Path) -> list[str]:
    """Stages that are not up to date, data that is not here left aside; not those whose inputs only would change."""
    with fragment.opened(folder) as repo, repo.lock:
        graph = repo.index.graph
        return [stage.name for stage in graph if stage.cmd and stage.changed(True, list(graph.successors(stage)))]


@dataclass
class Sent:
    """A task, and what is known of it."""

    task: str
    name: str
    state: str = "queued"
    updated: str = ""
    heard: float = field(default_factory=time.monotonic)


class Watch:
    """Tasks of one run: sends them, looks at them every few seconds, says what changes, stops them in the end."""

    def __init__(self, server: Server, settings: OrchestratorSettings, parent: str) -> None:
        self.server, self.settings, self.parent = server, settings, parent
        self.open: dict[str, Sent] = {}
        self._lost: list[str] = []  # may be at work yet
        self._silent_since: float | None = None
        self._end = time.monotonic() + settings.hours * 3600

    def send(self, name: str, kind: str, parameters: dict[str, str], script: tuple[str, str], queue: str) -> str:
        """Make a task and put it into a queue; its id. A server that is away is waited for.

        Raises: CastlineError when the server does not take it, or has been away for too long.
        """
        task = self._patiently(lambda: self.server.create(name, kind, parameters, script, self.parent))
        self.open[task] = Sent(task, name)
        self._patiently(lambda: self.server.enqueue(task, queue))
        say(f"{name}: sent to {queue}")
        return task

    def _patiently(self, ask: Callable[[], R]) -> R:
        try:
            return ask()
        except CastlineError as error:
            self._wait_for_server(error)
            return ask()

    def _wait_for_server(self, error: CastlineError) -> None:
        """Return when it answers. Raises: `error` when that takes too long."""
        since: float | None = None
        while True:
            try:
                self.server.ping(self.parent)
                return
            except CastlineError:
                if since is None:
                    since = time.monotonic()
                    say(f"{error.what}; tasks go on, and so does looking for the server")
                if time.monotonic() - since > self.settings.lost * 60:
                    raise error from None
                for sent in self.open.values():
                    sent.heard = time.monotonic()  # nobody could be heard
                time.sleep(self.settings.poll)

    def ended(self) -> Iterator[tuple[Sent, str]]:
        """Wait for the next look; tasks that ended by then, each with what is wrong with it, "" if it completed.

        Raises: CastlineError when time is up, or the server has been away for too long.
        """
        time.sleep(self.settings.poll)
        try:
            states = self.server.states(list(self.open))
            self.server.ping(self.parent)
            if self._silent_since is not None:
                say("ClearML answers again")
            self._silent_since = None
        except CastlineError as error:
            if self._silent_since is None:
                self._silent_since = time.monotonic()
                say(f"{error.what}; tasks go on, and so does looking for them")
            if time.monotonic() - self._silent_since > self.settings.lost * 60:
                raise
            for sent in self.open.values():
                sent.heard = time.monotonic()  # nobody could be heard
            return
        for task, state in states.items():
            sent = self.open[task]
            problem = self._look(sent, state)
            if problem is not None:
                del self.open[task]
                if state.status in _RUNNING:
                    self._lost.append(task)
                yield sent, problem
        if self.open and time.monotonic() > self._end:
            raise CastlineError(f"not done after {self.settings.hours:g} hours", "orchestrator.hours=48 waits longer")

    def _look(self, sent: Sent, state: State) -> str | None:
        """None while it goes on."""
        if (state.status, state.updated) != (sent.state, sent.updated):
            if state.status != sent.state:
                say(f"{sent.name}: {state.status.replace('_', ' ')}")
            sent.state, sent.updated, sent.heard = state.status, state.updated, time.monotonic()
        if state.status in ("completed", "closed", "published"):
            return ""
        if state.status in ("created", "in_progress") and time.monotonic() - sent.heard > self.settings.lost * 60:
            # `created` it was before it was sent: somebody took it out, or an agent that moves it on to another queue.
            what = "nothing was heard of it" if state.status == "in_progress" else "it is in no queue"
            return f"lost: {what} for {self.settings.lost:g} minutes ({self.server.page(sent.task)})"
        if state.status in _RUNNING:
            return None
        return f"{state.status}{f', {state.reason}' if state.reason else ''} ({self.server.page(sent.task)})"

    def close(self, problem: str) -> None:
        """Stop what is still open, or was lost, and the task above it. A server that is away has nothing to stop."""
        for ask in (
            partial(self.server.stop, [*self.open, *self._lost]),
            partial(self.server.end, self.parent, problem),
        ):
            try:
                ask()
            except CastlineError as error:
                say(error.what)


def _through(
    name: str, pipeline: _Pipeline, watch: Watch, start: Ready, overrides: Sequence[str], values: dict[str, Any]
) -> tuple[list[Fragment], dict[str, str]]:
    """Send stages as they become ready, until all are done or stand behind one that is not; fragments and problems."""
    waiting, task_of, problems = list(pipeline.order), dict[str, str](), dict[str, str]()
    made: dict[str, Fragment] = {}
    changed: set[str] = set()

    def sent_before(stage: str) -> Iterator[str]:
        """Of all that the stage stands on, the tasks that ran, each once."""
        seen: set[str] = set()
        todo = [stage]
        while todo:
            for above in pipeline.upstream[todo.pop()]:
                if above not in seen:
                    seen.add(above)
                    todo.append(above)
        yield from (task_of[one] for one in pipeline.order if one in seen and one in task_of)

    while True:
        for stage in list(waiting):
            above = pipeline.upstream[stage]
            if any(one in problems for one in above):
                problems[stage] = "not run, what it needs is not there"
            elif any(one in waiting or (one in task_of and one not in made) for one in above):
                continue
            elif stage in pipeline.stale or changed.intersection(above):
                told = parameters_of(name, stage, start.commit, overrides, list(sent_before(stage)))
                queue = watch.settings.queue_of(stage, values)
                kind = "training" if stage == "train" else "data_processing"
                task_of[stage] = watch.send(stage, kind, told, start.script, queue)
            waiting.remove(stage)
        if not watch.open:
            return list(made.values()), problems
        for ended, problem in watch.ended():
            stage = ended.name
            try:
                if problem:
                    raise CastlineError(problem)
                # That a task says it completed proves nothing: it has to hand back this stage, and no other.
                result = result_of(ended.task)
                if list(result.entries) != [stage]:
                    raise DataError(f"it handed back {', '.join(result.entries) or 'nothing'}")
            except CastlineError as error:
                problems[stage] = error.what
                say(f"{stage}: {error.what}")
            else:
                made[stage] = result
                if result.entries[stage].get("outs") != pipeline.outs.get(stage):
                    changed.add(stage)


def _repository(settings: OrchestratorSettings, commit: str) -> str:
    """What agents clone, without user and password: they have their own."""
    if settings.repository:
        return _without_password(settings.repository)
    try:
        url = git("remote", "get-url", "origin").strip()
    except CastlineError as error:
        raise ConfigError("git has no origin: agents could not clone it", "orchestrator.repository=URL") from error
    if not git("branch", "--remotes", "--contains", commit).strip():
        raise DataError("the last commit is not pushed: agents could not check it out", "git push")
    return _without_password(url)


def _without_password(url: str) -> str:
    """Of a user with http, a token may be the name; with ssh it is a matter of the address, such as git@."""
    parts = re.fullmatch(r"(?P<scheme>[a-z0-9+.-]+://)(?P<user>[^/?#]*)@(?P<rest>.*)", url, re.IGNORECASE | re.DOTALL)
    if parts is None:
        return url
    user = "" if parts["scheme"].lower() in ("http://", "https://") else parts["user"].partition(":")[0]
    return f"{parts['scheme']}{f'{user}@' if user else ''}{parts['rest']}"


@contextmanager
def alone() -> Iterator[None]:
    """Raises: ConfigError when another run of this clone is at work."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError("a run of this clone is at work", "castline fleet status") from error
        yield

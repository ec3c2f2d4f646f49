"""ClearML as far as it is needed: tasks made, queued, looked at, stopped, and what they hand back.

By its SDK, with server and keys from ClearML's own configuration. `Task.init` and `PipelineController` are left aside:
the one looks through repository and packages for seconds, which a task that is told its commit has no use for; the
other has nodes that ran nowhere and exits with 0. A task without `Task.init` patches nothing, watches nothing and asks
nobody for updates.
"""

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from castline.errors import CastlineError, ConfigError, DataError, optional_import
from castline.fleet.fragment import Fragment
from castline.fleet.settings import OrchestratorSettings

__all__ = ["RESULT", "SECTION", "Server", "State", "parameters_of", "result_of"]

R = TypeVar("R")
SECTION, RESULT = "Castline", "dvc"
_MODULE = "-m castline.fleet.task"
_PATIENCE = 5.0  # seconds that a server may take to say that it is there
# Of a request; ClearML's default is to try for minutes, in silence.
_RETRIES = {"total": 2, "connect": 2, "read": 2, "redirect": 5, "status": 2, "backoff_factor": 0.5, "backoff_max": 5.0}


@dataclass(frozen=True)
class State:
    """What the server says of a task. status: its word (queued, in_progress, completed, failed, ...), or `gone`.
    updated: changes whenever something is heard of the task."""

    task: str
    name: str
    status: str
    updated: str
    reason: str


class Server:
    """The server that ClearML's configuration names.

    Raises: MissingExtra; ConfigError when there is none, it does not answer, or it does not take the keys.
    """

    def __init__(self, settings: OrchestratorSettings) -> None:
        self.settings = settings
        loaded = optional_import("clearml.backend_api.config", "clearml").load()
        defs = optional_import("clearml.backend_api.session.defs", "clearml")
        # Without any, the SDK would ask its maker's own server.
        if not (loaded.get("api.credentials.access_key", "") or defs.ENV_ACCESS_KEY.get() or defs.ENV_AUTH_TOKEN.get()):
            raise ConfigError("ClearML has no keys on this machine", "clearml-init, or CLEARML_API_HOST and its keys")
        session = optional_import("clearml.backend_api", "clearml").Session
        self.host = str(session.get_api_server_host())
        _check_answers(self.host)
        client = optional_import("clearml.backend_api.session.client", "clearml").APIClient
        self._api: Any = self._asked(lambda: client(session=session(http_retries_config=dict(_RETRIES))))
        self._project = self._project_id()
        self._queues: dict[str, str] = {}

    def queue(self, name: str) -> str:
        """The id of a queue. Raises: ConfigError when there is none of that name."""
        if name not in self._queues:
            found = {one.name: one.id for one in self._asked(self._api.queues.get_all)}
            if name not in found:
                raise ConfigError(
                    f"ClearML has no queue {name!r}; it has {', '.join(sorted(found)) or 'none'}",
                    f"clearml-agent daemon --queue '{name}' --create-queue, or orchestrator.queue=NAME",
                )
            self._queues = found
        return self._queues[name]

    def create(self, name: str, kind: str, parameters: Mapping[str, str], script: tuple[str, str], parent: str) -> str:
        """A task that runs our module at a commit; its id. script: where git's repository is, and the commit."""
        repository, commit = script
        section = {key: {"section": SECTION, "name": key, "value": value} for key, value in parameters.items()}
        made = self._asked(
            lambda: self._api.tasks.create(
                name=name,
                type=kind,
                project=self._project,
                script={
                    "binary": "python3",
                    "repository": repository,
                    "version_num": commit,
                    "entry_point": _MODULE,
                    "working_dir": ".",
                    "requirements": {"pip": ""},  # agents run in an environment that has Castline: docs/fleet.md
                },
                hyperparams={SECTION: section},
                tags=["castline"],
                **({"parent": parent} if parent else {}),
            )
        )
        return str(made.id)

    def start(self, task: str) -> None:
        """Say that a task of our own is at work."""
        self._asked(lambda: self._api.tasks.started(task=task))

    def ping(self, task: str) -> None:
        """Say that it still is."""
        self._asked(lambda: self._api.tasks.ping(task=task))

    def end(self, task: str, problem: str) -> None:
        """Say that it has ended, and why if it failed."""
        if problem:
            self._asked(lambda: self._api.tasks.failed(task=task, status_reason=problem[:200], force=True))
        else:
            self._asked(lambda: self._api.tasks.completed(task=task, force=True))

    def enqueue(self, task: str, queue: str) -> None:
        self._asked(lambda: self._api.tasks.enqueue(task=task, queue=self.queue(queue)))

    def states(self, tasks: Sequence[str]) -> dict[str, State]:
        """By task, in the order of `tasks`; those that the server no longer knows are `gone`."""
        if not tasks:
            return {}
        found = {state.task: state for state in self._states(id=list(tasks))}
        return {task: found.get(task, State(task, "", "gone", "", "the server does not know it")) for task in tasks}

    def newest(self, name: str) -> tuple[State, list[State]] | None:
        """The newest run of that name, or of any, and its tasks."""
        asked: dict[str, Any] = {"project": [self._project], "type": ["controller"], "order_by": ["-created"]}
        runs = self._states(page_size=1, page=0, **asked, **({"name": f"^{name}$"} if name else {}))
        return (runs[0], self._states(parent=runs[0].task)) if runs else None

    def stop(self, tasks: Sequence[str]) -> None:
        """Take those that wait from their queues, and end those at work.

        Raises: CastlineError in the end, when one could not be stopped; the others are.
        """
        problems = []
        for task, state in self.states(tasks).items():
            if state.status == "queued":
                with contextlib.suppress(CastlineError):  # an agent was quicker
                    self._asked(partial(self._api.tasks.dequeue, task=task))
            if state.status in ("queued", "in_progress"):
                try:
                    self._asked(partial(self._api.tasks.stop, task=task, force=True))
                except CastlineError as error:
                    problems.append(error)
        if problems:
            raise problems[0]

    def page(self, task: str) -> str:
        """Where to look at it."""
        host = optional_import("clearml.backend_api", "clearml").Session.get_app_server_host()
        return f"{host}/projects/{self._project}/experiments/{task}"

    def _states(self, **asked: Any) -> list[State]:
        fields = ["id", "name", "status", "last_update", "status_reason", "status_message"]
        found = self._asked(lambda: self._api.tasks.get_all(only_fields=fields, **asked))
        return [
            State(
                str(one.id),
                str(one.name),
                str(getattr(one.status, "value", one.status)),
                str(getattr(one, "last_update", "")),
                str(getattr(one, "status_message", None) or getattr(one, "status_reason", None) or ""),
            )
            for one in found
        ]

    def _project_id(self) -> str:
        name = self.settings.project
        found = [one for one in self._asked(self._api.projects.get_all) if one.name == name]
        made = found[0] if found else self._asked(lambda: self._api.projects.create(name=name, description=""))
        return str(made.id)

    def _asked(self, ask: Callable[[], R]) -> R:
        """Raises: CastlineError in one line, whatever kind of error the SDK or what lies below it has for it."""
        try:
            return ask()
        except CastlineError:
            raise
        except Exception as error:
            raise CastlineError(
                f"ClearML at {self.host}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
                "is it reachable, and are the keys right? see ~/clearml.conf",
            ) from error


def result_of(task: str) -> Fragment:
    """What a completed task has handed back.

    Raises: DataError when there is nothing, it cannot be had, or it is no such thing.
    """
    clearml = optional_import("clearml", "clearml")
    try:
        artifact = clearml.Task.get_task(task_id=task).artifacts.get(RESULT)
        # `artifact.get()` would take a pickle for one.
        path = artifact.get_local_copy(extract_archive=False, raise_on_error=False) if artifact else None
        made = Path(path).read_bytes() if path else b""
    except Exception as error:  # of the SDK, or of what lies below it: any
        raise DataError(f"it completed, but what it handed back cannot be had: {error!r}") from error
    if not path:
        raise DataError("it completed, but handed nothing back")
    return Fragment.from_json(made)


def parameters_of(
    experiment: str, stage: str | None, rev: str, overrides: Sequence[str], inputs: Sequence[str]
) -> dict[str, str]:
    """What a task is told, as text: for which experiment, stage ("" for all), commit, overrides and the tasks that ran
    before it."""
    return {
        "experiment": experiment,
        "stage": stage or "",
        "rev": rev,
        "overrides": json.dumps(list(overrides)),
        "inputs": json.dumps(list(inputs)),
    }


def _check_answers(host: str) -> None:
    import requests

    started = time.monotonic()
    try:
        requests.get(f"{host}/debug.ping", timeout=_PATIENCE)
    except requests.RequestException as error:
        raise CastlineError(
            f"no ClearML server answers at {host} ({type(error).__name__}, {time.monotonic() - started:.0f} s)",
            "start it, mend CLEARML_API_HOST or ~/clearml.conf, or: orchestrator=local",
        ) from error

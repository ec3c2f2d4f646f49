"""Doubles for tests, since a ClearML server needs MongoDB and Elasticsearch: of its API, and of an agent.

The SDK that talks to them is the real one. Files go into a folder, as with a `file://` files server.
"""

import base64
import gzip
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

Message = dict[str, Any]
_STATES = {
    "started": "in_progress", "stopped": "stopped", "stop": "stopped", "completed": "completed", "failed": "failed",
    "close": "closed", "publish": "published",
}  # fmt: skip


class ClearMLDouble:
    """In-memory double of the ClearML API on loopback: what the adapter and the SDK below it ask for, and no more."""

    def __init__(self, files: Path, queues: tuple[str, ...]) -> None:
        self.files = files
        self.tasks: dict[str, Message] = {}
        self.projects: dict[str, Message] = {}
        self.queues = {f"queue-{name}": name for name in queues}
        self.queued: dict[str, list[str]] = {queue: [] for queue in self.queues}
        self.events: list[Message] = []
        self.seen: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.down = False  # answer nothing but 503, as behind a proxy whose server is away
        self.lock = threading.RLock()
        self.url = ""

    def environment(self) -> dict[str, str]:
        """Environment variables by which the SDK finds it."""
        return {
            "CLEARML_API_HOST": self.url,
            "CLEARML_WEB_HOST": self.url,
            "CLEARML_FILES_HOST": self.files.as_uri(),
            "CLEARML_API_ACCESS_KEY": "double",
            "CLEARML_API_SECRET_KEY": "double",
            "CLEARML_CONFIG_FILE": os.devnull,
        }

    def named(self, name: str) -> Message:
        """The newest task of that name."""
        return [task for task in self.tasks.values() if task["name"] == name][-1]

    def call(self, endpoint: str, body: Message) -> Message:
        match endpoint.partition("."):
            case "auth", _, "login":
                return {"token": _token()}
            case "projects", _, action:
                return self._projects(action, body)
            case "queues", _, action:
                return self._queues(action, body)
            case "tasks", _, action:
                return self._tasks(action, body)
            case "events", _, "add" | "add_batch":
                self.events += body.get("events", [body])
                return {"added": 1, "errors": 0}
            case "debug", _, "ping":
                return {}
        self.unknown[endpoint] += 1
        return {}

    def _projects(self, action: str, body: Message) -> Message:
        if action == "create":
            made = {"id": uuid.uuid4().hex, **body}
            self.projects[made["id"]] = made
            return {"id": made["id"]}
        if action == "get_by_id":
            return {"project": self.projects[body["project"]]}
        name = body.get("name") or ""
        return {"projects": [one for one in self.projects.values() if re.match(name, one["name"])]}

    def _queues(self, action: str, body: Message) -> Message:
        if action == "get_next_task":
            waiting = self.queued[body["queue"]]
            return {"entry": {"task": waiting.pop(0)}} if waiting else {}
        name = body.get("name") or ""
        return {
            "queues": [
                {"id": queue, "name": one, "workers": [], "entries": [{"task": task} for task in self.queued[queue]]}
                for queue, one in self.queues.items()
                if re.search(name, one)
            ]
        }

    def _tasks(self, action: str, body: Message) -> Message:
        if action == "create":
            made = _task(uuid.uuid4().hex) | body
            self.tasks[made["id"]] = made
            return {"id": made["id"]}
        if action in ("get_all", "get_all_ex"):
            return {"tasks": self._found(body)}
        task = self.tasks[body["task"]]
        task["last_update"] = _now()
        match action:
            case "get_by_id":
                return {"task": task}
            case "edit" | "update" | "set_requirements":
                _merge(task, {key: value for key, value in body.items() if key not in ("task", "force")})
            case "add_or_update_artifacts":
                kept = [one for one in task["execution"]["artifacts"] if one["key"] not in _keys(body)]
                task["execution"]["artifacts"] = kept + body["artifacts"]
            case "enqueue":
                task["status"] = "queued"
                self.queued[body["queue"]].append(task["id"])
                return {"queued": 1, "updated": 1}
            case "dequeue":
                task["status"] = "created"
                for waiting in self.queued.values():
                    waiting[:] = [one for one in waiting if one != task["id"]]
                return {"dequeued": 1}
            case "ping":
                return {}
            case _ if action in _STATES:
                task["status"] = _STATES[action]
                task["status_reason"] = body.get("status_reason")
                return {"updated": 1, "started": 1, "fields": {}}
            case _:
                self.unknown[f"tasks.{action}"] += 1
        return {"updated": 1, "fields": {}}

    def _found(self, body: Message) -> list[Message]:
        def fits(task: Message) -> bool:
            lists = all(not body.get(key) or task.get(key) in body[key] for key in ("id", "status", "type", "project"))
            return (
                lists
                and body.get("parent") in (None, task.get("parent"))
                and bool(re.search(body.get("name") or "", task["name"]))
            )

        found = [task for task in self.tasks.values() if fits(task)]
        if body.get("order_by") == ["-created"]:
            found.reverse()
        return found[: body.get("page_size") or None]


@contextmanager
def clearml_double(files: Path, queues: tuple[str, ...] = ("cpu", "gpu")) -> Iterator[ClearMLDouble]:
    """The double of the API, answering while the context lasts."""
    files.mkdir(parents=True, exist_ok=True)
    double = ClearMLDouble(files, queues)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                raw = gzip.decompress(raw)
            endpoint = self.path.partition("?")[0].rpartition("/")[2]
            code, data = 200, Message()
            with double.lock:
                double.seen[endpoint] += 1
                try:
                    if double.down:
                        code = 503
                    elif endpoint == "events.add_batch":
                        data = double.call(
                            endpoint, {"events": [json.loads(line) for line in raw.splitlines() if line]}
                        )
                    else:
                        data = double.call(endpoint, json.loads(raw or b"{}"))
                except KeyError:
                    code = 400
                text = json.dumps({"meta": _meta(endpoint, code), "data": data}).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = answer  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        double.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield double
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def agent_double(
    server: ClearMLDouble, folder: Path, environment: dict[str, str], fresh: bool = False
) -> Iterator[None]:
    """A stand-in for `clearml-agent` of all queues, as a process of its own: see `_serve_tasks`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "agent.log").open("w") as log:
        command = [sys.executable, __file__, server.url, str(folder), "fresh" if fresh else "", *server.queues]
        agent = subprocess.Popen(command, env=environment | server.environment(), stdout=log, stderr=log)
        try:
            yield
        finally:
            agent.terminate()
            agent.wait()


def _serve_tasks(url: str, folder: Path, fresh: bool, queues: list[str]) -> None:
    """Take tasks from the queues, clone each one's commit, run what it says, tell the server how it ended.

    As the agent does, it sets CLEARML_TASK_ID and works in the clone. Unless `fresh`, it starts no new Python for each
    task but forks one that has imported what a task imports: that takes longer than the tasks of the tests.
    """
    import clearml  # noqa: F401
    import dvc.repo
    from dvc.utils.hydra import compose_and_dump  # noqa: F401

    from castline.fleet.task import main

    dvc.repo.Repo  # noqa: B018

    def ask(endpoint: str, **body: Any) -> Message:
        request = urllib.request.Request(f"{url}/{endpoint}", json.dumps(body).encode())
        with urllib.request.urlopen(request) as answer:
            return dict(json.load(answer)["data"])

    while True:
        time.sleep(0.3)
        entries = [ask("queues.get_next_task", queue=queue).get("entry") for queue in queues]
        for task in [entry["task"] for entry in entries if entry]:
            ask("tasks.started", task=task)
            child = os.fork()
            if not child:
                _execute(
                    task, ask("tasks.get_by_id", task=task)["task"]["script"], folder / task, None if fresh else main
                )
            _, status = os.waitpid(child, 0)
            ask("tasks.failed" if status else "tasks.completed", task=task)


def _execute(task: str, script: Message, clone: Path, main: Callable[[], None] | None) -> NoReturn:
    code = 1
    try:
        subprocess.run(["git", "clone", "-q", script["repository"], str(clone)], check=True)
        subprocess.run(["git", "-C", str(clone), "checkout", "-q", "--detach", script["version_num"]], check=True)
        if script["entry_point"] != "-m castline.fleet.task":
            raise ValueError(script["entry_point"])
        os.environ["CLEARML_TASK_ID"] = task
        os.chdir(clone)
        if main is None:
            os.execv(sys.executable, [sys.executable, "-u", *script["entry_point"].split()])
        main()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _token() -> str:
    def part(value: Message) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    identity = {"user": "u", "company": "c", "role": "admin", "user_name": "u", "company_name": "c"}
    now = int(time.time())
    claims = {"exp": now + 90_000, "iat": now, "identity": identity, "env": "double", "feature_set": "basic"}
    claims |= {"server_version": "2.1.0", "api_version": "2.31"}
    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}.unsigned"


def _meta(endpoint: str, code: int) -> Message:
    return {
        "id": uuid.uuid4().hex,
        "trx": uuid.uuid4().hex,
        "endpoint": {"name": endpoint, "requested_version": "2.31", "actual_version": "1.0"},
        "result_code": code,
        "result_subcode": 0,
        "result_msg": "OK" if code == 200 else "the double refuses",
        "error_stack": "",
    }


def _task(task: str) -> Message:
    now = _now()
    return {
        "id": task, "status": "created", "created": now, "last_update": now, "last_change": now, "status_changed": now,
        "user": "u", "company": "c", "execution": {"artifacts": []}, "script": {}, "hyperparams": {},
        "configuration": {}, "last_metrics": {}, "runtime": {}, "tags": [], "system_tags": [], "last_iteration": 0,
        "output": {}, "models": {"input": [], "output": []},
    }  # fmt: skip


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000+00:00", time.gmtime())


def _keys(body: Message) -> set[str]:
    return {one["key"] for one in body["artifacts"]}


def _merge(into: Message, new: Message) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            into[key].update(value)
        else:
            into[key] = value


if __name__ == "__main__":
    _serve_tasks(sys.argv[1], Path(sys.argv[2]), bool(sys.argv[3]), sys.argv[4:])

"""Lambda without Lambda: the real runtime client (awslambdaric) runs an unpacked function as a process of its own, and
asks a Runtime API here what to do. What it can import is the function, the client, and Python's own library.

Source: AWS Lambda developer guide, "Using the Lambda runtime API" (2018-06-01).
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from castline.edge.package import pack_release
from castline.edge.recipes import PackageSettings, json_bytes, recipe

CLIENT = ("awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py")


def packaged(bundle: Path, folder: Path, version: str = "1.0.0", format: str = "float32") -> Path:
    """As the package stage leaves build/edge."""
    settings = PackageSettings()
    release = pack_release(bundle, folder / "artifacts" / settings.component / version, format, version)
    made = folder / "recipes/classic" / f"{settings.component}-{version}.json"
    made.parent.mkdir(parents=True)
    made.write_bytes(json_bytes(recipe(settings, "classic", version, "program.zip", release.name, "5f3a")))
    return folder


def unpacked(archive: Path, folder: Path) -> Path:
    """The function, as Lambda has it in /var/task."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A function that is killed while it waits is nothing to print."""


class Function:
    """A function that runs. `call` gives ("ok", what it returned) or ("error", what it raised); log: what it said.

    started: ("ready", None), or ("error", ...) when its code could not be loaded. memory: bytes, the most it took.
    """

    def __init__(self, task: Path, work: Path, variables: Mapping[str, str], seconds: float = 60.0) -> None:
        self._todo: queue.Queue[Any] = queue.Queue()
        self._done: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._seconds, self._ended = seconds, threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        client = work / "client"
        client.mkdir(parents=True)
        for name in CLIENT:
            found = find_spec(name)
            assert found is not None and found.origin is not None
            origin = Path(found.origin)
            origin = origin.parent if origin.name == "__init__.py" else origin
            (client / origin.name).symlink_to(origin)
        self.path = work / "log.txt"
        self._command = [sys.executable, "-S", "-s", "-m", "awslambdaric", "handler.handle"]
        self._task = task
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
        self._variables = kept | {
            "PYTHONPATH": f"{task}{os.pathsep}{client}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "LAMBDA_TASK_ROOT": str(task),
            "AWS_LAMBDA_FUNCTION_NAME": "test",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "2048",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nobody",
            **variables,
        }

    def __enter__(self) -> "Function":
        self._thread.start()
        self._log = self.path.open("wb")
        self._process = subprocess.Popen(
            self._command, cwd=self._task, env=self._variables, stdout=self._log, stderr=subprocess.STDOUT
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._process.kill()
        self._process.wait()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._log.close()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The handler's own lines."""
        lines = self.path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"outcome"')]

    @property
    def memory(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))

    @property
    def processor(self) -> float:
        """Seconds of processor time that it took so far, of all its threads, whatever else the machine does."""
        user, system = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def call(self, event: Any) -> tuple[str, Any]:
        """What comes of an event; the first call waits until the function has started."""
        self._todo.put(event)
        return self.answer()

    def send(self, event: Any) -> None:
        """Call it, and go on; `answer` gives what comes of it."""
        self._todo.put(event)

    def answer(self) -> tuple[str, Any]:
        try:
            return self._done.get(timeout=90)
        except queue.Empty:
            raise AssertionError(self.path.read_text()[-2000:]) from None

    def _handler(function) -> type[BaseHTTPRequestHandler]:  # noqa: N805 (`self` is the request's)
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                while not function._ended.is_set():
                    try:
                        event = function._todo.get(timeout=0.05)
                        break
                    except queue.Empty:
                        continue
                else:
                    self.close_connection = True
                    return
                deadline = int(1000 * (time.time() + function._seconds))
                body = json.dumps(event).encode()
                self.send_response(200)
                for name, value in (
                    ("Lambda-Runtime-Aws-Request-Id", str(uuid.uuid4())),
                    ("Lambda-Runtime-Deadline-Ms", str(deadline)),
                    ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-1:123456789012:function:test"),
                    ("Lambda-Runtime-Trace-Id", "Root=1-0-0"),
                    ("Content-Type", "application/json"),
                    ("Content-Length", str(len(body))),
                ):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
                self.send_response(202)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")
                function._done.put(("error" if self.path.endswith("/error") else "ok", body))

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

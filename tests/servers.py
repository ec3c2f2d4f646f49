"""Servers on loopback for tests: a folder of files, whole, cut short, or as the hub answers."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Served:
    """A server that runs: where it is, and what was asked of it."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def serve(folder: Path) -> Iterator[Served]:
    """Serve the files of `folder` as they are, /cut/FILE to its middle, /REPO/resolve/REVISION/FILE as the hub would.

    A repository is a folder; its one revision is REVISION, which `main` leads to.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            served.asked.append(f"{self.command} {self.path}")
            path, cut = self.path.partition("?")[0].lstrip("/"), False
            if path.startswith("cut/"):
                path, cut = path.removeprefix("cut/"), True
            if path == "huge":
                self.send_response(200)
                self.send_header("Content-Length", str(1 << 50))
                self.end_headers()
                return
            repo, resolve, rest = path.partition("/resolve/")
            if resolve:
                revision, _, file = rest.partition("/")
                path = f"{repo}/{file}" if revision in ("main", REVISION) else ""
            target = folder / path
            if not path or not target.is_file():
                self.send_response(404)
                self.send_header(
                    "X-Error-Code", "EntryNotFound" if resolve and (folder / repo).is_dir() else "RepoNotFound"
                )
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = target.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", REVISION)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data[: len(data) // 2] if cut else data)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Served(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


def closed_port() -> str:
    """The URL of a port of this machine where nothing listens."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def moto() -> Iterator[str]:
    """AWS as moto has it, in a process of its own, which keeps its warnings to itself; its URL."""
    import socket
    import subprocess
    import sys
    import time

    url = closed_port()
    port = url.rpartition(":")[2]
    with subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            while True:
                assert process.poll() is None, "moto did not start"
                with socket.socket() as client:
                    if client.connect_ex(("127.0.0.1", int(port))) == 0:
                        break
                time.sleep(0.05)
            yield url
        finally:
            process.kill()

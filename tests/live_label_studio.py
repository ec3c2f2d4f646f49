"""The real Label Studio, as tests start it."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from projects import ROOT, environment

from castline.label_studio.client import Client


@dataclass
class Live:
    """A server that runs: its address, its project's folder, the first user's token, the folder of the pile."""

    url: str
    folder: Path
    token: str
    pile: Path

    @property
    def client(self) -> Client:
        return Client(self.url, self.token)


@contextmanager
def started(folder: Path, *options: str) -> Iterator[str]:
    """`castline label start` in `folder`; the address. It has to end well when it is told to."""
    code = "import sys; from castline.cli import main; sys.argv[0] = 'castline'; main()"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-P", "-c", code, "label", "start", "--port", str(port), *options]
    variables = {**environment(), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found, "it did not start"
            yield found[0]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    with socket.socket() as gone:
        assert gone.connect_ex(("127.0.0.1", port)) != 0, "the server outlived the command"

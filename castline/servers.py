"""Servers of other programs, run for this project as children: started, waited for, and stopped with the command."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from castline.errors import CastlineError

__all__ = ["Server", "check_free", "is_up"]

_PATIENCE = 600  # seconds; a start takes about ten, on an idle machine


@dataclass(frozen=True)
class Server:
    """A server and its files. title: as people know the program. log: what it says. state: a file that is removed when
    it ends, for whoever wants to know where it runs."""

    title: str
    log: Path
    state: Path

    @contextlib.contextmanager
    def running(
        self, command: list[Path | str], variables: Mapping[str, str], lock: int
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The server as a child that ends with this block. Until it ends it holds the lock, whatever becomes of us."""
        server = None
        try:
            with self.log.open("wb") as log:
                server = subprocess.Popen(
                    command,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    umask=0o077,
                    start_new_session=True,
                    pass_fds=[lock],
                )
            yield server
        except KeyboardInterrupt:
            print(f"stopping {self.title}", file=sys.stderr)
        finally:
            self.state.unlink(missing_ok=True)
            if server is not None:
                _end(server)

    def url(self) -> str | None:
        """Where the state file says that it runs; None as long as it is not there, or not whole."""
        try:
            return str(json.loads(self.state.read_text(encoding="utf-8"))["url"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def wait(self, server: subprocess.Popen[bytes], host: str, port: int) -> None:
        """Return when it answers.

        Raises: CastlineError when it ends, or does not come up for long.
        """
        started, terminal = time.monotonic(), sys.stderr.isatty()
        print(f"{self.title} is starting …", file=sys.stderr, flush=True)
        while not is_up(host, port):
            seconds = time.monotonic() - started
            ended = server.poll() is not None
            if ended or seconds > _PATIENCE:
                why = f"ended with exit code {server.returncode}" if ended else f"is not up after {seconds:.0f} s"
                raise CastlineError(f"{self.title} {why}:{self.tail()}", f"look into {self.log}")
            if terminal:
                print(f"\r{seconds:.0f} s", end="", file=sys.stderr, flush=True)
            time.sleep(0.25)
        print(f"{chr(13) if terminal else ''}up after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)

    def outlast(self, server: subprocess.Popen[bytes]) -> None:
        """Return never: raise when it ends by itself."""
        server.wait()
        raise CastlineError(
            f"{self.title} ended with exit code {server.returncode}:{self.tail()}", f"look into {self.log}"
        )

    def tail(self) -> str:
        """The end of what it said."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-8:]
        return "".join(f"\n    {line}" for line in lines)


def _end(server: subprocess.Popen[bytes]) -> None:
    """With all the processes that it has started, which are of its session."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, ending)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)


def is_up(host: str, port: int) -> bool:
    """Whether it says of itself that it is well, at /health."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def check_free(host: str, port: int, command: str) -> None:
    """command: that is told to take another port.

    Raises: CastlineError when nothing can listen there.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError) as error:
        raise CastlineError(
            f"nothing can listen on {host}, port {port}: {getattr(error, 'strerror', None) or error}",
            f"choose another port: {command} --port {port + 1 if port < 65535 else 8090}",
        ) from error

"""The project's model as a backend of Label Studio: it asks, and labellers find names where they would begin with none.

What Label Studio asks, and how long it waits (1.23, label_studio/ml/api_connector.py):

    GET  /health     1 s     is it there
    POST /setup      3 s     what is the version; brings the project's form, and a token that is neither kept nor shown
    GET  /versions   3 s     the same
    POST /predict    100 s   tasks → predictions
    POST /webhook    1 s     what happened in the project; without the password, if there is one

Whoever reaches the port can ask who is in the project's photos, so there is no answer to a web page: its request has
the name of another host, or no JSON. One request a connection, bounded in size and time.
"""

import base64
import binascii
import contextlib
import hmac
import json
import re
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from castline.errors import CastlineError
from castline.label_studio.prelabels import Prelabeller
from castline.labels.form import PERSON
from castline.text import short, shown

__all__ = ["Backend", "is_loopback", "serve"]

_MOST_BYTES = 64 << 20  # a thousand tasks that each list a cast of a thousand take half of it
_MOST_TASKS = 10_000
_MOST_CONNECTIONS = 32
_READING = 30.0  # seconds for all of a request; Label Studio sends it in one go
_ANSWERING = 85.0  # seconds of the 100 that Label Studio waits for
_DRAINED = 1 << 20
_MOST_LINES = 10
_FORM = re.compile(rf"<RectangleLabels\s[^>]*\bname\s*=\s*[\"']{PERSON}[\"']")
_LENGTH = re.compile(r"[0-9]{1,15}")
_ACTION = re.compile(r"[A-Z_]{1,40}")


class _Refusal(Exception):
    """A request that is not answered: the HTTP status, and what to say."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Backend(ThreadingHTTPServer):
    """The HTTP server, which listens once it is made; `serve_forever` answers."""

    daemon_threads = True
    request_queue_size = _MOST_CONNECTIONS

    def __init__(
        self,
        prelabeller: Prelabeller,
        host: str = "127.0.0.1",
        port: int = 9090,
        names: Collection[str] = (),
        login: tuple[str, str] | None = None,
        reading: float = _READING,
    ) -> None:
        """names: by which it may be asked for, beside addresses and localhost. login: user and password that have to
        be given. reading: seconds in which a request has to have arrived.

        Raises: CastlineError when it cannot listen there.
        """
        self.prelabeller, self.login, self.reading = prelabeller, login, reading
        self.names = {name.lower().rstrip(".") for name in (*names, "localhost")}
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        try:
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError, UnicodeError) as error:
            raise CastlineError(
                f"nothing can listen on {host}, port {port}: {getattr(error, 'strerror', None) or error}",
                "choose another: castline label backend --host ADDRESS --port PORT",
            ) from error

    @property
    def url(self) -> str:
        """Where it is; if it listens everywhere, as this machine sees it."""
        host, port = self.server_address[:2]
        host = str(host)
        if ip_address(host).is_unspecified:
            host = "::1" if ":" in host else "127.0.0.1"
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def server_bind(self) -> None:
        """Without asking a name server for this machine's name, as HTTPServer does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, if there are not too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Make place for another at the end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A line, not a traceback: mostly, somebody hung up."""
        error = sys.exception()
        if not isinstance(error, OSError):
            _say(f"{client_address[0]}: {type(error).__name__}: {error}")

    def is_own_name(self, host: str) -> bool:
        """Whether a Host header names this server: by address, which no name server can bend, or by a known name."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
            if name in self.names:
                return True
            ip_address(name)
        except ValueError:
            return False
        return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address, or localhost."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(backend: Backend) -> None:
    """Answer until SIGTERM or Ctrl-C, then finish the photo that is being looked at."""

    def stop(number: int, frame: object) -> None:
        threading.Thread(target=backend.shutdown).start()  # it waits for the loop that this interrupts

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with backend:
        backend.serve_forever(poll_interval=0.2)
    backend.prelabeller.close()


class _Handler(BaseHTTPRequestHandler):
    server: Backend
    server_version, sys_version = "castline", ""
    _read = False  # whether the body was

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.reading)
        # The timeout is for each read: whoever sends a byte now and then would keep the thread.
        self._watch = threading.Timer(self.server.reading, self._hang_up)
        self._watch.daemon = True
        self._watch.start()

    def finish(self) -> None:
        self._watch.cancel()
        super().finish()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library has to say, of a request that it could not read or a method that is not here."""
        code = 405 if code == 501 else code
        self._send(code, {"error": "GET and POST only" if code == 405 else f"not a request ({code})"})

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: `_answer` says more."""

    def log_message(self, format: str, *args: Any) -> None:
        _say(f"{self.client_address[0]}: {format % args}")

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        try:
            answer, note = self._route(path)
            status = 200
        except _Refusal as refusal:
            status, answer, note = refusal.status, {"error": refusal.message}, refusal.message
        except OSError:  # it hung up
            raise
        except Exception as error:
            status, answer = 500, {"error": "the backend failed: its log says how"}
            note = shown(f"{type(error).__name__}: {error}")
        _say(f"{self.client_address[0]}: {self.command} {short(path)} {status}{': ' if note else ''}{note}")
        self._send(status, answer)
        self._drain()

    def _route(self, path: str) -> tuple[Any, str]:
        """What to answer, and what to note of it.

        Raises: _Refusal.
        """
        self._check_host()
        if path not in _ROUTES:
            raise _Refusal(404, f"there are {', '.join(_ROUTES)}")
        method, route = _ROUTES[path]
        if self.command != method:
            raise _Refusal(405, f"{path} wants {method}")
        if path != "/webhook":  # Label Studio has no password for it; nothing is done there
            self._check_login()
        body = self._body() if method == "POST" else {}
        self._watch.cancel()
        return route(self, body)

    def _check_host(self) -> None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1:
            raise _Refusal(400, "one Host header is wanted")
        if not self.server.is_own_name(hosts[0]):
            raise _Refusal(403, "this host is not known here: castline label backend --allow-host NAME")

    def _check_login(self) -> None:
        if self.server.login is None:
            return
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        try:
            found = base64.b64decode(given.strip(), validate=True) if kind.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            found = b""
        if not hmac.compare_digest(found, ":".join(self.server.login).encode()):
            raise _Refusal(401, "user and password are wanted, or other ones")

    def _body(self) -> dict[str, Any]:
        """The JSON object that was sent.

        Raises: _Refusal.
        """
        lengths = self.headers.get_all("Content-Length") or []
        if "Transfer-Encoding" in self.headers or len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
            raise _Refusal(411, "one Content-Length is wanted")
        if int(lengths[0]) > _MOST_BYTES:
            raise _Refusal(413, f"more than {_MOST_BYTES >> 20} MiB: select fewer tasks")
        if self.headers.get_content_type() != "application/json":
            raise _Refusal(415, "application/json is wanted")
        content, self._read = self.rfile.read(int(lengths[0])), True
        if len(content) < int(lengths[0]):
            raise _Refusal(400, "it is shorter than its Content-Length")
        try:
            body = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise _Refusal(400, "it is no JSON, or too deep") from error
        if not isinstance(body, dict):
            raise _Refusal(400, "a JSON object is wanted")
        return body

    def _health(self, body: dict[str, Any]) -> tuple[Any, str]:
        return {"status": "UP", "model_class": "Castline"}, ""

    def _setup(self, body: dict[str, Any]) -> tuple[Any, str]:
        form = body.get("schema")
        if not isinstance(form, str) or not _FORM.search(form):
            message = (
                f"the project's form has no RectangleLabels called {PERSON}: castline label push makes one that has"
            )
            raise _Refusal(400, message)
        return {"model_version": self.server.prelabeller.version}, ""

    def _versions(self, body: dict[str, Any]) -> tuple[Any, str]:
        return {"versions": [self.server.prelabeller.version]}, ""

    def _predict(self, body: dict[str, Any]) -> tuple[Any, str]:
        tasks, started = body.get("tasks"), time.monotonic()
        if not isinstance(tasks, list):
            raise _Refusal(400, "tasks is wanted, a list")
        if len(tasks) > _MOST_TASKS:
            raise _Refusal(400, f"more than {_MOST_TASKS} tasks: select fewer")
        answer = self.server.prelabeller(tasks, started + _ANSWERING)
        note = f"{len(tasks) - answer.left} tasks in {time.monotonic() - started:.1f} s"
        note += f", {answer.remembered} remembered" if answer.remembered else ""
        note += f", {answer.left} left for when it is asked again" if answer.left else ""
        for place, reason in answer.refused[:_MOST_LINES]:
            number = tasks[place].get("id") if isinstance(tasks[place], dict) else None
            note += f"\n  task {number if isinstance(number, int) else '?'}: {reason}"
        more = len(answer.refused) - _MOST_LINES
        return {"results": answer.results}, note + (f"\n  and {more} more" if more > 0 else "")

    def _webhook(self, body: dict[str, Any]) -> tuple[Any, str]:
        action = body.get("action")
        return {}, action if isinstance(action, str) and _ACTION.fullmatch(action) else ""

    def _send(self, status: int, answer: object) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="castline"')
        self.end_headers()
        self.wfile.write(content)

    def _drain(self) -> None:
        """Read what a refused request had more: closed before, the connection would take the answer with it."""
        length = self.headers.get("Content-Length", "")
        if not self._read and _LENGTH.fullmatch(length):
            self.rfile.read(min(int(length), _DRAINED))

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


_ROUTES: dict[str, tuple[str, Callable[[_Handler, dict[str, Any]], tuple[Any, str]]]] = {
    "/health": ("GET", _Handler._health),
    "/versions": ("GET", _Handler._versions),
    "/setup": ("POST", _Handler._setup),
    "/predict": ("POST", _Handler._predict),
    "/webhook": ("POST", _Handler._webhook),
}


def _say(line: str) -> None:
    """A line of the log. Parts that anybody may have sent are made harmless before."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)

"""The client against a double that fails in ways in which a real server cannot be made to."""

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from servers import closed_port

from castline.errors import CastlineError
from castline.label_studio import client, server
from castline.label_studio.client import Client, connect

LEGACY = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = "aaaa.bbbb.cccc"


@dataclass
class Double:
    """Answers what is next in `answers`: a status and a body, or a redirect to the body; 0 keeps it waiting.

    asked, tokens: what it was asked, and with which.
    """

    url: str = ""
    answers: list[tuple[int, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    monkeypatch.setattr(client, "_PAUSES", (0.0, 0.0, 0.0))
    made, over = Double(), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            made.asked.append(f"{self.command} {self.path.partition('?')[0]}")
            made.tokens.append(self.headers.get("Authorization"))
            status, body = made.answers.pop(0) if made.answers else (200, {})
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            if not status:
                over.wait(10)
                return
            self.send_response(status)
            if status == 302:
                self.send_header("Location", str(body))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = answer  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        made.url = f"http://127.0.0.1:{served.server_port}"
        thread = threading.Thread(target=served.serve_forever, args=(0.02,))
        thread.start()
        yield made
        over.set()
        served.shutdown()
        thread.join()


@pytest.mark.parametrize("failure", [500, 502, 429])
def test_what_changes_nothing_is_asked_again_and_what_makes_something_is_not(double: Double, failure: int) -> None:
    double.answers = [(failure, "busy"), (failure, "busy"), (200, {"id": 1})]
    assert Client(double.url, LEGACY).get("/api/x") == {"id": 1}
    double.answers = [(failure, "busy"), (200, {"id": 1})]
    assert Client(double.url, LEGACY).patch("/api/x", {}) == {"id": 1}
    double.asked.clear()
    double.answers = [(failure, "busy")]
    with pytest.raises(CastlineError, match=rf"failed \({failure}\)") as error:
        Client(double.url, LEGACY).post("/api/x", {})
    assert "run this again" in str(error.value)
    assert double.asked == ["POST /api/x"]


def test_patience_ends(double: Double) -> None:
    double.answers = [(503, "")] * 9
    with pytest.raises(CastlineError, match="the server failed"):
        Client(double.url, LEGACY).get("/api/x")
    assert len(double.asked) == 4


def test_a_personal_token_is_traded_for_access_and_again_once_that_is_over(double: Double) -> None:
    refresh = "POST /api/token/refresh/"
    asking = Client(double.url, PERSONAL)
    double.answers = [(401, {}), (200, {"access": "one"}), (200, {}), (200, {})]
    asking.get("/api/x")
    asking.get("/api/y")
    assert double.asked == ["GET /api/x", refresh, "GET /api/x", "GET /api/y"]
    assert double.tokens == [None, None, "Bearer one", "Bearer one"]
    double.answers = [(401, {}), (200, {"access": "two"}), (201, {"id": 7})]
    assert asking.post("/api/z", {}) == {"id": 7}
    assert double.tokens[-1] == "Bearer two"
    double.answers = [(401, {}), (200, {"access": "three"}), (401, {})]
    with pytest.raises(CastlineError, match=r"not accepted \(401\)"):
        asking.get("/api/x")


@pytest.mark.parametrize("token", [LEGACY, PERSONAL])
@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"detail": "no"}, "not accepted"),
        (403, {"detail": "no such token"}, "not accepted"),
        (403, {"detail": "no"}, "may not GET"),
        (404, {}, "not there"),
        (302, "http://elsewhere.example/", "another address"),
        (200, "<html>a proxy's login</html>", "not what Label Studio answers"),
        (400, f"your token {LEGACY}{PERSONAL} is bad\x1b[2J", "refused"),
    ],
)
def test_failures_are_said_without_the_token(double: Double, token: str, status: int, body: Any, words: str) -> None:
    double.answers = [(status, body)] * 3
    with pytest.raises(CastlineError, match=words) as error:
        Client(double.url, token).get("/api/x")
    assert token not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert "elsewhere" not in " ".join(double.asked)


def test_a_list_that_is_none_is_said(double: Double) -> None:
    double.answers = [(200, {"unexpected": []})]
    with pytest.raises(CastlineError, match="not what Label Studio answers"):
        list(Client(double.url, LEGACY).pages("/api/tasks"))
    double.answers = [(200, {"total": 3, "tasks": [1, 2]}), (200, {"total": 3, "tasks": [3]})]
    assert list(Client(double.url, LEGACY).pages("/api/tasks")) == [1, 2, 3]
    double.answers = [(200, {"total": 3, "tasks": [1]}), (200, {"total": 3, "tasks": []})]
    assert list(Client(double.url, LEGACY).pages("/api/tasks")) == [1], "tasks that went meanwhile"


def test_no_server_a_slow_one_and_one_without_tls(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CastlineError, match=r"no answer .*\n.*castline label start"):
        Client(closed_port(), LEGACY).get("/api/x")
    with pytest.raises(CastlineError, match=r"no answer|certificate"):
        Client(double.url.replace("http:", "https:"), LEGACY).get("/api/x")
    monkeypatch.setattr(client, "_TIMEOUT", (1.0, 0.05))
    double.answers = [(0, "")]
    with pytest.raises(CastlineError, match="no answer in time"):
        Client(double.url, LEGACY).get("/api/x")


def test_what_netrc_says_of_the_host_is_not_sent(
    double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    Client(double.url, LEGACY).get("/api/x")
    assert double.tokens == [f"Token {LEGACY}"]


@pytest.mark.parametrize("url", ["ftp://x", "labels.example.org", "http://", "http://a:b@host", "http://x?y", ""])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(CastlineError, match="is no server's URL"):
        Client(url, LEGACY)


def test_without_a_server_or_a_token_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MY_TOKEN", raising=False)
    with pytest.raises(CastlineError, match="castline label start"):
        connect()
    with pytest.raises(CastlineError, match="MY_TOKEN is not set"):
        connect("http://127.0.0.1:1", "MY_TOKEN")
    server.CREDENTIALS.parent.mkdir(parents=True)
    server.CREDENTIALS.write_text('{"username": "a", "password": "b", "token": "c"}')
    with pytest.raises(CastlineError, match="does not run"):
        connect()
    server.CREDENTIALS.write_text("{}")
    with pytest.raises(CastlineError, match="cannot be read"):
        connect()

"""The server's environment and its first start, with a double of uv that installs nothing."""

import json
import multiprocessing
import os
from importlib import resources
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from castline.errors import CastlineError
from castline.label_studio import environment, server

UV = """#!/bin/sh
echo called >> "$UV_DOUBLE/calls"
if [ -e "$UV_DOUBLE/fails" ]; then echo "no route to host" >&2; exit 2; fi
sleep 0.2
"""


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with uv's double and what it was called for; the cache is beside it."""
    folder = tmp_path / "uv"
    folder.mkdir()
    (folder / "uv").write_text(UV)
    (folder / "uv").chmod(0o755)
    monkeypatch.setattr(environment, "_uv", lambda: str(folder / "uv"))
    monkeypatch.setenv("UV_DOUBLE", str(folder))
    monkeypatch.setenv("CASTLINE_CACHE", str(tmp_path / "cache"))
    return folder


def calls(double: Path) -> int:
    path = double / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_it_is_made_once_and_again_where_an_installation_was_killed(double: Path) -> None:
    made = environment.environment()
    assert (made / "bin" / "python").exists()
    assert environment.environment() == made == environment.folder()
    assert calls(double) == 1
    (made / ".complete").unlink()  # as a kill leaves it
    (made / "half").touch()
    environment.environment()
    assert calls(double) == 2
    assert not (made / "half").exists()


def test_two_that_ask_at_once_get_one(double: Path) -> None:
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=environment.environment) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert [one.exitcode for one in both] == [0, 0]
    assert calls(double) == 1


def test_a_failed_installation_is_said_and_tried_again(double: Path) -> None:
    (double / "fails").touch()
    for _ in range(2):
        with pytest.raises(CastlineError, match=r"(?s)no route to host.*package index"):
            environment.environment()
    (double / "fails").unlink()
    assert environment.environment().is_dir()
    assert calls(double) == 3


def test_no_room_is_said_before_anything_is_fetched(double: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_NEEDED", 1 << 70)
    with pytest.raises(CastlineError, match=r"(?s)GB are free.*CASTLINE_CACHE"):
        environment.environment()
    assert calls(double) == 0


def test_the_lock_names_exact_versions_and_no_host() -> None:
    lock = resources.files("castline.label_studio").joinpath("requirements.lock").read_text().splitlines()
    pins = [line for line in lock if not line.startswith("#")]
    assert f"label-studio=={environment.VERSION}" in pins
    assert all("==" in line and "://" not in line and not line.startswith("-") for line in pins)


def test_the_servers_python_is_not_led_into_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    assert "PYTHONPATH" not in environment.clean()
    assert environment.clean()["PATH"] == os.environ["PATH"]


def test_a_first_start_makes_secrets_that_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "empty.sqlite3"
    empty.write_bytes(b"migrated")
    monkeypatch.setattr(server, "database", lambda: empty)
    server.CREDENTIALS.parent.mkdir(parents=True)
    server._prepare()
    first = server.credentials()
    assert len(first.password) >= 20
    assert len(first.token) == 40
    assert server.CREDENTIALS.stat().st_mode & 0o777 == 0o600
    assert server._DATABASE.read_bytes() == b"migrated"
    server._DATABASE.write_bytes(b"with labels")
    server._prepare()
    assert server.credentials() == first
    assert server._DATABASE.read_bytes() == b"with labels"
    for name in ("data", "build/label"):
        assert (server.SERVED / name).readlink() == tmp_path / name
    server.CREDENTIALS.unlink()
    with pytest.raises(CastlineError, match=r"(?s)is gone.*put it back"):
        server._prepare()


def test_links_follow_a_project_that_was_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "database", lambda: tmp_path / "empty")
    (tmp_path / "empty").touch()
    (tmp_path / "before" / server.CREDENTIALS.parent).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "before")
    server._prepare()
    (tmp_path / "before").rename(tmp_path / "after")
    monkeypatch.chdir(tmp_path / "after")
    server._prepare()
    assert (server.SERVED / "data").readlink() == tmp_path / "after/data"


def test_a_model_is_asked_only_where_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    server.CREDENTIALS.parent.mkdir(parents=True)
    server.CREDENTIALS.write_text(json.dumps({"username": "a", "password": "b", "token": "c"}))
    default, list_ = "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS", "LABEL_STUDIO_USER_ADDITIONAL_BANNED_SUBNETS"
    monkeypatch.delenv(list_, raising=False)
    plain = server._variables("http://127.0.0.1:1", "127.0.0.1", allow_backend=False)
    assert not {default, list_} & plain.keys()
    assert (plain["http_proxy"], plain["no_proxy"]) == (server._NOWHERE, "")
    opened = server._variables("http://127.0.0.1:1", "127.0.0.1", allow_backend=True)
    assert opened[default] == "false" and "LABEL_STUDIO_ML_BLOCK_LOCAL_IP" not in opened
    banned = [ip_network(network) for network in opened[list_].split(",")]
    private = (
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.5",
        "169.254.169.254",
        "100.64.0.1",
        "fd00::1",
        "fe80::1",
        "0.0.0.0",
    )
    assert all(any(ip_address(one) in network for network in banned) for one in private)
    assert not any(ip_address(one) in network for network in banned for one in ("127.0.0.1", "::1"))
    assert (opened["http_proxy"], opened["no_proxy"]) == (server._NOWHERE, "127.0.0.1,localhost,::1")
    monkeypatch.setenv(list_, "169.254.0.0/16")
    assert server._variables("http://127.0.0.1:1", "127.0.0.1", allow_backend=True)[list_] == "169.254.0.0/16"
    for variables in (plain, opened):
        assert variables["LABEL_STUDIO_COLLECT_ANALYTICS"] == "false"
        assert variables["LABEL_STUDIO_SENTRY_DSN"] == variables["LABEL_STUDIO_FRONTEND_SENTRY_DSN"] == ""
        assert variables["HTTPS_PROXY"] == server._NOWHERE
    assert "LABEL_STUDIO_ALLOWED_HOSTS" in plain
    assert "LABEL_STUDIO_ALLOWED_HOSTS" not in server._variables("http://x:1", "0.0.0.0", allow_backend=False)


def test_nothing_can_listen_there(tmp_path: Path) -> None:
    with pytest.raises(CastlineError, match=r"nothing can listen on 192\.0\.2\.1, port 8090"):
        server._check_free("192.0.2.1", 8090)

"""The server's first start, and what it is told, without a server."""

import json
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from castline.errors import CastlineError
from castline.label_studio import server
from castline.servers import check_free


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
        check_free("192.0.2.1", 8090, "castline label start")

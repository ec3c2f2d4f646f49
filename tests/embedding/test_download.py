"""Weights by URL: whole and right, or not at all; and what is fetched once is not fetched again."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Served, closed_port, serve

from castline.embedding.download import cached, fetched
from castline.errors import WeightsError

DATA = bytes(range(256)) * 20_000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CASTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "net.safetensors").write_bytes(DATA)
    with serve(tmp_path / "served") as served:
        yield served


def test_a_file_is_fetched_once_and_kept_under_its_hash(server: Served, cache: Path) -> None:
    url = f"{server.url}/net.safetensors"
    path = fetched(url, SHA)
    assert path == cached(url, SHA) == cache / f"{SHA}.safetensors"
    assert path.read_bytes() == DATA
    assert fetched(url, SHA) == path
    assert server.asked == ["GET /net.safetensors"]

    path.write_bytes(DATA[:100])  # spoilt since
    assert fetched(url, SHA).read_bytes() == DATA
    assert [file.name for file in cache.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("path", "sha256", "complaint"),
    [
        ("net.safetensors?key=secret", "0" * 64, f"sha256 is {SHA}, expected 0000"),
        ("nothing.pt", SHA, "cannot be fetched: 404 Not Found"),
        ("cut/net.safetensors", SHA, "cannot be fetched: the connection ended after 2560000 of 5120000 bytes"),
        ("huge", SHA, "cannot be fetched: 1125899906842624 bytes, at most 4294967296 are taken"),
    ],
)
def test_what_is_not_the_file_is_never_left_behind(
    server: Served, cache: Path, path: str, sha256: str, complaint: str
) -> None:
    with pytest.raises(WeightsError) as refused:
        fetched(f"{server.url}/{path}", sha256)
    assert str(refused.value).startswith(f"{server.url}/{path.partition('?')[0]}: {complaint}")
    assert "base_model." in refused.value.next
    assert list(cache.iterdir()) == []


def test_a_host_that_does_not_answer_is_named_with_what_else_to_do(cache: Path) -> None:
    url = f"{closed_port()}/net.safetensors"
    with pytest.raises(WeightsError) as refused:
        fetched(url, SHA)
    assert f"{url}: cannot be fetched: [Errno 111] Connection refused" in refused.value.what
    assert str(cached(url, SHA)) in refused.value.next and "base_model=dlib_face_resnet" in refused.value.next

    cached(url, SHA).write_bytes(DATA)  # as the error says
    assert fetched(url, SHA).read_bytes() == DATA


def test_a_cache_that_cannot_be_written_is_said(
    tmp_path: Path, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CASTLINE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match="Not a directory"):
        fetched(f"{server.url}/net.safetensors", SHA)

"""The most popular people, from small files as IMDb publishes them, and the download of those files."""

import gzip
import http.server
import math
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from castline.collect import imdb
from castline.collect.imdb import FILES, download, popular
from castline.errors import CastlineError, DataError

RATINGS = "tconst\taverageRating\tnumVotes\n"
PRINCIPALS = "tconst\tordering\tnconst\tcategory\tjob\tcharacters\n"
NAMES = "nconst\tprimaryName\tbirthYear\tdeathYear\tprimaryProfession\tknownForTitles\n"


def written(folder: Path, ratings: str, principals: str, names: str) -> Path:
    for name, text in zip(FILES, (RATINGS + ratings, PRINCIPALS + principals, NAMES + names), strict=True):
        (folder / name).write_bytes(gzip.compress(text.encode()))
    return folder


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return written(
        tmp_path,
        "tt0000001\t8.1\t1000000\ntt0000002\t7.0\t100000\ntt0000003\t5.0\t9999\ntt0000004\t5.0\t\\N\ntt0000005\t5\t10000\n",
        'tt0000001\t1\tnm0000002\tactor\t\\N\t["Some "quoted" part"]\n'
        "tt0000001\t2\tnm0000001\tactress\t\\N\t\\N\n"
        "tt0000001\t3\tnm0000001\tactress\t\\N\t[a second part]\n"
        "tt0000001\t4\tnm0000003\tdirector\t\\N\t\\N\n"
        "tt0000002\t1\tnm0000001\tself\t\\N\t\\N\n"
        "tt0000003\t1\tnm0000004\tactor\t\\N\t\\N\n"
        "tt0000005\t1\tnm0000005\tactor\t\\N\t\\N\n"
        "tt0000005\t1\tnm0000006\tactor\t\\N\t\\N\n"
        "tt0000009\t1\tnm0000004\tactor\t\\N\t\\N\n",
        'nm0000001\t"Weird" Ann\t1950\t\\N\tactress\ttt0000001,tt0000002\n'
        "nm0000002\tBo Li\t\\N\t\\N\t\\N\t\\N\n"
        "nm0000003\tCy\t1960\t\\N\tdirector\ttt0000001\n"
        "nm0000005\tEve\t1990\t\\N\tactor\t\\N\n"
        "nm0000006\t=Dee\t1980\t\\N\tactor\t\\N\n",
    )


def ranking(folder: Path, top: int = 10, **more: Any) -> list[tuple[str, str]]:
    return [(person.imdb, person.score) for person in popular(folder, top, **more).people]


def test_the_rule(files: Path) -> None:
    """Log votes, each title once, from enough votes on; equal sums by number."""
    expected = [("nm0000001", "6.000"), ("nm0000002", "6.000"), ("nm0000005", "4.000"), ("nm0000006", "4.000")]
    assert ranking(files) == expected
    for top in (1, 2, 3):
        assert ranking(files, top) == expected[:top]
    first = popular(files, 1).people[0]
    assert (first.name, first.wikidata, first.titles) == ('"Weird" Ann', "", "tt0000001 tt0000002")


def test_options(files: Path) -> None:
    assert ranking(files, 2, categories=("actress", "self"))[0] == ("nm0000001", "11.000")
    assert ranking(files, categories=("director",)) == [("nm0000003", "6.000")]
    assert ranking(files, min_votes=100_001) == [("nm0000001", "6.000"), ("nm0000002", "6.000")]
    assert ranking(files, min_votes=10_000_000) == []
    assert ranking(files, born_after=1980) == [("nm0000005", "4.000")]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 8), st.sampled_from(["actor", "self"])), max_size=40),
    votes=st.lists(st.integers(0, 200_000), min_size=6, max_size=6),
    block=st.sampled_from([90, 200, 1 << 20]),
)
def test_it_is_the_sum_of_the_definition(
    tmp_path: Path, rows: list[tuple[int, int, str]], votes: list[int], block: int
) -> None:
    """However the file is cut into blocks: a title that two blocks share counts once for each of its people."""
    rows = sorted(rows)
    written(
        tmp_path,
        "".join(f"tt{title:07d}\t5\t{count}\n" for title, count in enumerate(votes, 1)),
        "".join(f"tt{title:07d}\t1\tnm{person:07d}\t{kind}\t\\N\t\\N\n" for title, person, kind in rows),
        "".join(f"nm{person:07d}\tP {person}\t\\N\t\\N\t\\N\t\\N\n" for person in range(1, 9)),
    )
    sums: dict[int, int] = {}
    for title, person in {(title, person) for title, person, kind in rows if kind == "actor"}:
        if votes[title - 1] >= 100:
            sums[person] = sums.get(person, 0) + round(1000 * math.log10(votes[title - 1]))
    expected = sorted(sums.items(), key=lambda one: (-one[1], one[0]))[:3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imdb, "_BLOCK", block)
        assert ranking(tmp_path, 3, min_votes=100) == [
            (f"nm{person:07d}", f"{score / 1000:.3f}") for person, score in expected
        ]


def test_lines_that_do_not_fit_are_passed_over_and_counted(files: Path) -> None:
    path = files / FILES[1]
    text = gzip.decompress(path.read_bytes())
    odd = [
        b"tt0000001\t1\tnm0000005\n",
        b"tt0000001\t1\tnm0000005\tactor\t\\N\t\\N\tmore\n",
        b"tt0000001\t1\tnm99999999999999999999\tactor\t\\N\t\\N\n",
        b"tt0000001\t1\t\\N\tactor\t\\N\t\\N\n",
        b"\\N\t1\tnm0000005\tactor\t\\N\t\\N\n",
        b"\xff\xfe\t1\t\xff\tactor\t\\N\t\\N\n",
    ]
    path.write_bytes(gzip.compress(text + b"".join(odd) + b"tt0000002\t1\tnm0000006\tactor\t\\N\t\\N"))
    names = files / FILES[2]
    names.write_bytes(gzip.compress(gzip.decompress(names.read_bytes()) + b"nm0000004\t\xff\tx\t\\N\t\\N\t\xff\n"))
    ranked = popular(files, 10, min_votes=9000)
    assert ranked.malformed == 2
    assert [person.name for person in ranked.people] == ["=Dee", '"Weird" Ann', "Bo Li", "\ufffd", "Eve"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda data: data[: len(data) // 2], "damaged: Compressed file ended"),
        (lambda data: data[:-6] + b"123456", "damaged: "),
        (lambda data: b"<html>", "damaged: Not a gzipped file"),
        (lambda data: gzip.compress(b"a\tb\n1\t2\n"), "no column"),
        (
            lambda data: gzip.compress(gzip.decompress(data).partition(b"\n")[0] + b"\n" + b"x" * 5000),
            "a line of more than",
        ),
        (lambda data: b"", "no column"),
    ],
)
def test_damaged_files_are_named(
    files: Path, name: str, spoil: Any, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imdb, "_BLOCK", 1000)
    (files / name).write_bytes(spoil((files / name).read_bytes()))
    with pytest.raises(DataError, match=complaint) as refused:
        popular(files, 10)
    assert str(files / name) in refused.value.what and "fetch it again" in refused.value.next


def test_a_bomb_is_not_unpacked(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imdb, "_LIMIT", 100_000)
    (files / FILES[0]).write_bytes(gzip.compress(RATINGS.encode() + b"tt0000001\t1\t1\n" * 1_000_000))
    monkeypatch.setattr(imdb, "_BLOCK", 10_000)
    with pytest.raises(DataError, match="more than 100000 bytes of text"):
        popular(files, 10)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"title\.ratings\.tsv\.gz: no such file"):
        popular(tmp_path, 10)


@dataclass
class Host:
    """A host of files that knows ranges, as S3 does. cut: answers end after so many bytes."""

    url: str = ""
    data: bytes = b""
    tag: str = '"abc-1"'
    cut: int | None = None
    code: int | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    host = Host(data=gzip.compress(random.Random(5).randbytes(300_000)))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"] if self.headers["If-Range"] == host.tag else None
            host.asked.append((self.path, wanted))
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
            self.send_response(host.code or (206 if wanted else 200))
            self.send_header("Content-Length", str(len(host.data) - start))
            self.send_header("Location", "https://evil.example/x")
            self.send_header("ETag", host.tag)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(host.data) - 1}/{len(host.data)}")
            self.end_headers()
            self.wfile.write(host.data[start : None if host.cut is None else start + host.cut])

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        host.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield host
        server.shutdown()
        thread.join()


def test_a_download_goes_on_where_it_ended(host: Host, tmp_path: Path) -> None:
    host.cut = 100_000
    for _ in range(2):
        with pytest.raises(CastlineError, match=r"title\.ratings\.tsv\.gz: cannot be fetched") as refused:
            download(tmp_path, host.url)
        assert "goes on" in refused.value.next
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [2 * (1 << 16)]
    host.cut = None
    assert download(tmp_path, host.url) == [tmp_path / name for name in FILES]
    assert [wanted for _, wanted in host.asked] == [None, "bytes=65536-", "bytes=131072-", None, None]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(FILES, host.data)
    assert download(tmp_path, host.url) == []
    assert len(host.asked) == 5


def test_a_file_that_has_changed_since_is_fetched_from_its_start(host: Host, tmp_path: Path) -> None:
    host.cut = 100_000
    with pytest.raises(CastlineError):
        download(tmp_path, host.url)
    host.cut, host.tag, host.data = None, '"another"', gzip.compress(b"tomorrow")
    download(tmp_path, host.url)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    assert (tmp_path / FILES[0]).read_bytes() == host.data


@pytest.mark.parametrize(
    ("code", "data", "complaint"),
    [
        (302, b"", r"302 Found to https://evil\.example, not followed"),
        (403, b"", "403 Forbidden"),
        (416, b"", "416"),
        (206, gzip.compress(b"x", mtime=0), "cannot be fetched"),
        (None, b"<html>Log in</html>", "no gzip file"),
        (None, b"x" * 3000, "more than 2000 bytes"),
    ],
)
def test_anything_else_is_refused(
    host: Host, tmp_path: Path, code: int | None, data: bytes, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imdb, "_DOWNLOAD_LIMIT", 2000)
    host.code, host.data, host.tag = code, data, '"../../etc"'
    with pytest.raises(CastlineError, match=complaint):
        download(tmp_path / "files", host.url)
    assert not any(path.suffix == ".gz" for path in (tmp_path / "files").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["files"]

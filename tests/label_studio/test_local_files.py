"""Which file a task's image stands for: one of the batch's, whatever is written there."""

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from castline.label_studio.local_files import Refused, local_photo

ADDRESS = "/data/local-files/?d="


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a batch of its own and one that lies elsewhere; each holds links to what is none of its photos."""
    root, elsewhere = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("elsewhere")
    (root / "secret").write_text("secret")
    (elsewhere / "secret").write_text("secret")
    (elsewhere / "batch").mkdir()
    (root / "data/own").mkdir(parents=True)
    (root / "data/linked").symlink_to(elsewhere / "batch")
    (root / "data/secret").write_text("secret")
    (root / "data/_hidden").mkdir()
    (root / "data/_hidden/a.jpg").touch()
    (root / "cache").mkdir()
    (root / "cache/object").touch()
    for batch in (root / "data/own", elsewhere / "batch"):
        for name in ("a.jpg", "alma/b ä+%2e#?&=.jpg", "alma/..jpg", "alma/\\..\\c.jpg", "alma/two\nlines.jpg"):
            (batch / name).parent.mkdir(exist_ok=True)
            (batch / name).touch()
        (batch / "inside.jpg").symlink_to("a.jpg")
        (batch / "outside.jpg").symlink_to(root / "secret")
        (batch / "up").symlink_to("..")
        (batch / "cached.jpg").symlink_to(root / "cache/object")
        (batch / "lost.jpg").symlink_to("nothing")
        (batch / "circle.jpg").symlink_to("circle.jpg")
        os.mkfifo(batch / "pipe.jpg")
    return root


@pytest.mark.parametrize("batch", ["own", "linked"])
def test_every_photo_is_found(root: Path, batch: str) -> None:
    folder = (root / "data" / batch).resolve()
    photos = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(photos) == 5
    for path in photos:
        name = path.relative_to(folder).as_posix()
        assert local_photo(ADDRESS + quote(f"data/{batch}/{name}"), root) == (path, name)
        assert local_photo(ADDRESS + quote(f"data/{batch}/{name}", safe=""), root) == (path, name)
    assert local_photo(f"{ADDRESS}data/{batch}/inside.jpg", root)[0] == folder / "a.jpg"
    assert local_photo(f"/data/local-files?d=data/{batch}/a.jpg", root)[0] == folder / "a.jpg"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data/own/../../secret", "not data/BATCH/PATH"),
        ("data/own/%2e%2e/%2e%2e/secret", "not data/BATCH/PATH"),
        ("data/own/%252e%252e/%252e%252e/secret", "no such photo"),
        ("data/own/..\\..\\secret", "no such photo"),
        ("/etc/passwd", "not data/BATCH/PATH"),
        ("data/own//etc/passwd", "not data/BATCH/PATH"),
        ("data/own/a.jpg%00.png", "not data/BATCH/PATH"),
        ("data/own", "not data/BATCH/PATH"),
        ("data/own/", "not data/BATCH/PATH"),
        ("data/secret", "not data/BATCH/PATH"),
        ("data/_hidden/a.jpg", "no batch"),
        ("data/own/alma", "not a file"),
        ("data/own/pipe.jpg", "not a file"),
        ("data/own/lost.jpg", "no such photo"),
        ("data/own/circle.jpg", "no such photo"),
        ("data/own/" + "a" * 300, "no such photo"),
        ("data/own/outside.jpg", "leads out"),
        ("data/own/up/secret", "leads out"),
        ("data/linked/up/secret", "leads out"),
        ("data/linked/cached.jpg", "leads out"),
        ("data/own/%ff.jpg", "is not /data"),
        ("data/own/a.jpg#b", "is not /data"),
        ("data/own/a.jpg&d=data/own/a.jpg", "is not /data"),
        ("data/own/a b.jpg", "not a URL"),
        ("data/own/" + "%61" * 9000, "not a URL"),
    ],
)  # fmt: skip
def test_what_is_refused(root: Path, url: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        local_photo(ADDRESS + url, root)


@pytest.mark.parametrize(
    "url",
    [
        None, 3, ["a"], "", "data/own/a.jpg", "http://169.254.169.254/latest", "s3://bucket/a.jpg", "file:///etc/passwd",
        "//host/data/local-files/?d=data/own/a.jpg", "http://host/data/local-files/?d=data/own/a.jpg", "http://[/",
        "/data/upload/1/a.jpg", "/data/local-files/", "/data/local-files/?d", "/data/local-files/?D=data/own/a.jpg",
        "data:image/png;base64,AA==",
    ],
)  # fmt: skip
def test_only_local_files_are_read(root: Path, url: object) -> None:
    with pytest.raises(Refused):
        local_photo(url, root)


def test_links_may_lead_into_a_cache_that_is_named(root: Path) -> None:
    assert local_photo(f"{ADDRESS}data/own/cached.jpg", root, [root / "cache"])[0] == (root / "cache/object").resolve()


WORDS = [
    "data", "own", "linked", "alma", "up", "a.jpg", "outside.jpg", "inside.jpg", "cached.jpg", "secret", "..", ".", "",
    "%2e%2e", "%2E.", "%2f", "%5c", "\\", "%00", "%252e%252e", "%252f", "etc/passwd", "~", "..;", "．．", "\n", "+",
]  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=9).map("/".join)))
@example("data/own/up/data/own/a.jpg")
def test_nothing_but_the_batch_is_ever_read(root: Path, path: str) -> None:
    for url in (path, ADDRESS + path, ADDRESS + "data/own/" + path, ADDRESS + "data/linked/" + quote(path)):
        try:
            found, _ = local_photo(url, root)
        except Refused:
            continue
        assert found.is_file() and found.name != "secret"
        assert any(found.is_relative_to((root / "data" / batch).resolve()) for batch in ("own", "linked"))

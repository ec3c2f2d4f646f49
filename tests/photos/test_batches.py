import os
import unicodedata
from pathlib import Path

import pytest

from castline.errors import ConfigError, DataError
from castline.photos.batches import Label, check_batches, check_name, label_of, walk


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("photo.jpg", None),
        ("ann/photo.jpg", Label("ann", False)),
        ("ann/holiday/2024/photo.jpg", Label("ann", False)),
        ("_strangers/bob/photo.jpg", Label("bob", True)),
        ("_strangers/photo.jpg", Label("photo.jpg", True)),
        ('O\'Neil "Bo"\n/p.jpg', Label('O\'Neil "Bo"', False)),
        (unicodedata.normalize("NFD", "Zoë/p.jpg"), Label(unicodedata.normalize("NFC", "Zoë"), False)),
    ],
)
def test_the_folder_is_the_label(name: str, label: Label | None) -> None:
    assert label_of(name) == label


def test_walk_lists_everything_in_one_order_and_says_what_is_no_photo(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b/2.jpg",
        "a/1.jpg",
        "a/.DS_Store",
        "a/q'\"uo te\n.jpg",
        "a/..jpg",
        "a/ü.jpg",
        "deep/er/x.jpg",
    )
    (tmp_path / "a" / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "a" / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "a" / "good.jpg").symlink_to("1.jpg")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "b" / "pipe.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b/bad\xff.jpg")).write_bytes(b"x")
    found = walk(tmp_path)
    assert [entry.name for entry in found] == sorted(entry.name for entry in found)
    assert {entry.name: entry.problem for entry in found} == {
        "a/..jpg": "not_a_photo",
        "a/.DS_Store": "not_a_photo",
        "a/1.jpg": "",
        "a/good.jpg": "",
        "a/gone.jpg": "broken_link",
        "a/loop.jpg": "broken_link",
        "a/q'\"uo te\n.jpg": "",
        "a/ü.jpg": "",
        "b/2.jpg": "",
        "b/bad\\xff.jpg": "bad_name",
        "b/pipe.jpg": "not_a_file",
        "b/up": "folder_link",
        "deep/er/x.jpg": "",
    }


@pytest.mark.parametrize("name", ["", "-x", "a b", "../up", "a/b", "labels", "x" * 65, "a;rm", "ü"])
def test_names_that_could_mean_something_else_are_no_batches(name: str) -> None:
    with pytest.raises(ConfigError, match="name of a batch"):
        check_name(name)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no photo in this batch"),
        (["ann/1.jpg", "ann/2.jpg"], "only 'ann' is labelled"),
        (["ann/1.jpg", "ann/2.jpg", "bob/1.jpg"], "one photo only of 'bob'"),
        (["_strangers/x/1.jpg", "_strangers/y/1.jpg"], "nobody is labelled"),
    ],
)
def test_too_little_to_learn_from_is_said_before_any_work(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        check_batches([touch(tmp_path, *names)])
    assert "next:" in str(error.value)


def test_photos_are_counted_over_all_batches(tmp_path: Path) -> None:
    one = touch(tmp_path / "one", "ann/1.jpg", "bob/1.jpg", "bob/2.jpg", "_strangers/z/1.jpg")
    two = touch(tmp_path / "two", "ann/1.jpg")
    assert check_batches([one, two]) == {"ann": 2, "bob": 2}
    # Photos without a folder may show whomever: labels come later.
    assert check_batches([touch(tmp_path / "pile", "1.jpg", "2.jpg")]) == {}
    assert check_batches([touch(tmp_path / "mixed", "ann/1.jpg", "2.jpg")]) == {"ann": 1}
    # With a batch that is not on this machine, nobody can say that a person's photos are too few.
    assert check_batches([one, tmp_path / "elsewhere"]) == {"ann": 1, "bob": 2}

"""The register of who is forgotten: no name in it, and yet known again."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castline.errors import ConfigError, DataError
from castline.forgetting.register import ForgottenSettings, Register, Spot, read_register

SHA = "ab" * 32
ROOT = Path(__file__).parents[2]


def registered(name: str, *spots: tuple[Any, ...]) -> Register:
    person = Register().person(name)
    return Register(frozenset(Spot(person, *spot) for spot in spots or [("one",)]))


def face(number: int, box: tuple[float, ...], sha256: str = SHA) -> dict[str, Any]:
    return {"photo_sha256": sha256, "face": number, "box": box, "photo_width": 200, "photo_height": 100}


@pytest.mark.parametrize("name", ["alma", "Ålesund é", "=cmd()|'x'", 'a,b\n"c"', "\udcff", "ليلى"])
def test_a_name_is_known_again_and_is_not_in_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "labels" / "forgotten.csv"
    registered(name, ("one", SHA), ("two", SHA, 3, (0.1, 0.25, 0.5, 1.0)), ("three",)).write(path)
    read = read_register(path)
    assert len(read.spots) == 3 and read == registered_again(read, path)
    assert name.encode("utf-8", "surrogateescape") not in path.read_bytes()
    assert read.knows(name) and read.knows(f" {unicodedata.normalize('NFD', name)} ")
    assert read.knows_path(f"{name}/1.jpg") == ("/" not in name) and read.knows_path(f"_strangers/{name}/1.jpg")
    assert not (read.knows(f"{name}a") or read.knows("") or read.knows(None) or read.knows_path("1.jpg"))


def registered_again(read: Register, path: Path) -> Register:
    before = path.read_bytes()
    read.write(path)
    assert path.read_bytes() == before
    return read_register(path)


def test_one_salt_for_all_and_another_in_another_project() -> None:
    first = registered("alma")
    both = Register(first.spots | {Spot(first.person("bruno"), "one")})
    assert both.knows("alma") and both.knows("bruno") and not both.knows("chidi")
    assert len({spot.person.split(":")[1] for spot in both.spots}) == 1
    assert registered("alma").spots != first.spots
    merged = Register(both.spots | registered("chidi").spots)  # begun on two branches
    assert all(merged.knows(name) and merged.person(name) in str(merged) for name in ("alma", "bruno", "chidi"))


def test_whole_photos_and_single_faces_are_left_out_and_numbers_stay() -> None:
    faces = [face(0, (0, 0, 50, 50)), face(1, (100, 0, 160, 60)), face(2, (0, 0, 50, 50), "cd" * 32)]
    assert registered("alma", ("one", SHA)).without(faces) == faces[2:]
    of_box = registered("alma", ("one", SHA, 5, (0.5, 0.0, 0.8, 0.6)))
    assert of_box.without(faces) == [faces[0], faces[2]], "where it is counts: another detector numbers otherwise"
    assert registered("alma", ("one", SHA, 0)).without(faces) == faces[1:]
    assert registered("alma").without(faces) == faces
    assert Register().without(faces) == faces
    assert of_box.has(SHA, 5) and not of_box.has(SHA, 1) and of_box.has_photo(SHA)
    assert registered("alma", ("one", SHA)).has(SHA, 7)


@given(st.lists(st.tuples(*[st.integers(0, 90)] * 2, st.integers(5, 60)), max_size=6), st.integers(0, 5))
def test_a_face_that_was_registered_is_never_left_in(boxes: list[tuple[int, int, int]], which: int) -> None:
    faces = [face(i, (x, y, x + side, y + side)) for i, (x, y, side) in enumerate(boxes)]
    for theirs in faces[which : which + 1]:
        x1, y1, x2, y2 = theirs["box"]
        spot = Spot("scrypt:0:0", "one", SHA, 99, (x1 / 200, y1 / 100, x2 / 200, y2 / 100))
        left = Register(frozenset({spot})).without(faces)
        assert theirs not in left and all(one in faces for one in left)


def test_only_batches_that_are_concerned_change() -> None:
    register = registered("alma", ("one", SHA), ("two",))
    more = Register(register.spots | {Spot(register.person("bruno"), "two")})
    assert register.digest("one") == more.digest("one") != ""
    assert register.digest("two") != more.digest("two") and register.digest() != more.digest()
    assert more.digest("three") == Register().digest() == ""
    settings = register.settings(["one", "three"])
    register.check(settings)
    register.check(settings, "three")
    for wrong in (None, "two"):
        with pytest.raises(ConfigError, match="castline compose"):
            more.check(settings, wrong)
    Register().check(ForgottenSettings())


@pytest.mark.parametrize(
    "line",
    [
        "alma,one,,,",
        f"scrypt:{'0' * 32}:{'g' * 32},one,,,",
        f"scrypt:{'0' * 32}:{'0' * 32},one,1234,,",
        f"scrypt:{'0' * 32}:{'0' * 32},one,{SHA},first,",
        f"scrypt:{'0' * 32}:{'0' * 32},one,{SHA},1,0 0 1",
        "scrypt,one",
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, line: str) -> None:
    path = tmp_path / "forgotten.csv"
    path.write_text(f"person,batch,sha256,face,box\n{line}\n")
    with pytest.raises(DataError, match=r"forgotten\.csv, line 2"):
        read_register(path)
    path.write_text("name\n")
    with pytest.raises(DataError, match="its first line"):
        read_register(path)


def test_no_file_and_the_one_that_is_delivered_have_nobody(tmp_path: Path) -> None:
    assert not read_register(tmp_path / "forgotten.csv").spots
    assert not read_register(ROOT / "labels/forgotten.csv").spots

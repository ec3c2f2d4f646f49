"""What was seen, in words and as files."""

import csv
import io
import json
import re
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from castline.app import results
from castline.app.seen import Footage, Picture, SeenFace
from castline.faces.quality import Quality
from castline.runtime import Appearance, Cast, Face, Name, Person
from castline.runtime.appearances import appearances_csv
from castline.scoring import Scorer

GOOD = Quality(60.0, 1.0, 120.0, 40.0, 0.0, 0.0)


def jpeg(width: int = 120, height: int = 80) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 150)).save(stream, "JPEG")
    return stream.getvalue()


def named(nearest: str, confidence: float = 0.9, known: bool = True, similarity: float = 0.7) -> Name:
    scores = np.array([confidence, 1 - confidence], np.float32)
    return Name(known, nearest, confidence, similarity, scores, np.zeros(4, np.float32))


def seen(*names: Name) -> tuple[Picture, list[Person]]:
    """A picture of 240 × 160 that is shown at half that size, and who is in it."""
    faces = tuple(
        SeenFace((40.0 * i, 60.0, 40.0 * i + 30, 100.0), np.ones((5, 2), np.float32), 0.9, name.embedding, GOOD, b"")
        for i, name in enumerate(names)
    )
    picture = Picture("0" * 64, 240, 160, jpeg(), faces, 0.1)
    people = [
        Person(Face(face.box, face.landmarks, face.score, face.raw), name)
        for face, name in zip(faces, names, strict=True)
    ]
    return picture, people


def footage(*appearances: Appearance) -> Footage:
    return Footage("0" * 64, 320, 240, 9.0, 90, "", appearances, tuple(b"%d" % i for i in range(len(appearances))), 2.0)


def at(name: str, start: float, end: float, number: int | None = None) -> Appearance:
    return Appearance(name, number, number is None, start, end, "alma", 0.9, 0.7)


@pytest.mark.parametrize(
    ("threshold", "by", "name", "expected"),
    [
        (0.5, "similarity", named("alma"), "The similarity to the most similar person is 0.70, at or above the "),
        (0.8, "similarity", named("alma", known=False), "is 0.70, below the threshold of 0.80: unknown."),
        (0.8, "confidence", named("alma"), "The confidence is 0.90, at or above the threshold of 0.80: known."),
        (None, "similarity", named("alma"), "no threshold"),
    ],
)
def test_the_verdict_says_what_was_held_against_what(
    threshold: float | None, by: str, name: Name, expected: str
) -> None:
    scorer = Scorer(("alma",), {}, *np.zeros((4, 1), np.float32))
    assert expected in results.verdict(name, Cast(scorer, 1.0, threshold, by))


def test_nearest_people_and_the_margin() -> None:
    people = [f"p{i}" for i in range(8)]
    scores = np.array([0.05, 0.5, 0.05, 0.2, 0.1, 0.05, 0.03, 0.02], np.float32)
    name = Name(True, "p1", 0.5, 0.7, scores, np.zeros(4, np.float32))
    assert [person for person, _ in results.nearest(name, people)] == ["p1", "p3", "p4", "p0", "p2"]
    assert results.margin(name, people) == "p1 is ahead of p3 by 30 percentage points."
    assert results.margin(Name(True, "p0", 1.0, 0.7, scores[:1], scores), ["p0"]) == "The model knows nobody else."


def test_poor_faces_are_told_as_the_pipeline_judges_them() -> None:
    assert results.poor(GOOD) == ""
    assert results.poor(Quality(9.0, 1.0, 120.0, 40.0, 0.0, 0.0)) == "too small: 9 pixels between the eyes"
    assert "Not turned, tilted 4°." in results.quality_words(Quality(9.0, 1.0, 120.0, 40.0, 0.2, -4.0))


def test_a_timeline_has_a_row_a_person_the_known_first() -> None:
    found = results.rows(
        footage(at("unknown", 0, 1, 1), at("bruno", 0, 2), at("Alma", 1, 2), at("bruno", 4, 5), at("unknown", 5, 6, 2))
    )
    assert [(label, known, len(seen)) for label, known, _, seen in found] == [
        ("Alma", True, 1),
        ("bruno", True, 2),
        ("unknown 1", False, 1),
        ("unknown 2", False, 1),
    ]
    assert [still for _, _, still, _ in found] == [b"2", b"1", b"0", b"4"]


def test_unknown_ten_follows_unknown_nine() -> None:
    found = results.rows(footage(*(at("unknown", i, i + 1, i + 1) for i in range(11))))
    assert [label for label, *_ in found] == [f"unknown {i + 1}" for i in range(11)]


def test_json_is_as_the_command_has_it() -> None:
    picture, people = seen(named("alma"), named("bruno", 0.4, known=False))
    told = results.described("a.jpg", picture, people)
    assert list(told) == ["image", "people"]
    assert [person["name"] for person in told["people"]] == ["alma", "unknown"]
    assert list(told["people"][0]) == ["known", "name", "nearest", "confidence", "similarity", "box", "landmarks"]
    film = results.described("a.mp4", footage(at("alma", 0.0, 1.23456)))
    assert list(film) == ["video", "width", "height", "seconds", "frames", "warning", "appearances"]
    assert film["appearances"][0]["end"] == 1.2346
    json.dumps([told, film])


def test_no_cell_is_a_formula() -> None:
    picture, people = seen(named("=HYPERLINK(1)"), named('a,\n"b', 0.4))
    (first, second) = csv.DictReader(io.StringIO(results.pictures_csv([("@x.jpg", picture, people)])))
    assert (first["image"], first["name"], first["face"]) == ("'@x.jpg", "'=HYPERLINK(1)", "1")
    assert (second["name"], second["x1"], second["y2"]) == ('a,\ufffd"b', "40.0", "100.0")
    (row,) = csv.DictReader(io.StringIO(appearances_csv([at("+1", 0.0, 1.0)])))
    assert row["name"] == "'+1"


def test_names_are_drawn_where_the_faces_are_shown() -> None:
    picture, people = seen(named("alma"))
    with Image.open(io.BytesIO(results.drawn(picture, people))) as image:
        assert image.size == (120, 80)
        red, green, blue = image.convert("RGB").getpixel((15, 50))  # type: ignore[misc]  # the frame's lower edge
        assert blue > 140 and red < 60 and green < 140
        assert abs(image.convert("RGB").getpixel((100, 70))[0] - 90) < 12  # type: ignore[index]


def test_pictures_of_one_name_stay_apart_in_the_archive() -> None:
    picture, people = seen(named("alma"))
    looked = [(name, picture, people) for name in ("a.jpg", "../A.png", "a.jpg", "b.jpg")]
    with zipfile.ZipFile(io.BytesIO(results.archive(looked))) as file:
        assert file.namelist() == ["a.named.jpg", "A-2.named.jpg", "a-3.named.jpg", "b.named.jpg"]


@given(st.text(max_size=80))
def test_names_of_downloads_are_safe(name: str) -> None:
    made = results.file_name(name, ".csv")
    assert re.fullmatch(r"\w[\w-]{0,70}\.csv", made)
    assert not re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)\.csv", made, re.IGNORECASE)


def test_devices_are_no_names_of_downloads() -> None:
    assert results.file_name("con.jpg", ".csv") == "castline_con.csv"
    assert results.file_name("…", ".csv") == "castline.csv"

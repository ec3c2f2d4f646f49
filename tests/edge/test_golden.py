"""The self-test: the same release makes the same of the golden picture, and what is another is found out."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from edge_releases import contents_of
from PIL import Image

from castline.edge.golden import EXPECTED, IMAGE, self_test, write_golden
from castline.edge.manifest import MANIFEST
from castline.errors import DataError, ReleaseError
from castline.runtime import Recognizer


@pytest.fixture
def folder(old: Path, tmp_path: Path) -> Path:
    """1.0.0, unpacked."""
    with zipfile.ZipFile(old) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / EXPECTED).read_text())
    edit(values)
    (folder / EXPECTED).write_text(json.dumps(values))


def clock(*seconds: float) -> Callable[[], float]:
    """One by which the pictures take so long."""

    def times() -> Iterator[float]:
        now = 0.0
        for picture in count():
            yield now
            now += seconds[min(picture, len(seconds) - 1)]
            yield now

    return times().__next__


def test_the_picture_is_small_free_and_of_nobody() -> None:
    picture = Path(__file__).parents[2] / "castline" / "edge" / IMAGE
    assert picture.stat().st_size <= 60_000
    with Image.open(picture) as image:
        assert b"CC0-1.0" in image.info["comment"] and not image.getexif()


def test_it_expects_what_the_desktop_says(bundle: Path, folder: Path) -> None:
    people = Recognizer(bundle).identify(folder / IMAGE)
    expected = json.loads((folder / EXPECTED).read_text())
    assert len(people) == 3 == len(expected["faces"])
    for person, face in zip(people, expected["faces"], strict=True):
        name = person.name
        assert (face["label"], face["known"], face["nearest"]) == (name.shown, name.known, name.nearest)
        assert face["score"] == pytest.approx(name.confidence, abs=1e-3)
        assert face["similarity"] == pytest.approx(name.similarity, abs=1e-3)
        assert face["box"] == pytest.approx(person.face.box, abs=0.51)
    assert {face["known"] for face in expected["faces"]} == {True, False}, "both are tried"
    assert expected["budget_ms"] == 5000 + 30 * 1.0 * 3, "of what the bundle says, not of this machine"
    self_test(folder)


def test_within_tolerance_it_passes(folder: Path) -> None:
    def edit(values: dict[str, Any]) -> None:
        for face in values["faces"]:
            face["score"] -= 0.05
            face["similarity"] += 0.02
            face["box"] = [edge + 2 for edge in face["box"]]

    change(folder, edit)
    self_test(folder)


def face(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = values["faces"][1]
    return found


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda values: face(values).update(score=face(values)["score"] + 0.15), "has score"),
        (lambda values: face(values).update(similarity=face(values)["similarity"] - 0.05), "similarity"),
        (lambda values: face(values).update(box=[edge + 9 for edge in face(values)["box"]]), "found at"),
        (lambda values: face(values).update(nearest="nobody\n"), "whom this release does not know"),
        (lambda values: values["faces"].pop(), "3 faces in the golden picture, expected 2"),
        (lambda values: values["faces"].clear(), "nothing to test against"),
        (lambda values: values.pop("tolerance"), "nothing to test against"),
        (lambda values: face(values).update(score="high"), "nothing to test against"),
        (lambda values: face(values).update(score=float("nan")), "has score"),
        (lambda values: face(values).update(box=[1, 2]), "nothing to test against"),
    ],
)
def test_what_differs_is_said(folder: Path, edit: Callable[[dict[str, Any]], object], reason: str) -> None:
    change(folder, edit)
    with pytest.raises(ReleaseError, match=reason):
        self_test(folder)


def test_known_instead_of_unknown(folder: Path) -> None:
    def edit(values: dict[str, Any]) -> None:
        for seen in values["faces"]:
            seen["known"] = not seen["known"]

    change(folder, edit)
    with pytest.raises(ReleaseError, match=r"known, expected|unknown, expected"):
        self_test(folder)


def test_a_name_may_be_another_only_where_the_scores_say_so(folder: Path) -> None:
    people = Recognizer(folder).identify(folder / IMAGE)
    recognizer = Recognizer(folder)
    scores = people[0].name.scores
    worst = int(scores.argmin())
    assert float(scores.max() - scores[worst]) > 0.1

    def edit(values: dict[str, Any], tolerance: float) -> None:
        seen = values["faces"][0]
        seen.update(nearest=recognizer.people[worst], score=float(scores[worst]))
        values["tolerance"]["score"] = tolerance

    change(folder, lambda values: edit(values, 0.1))
    with pytest.raises(ReleaseError, match=f"taken for {people[0].name.nearest}, expected {recognizer.people[worst]}"):
        self_test(folder)
    change(folder, lambda values: edit(values, float(scores.max())))
    self_test(folder)


def test_the_budget(folder: Path) -> None:
    self_test(folder, clock(60.0, 60.0, 1.0))
    with pytest.raises(ReleaseError, match="too slow: 6000 ms for the golden picture, at most 5090"):
        self_test(folder, clock(60.0, 6.0, 60.0))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        (EXPECTED, None, "nothing to test against"),
        (EXPECTED, b"[" * 100_000, "nothing to test against"),
        (EXPECTED, b"[]", "nothing to test against"),
        (IMAGE, None, "cannot be opened: .*golden.jpg"),
        (IMAGE, b"<html>", "cannot be opened: .*golden.jpg"),
        (MANIFEST, None, "manifest.json: No such file"),
        ("bundle.json", None, "cannot be opened: .*no bundle here"),
        ("model.tflite", b"TFL3", "cannot be opened: .*not the file that bundle.json speaks of"),
        ("detector.tflite", None, "cannot be opened: .*detector.tflite"),
    ],
)
def test_a_release_that_cannot_be_opened(folder: Path, name: str, data: bytes | None, reason: str) -> None:
    (folder / name).unlink()
    if data is not None:
        (folder / name).write_bytes(data)
    with pytest.raises(ReleaseError, match=reason):
        self_test(folder)


def test_a_release_has_one_model(folder: Path) -> None:
    path = folder / "bundle.json"
    bundle = json.loads(path.read_text())
    bundle["files"]["int8"] = bundle["files"]["float32"]
    path.write_text(json.dumps(bundle))
    with pytest.raises(ReleaseError, match=r"bundle\.json lists float32, int8, a release has float32 only"):
        self_test(folder)


def test_a_picture_without_faces_is_none_to_test_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recognizer, "identify", lambda *_: [])
    with pytest.raises(DataError, match="no face is found"):
        write_golden(folder, "float32")


def test_the_pictures_bytes_are_those_that_ship(old: Path) -> None:
    shipped = Path(__file__).parents[2] / "castline" / "edge" / IMAGE
    data = contents_of(old)[IMAGE]
    assert data == shipped.read_bytes() and Image.open(io.BytesIO(data)).size == (640, 427)

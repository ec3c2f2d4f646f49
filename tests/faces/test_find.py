"""From a photo to its faces: shrinking, borders and tiles leave every face where it is in the photo."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from castline.faces.boxes import iou
from castline.faces.detection import Detections
from castline.faces.detectors import build
from castline.faces.find import find_faces
from castline.faces.settings import DetectorSettings

PLAIN = DetectorSettings(paddings=(0.0,))
Box = tuple[float, float, float, float]


def faces_of(*boxes: Box, score: float = 0.9) -> Detections:
    """Faces with all landmarks in the middle of the box, finite even where the box is not."""
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    known = np.nan_to_num(corners, posinf=0, neginf=0)
    middle = (known[:, None, :2] + known[:, None, 2:]) / 2
    return Detections(corners, np.repeat(middle, 5, 1), np.full(len(corners), score, np.float32))


@dataclass
class WhiteSquares:
    """A detector's double that knows exactly where the faces are: a face is a white rectangle on black.

    Like BlazeFace it misses what is smaller than `least`, a fraction of the longer side.
    """

    least: float = 0.0
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        self.seen.append(image.shape)
        rows, columns = np.flatnonzero((image > 127).any((1, 2))), np.flatnonzero((image > 127).any((0, 2)))
        if not len(rows):
            return Detections.none()
        box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        large = max(box[2] - box[0], box[3] - box[1]) >= self.least * max(image.shape[:2])
        return faces_of(box) if large else Detections.none()


@dataclass
class Answers:
    """A detector's double that gives these answers in turn, whatever it is shown."""

    answers: list[Detections]
    seen: list[NDArray[np.uint8]] = field(default_factory=list)

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        self.seen.append(image)
        return self.answers.pop(0)


def black(width: int, height: int, *white: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGB", (width, height))
    for box in white:
        image.paste("white", box)
    return image


@st.composite
def photos(draw: st.DrawFn) -> tuple[Image.Image, Box]:
    """A black photo with one white rectangle."""
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    box = left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    return black(width, height, box), box


@given(photos(), st.sampled_from([0.0, 0.2, 0.35, 1.5]), st.integers(0, 6))
def test_borders_and_tiles_move_nothing(photo: tuple[Image.Image, Box], padding: float, tiles: int) -> None:
    image, box = photo
    found = find_faces(image, WhiteSquares(), replace(PLAIN, paddings=(padding,), tiles=tiles))
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes[0], box, atol=1e-3)
    np.testing.assert_allclose(found.landmarks[0], np.tile(np.add(box[:2], box[2:]) / 2, (5, 1)), atol=1e-3)


@given(st.integers(20, 400), st.integers(20, 400), st.integers(2, 6), st.data())
def test_tiles_find_every_small_face_once(width: int, height: int, tiles: int, data: st.DataObject) -> None:
    """A face that is too small for the whole photo, but not for a tile, is whole in one of them wherever it lies."""
    side = max(width, height) / (tiles - (tiles - 1) * 0.25)
    size = int(side / 4) - 3
    assume(size >= 1)  # a tile of a few pixels has no room for a face and what shows that its edge cuts none
    left, top = data.draw(st.integers(0, max(0, width - size))), data.draw(st.integers(0, max(0, height - size)))
    box = left, top, min(width, left + size), min(height, top + size)
    image, detector = black(width, height, box), WhiteSquares(least=1.2 * size / max(width, height))
    assert not len(find_faces(image, detector, PLAIN))
    found = find_faces(image, detector, replace(PLAIN, tiles=tiles))
    assert found.boxes.tolist() == [list(box)]


@pytest.mark.parametrize(
    ("size", "max_side", "seen"),
    [
        ((400, 200), 1280, (200, 400, 3)),
        ((400, 200), 100, (50, 100, 3)),
        ((200, 400), 100, (100, 50, 3)),
        ((1000, 3), 100, (1, 100, 3)),
    ],
)
def test_large_photos_are_shrunk(size: tuple[int, int], max_side: int, seen: tuple[int, ...]) -> None:
    detector = Answers([faces_of((0, 0, 2, 1))])
    found = find_faces(Image.new("RGB", size), detector, replace(PLAIN, max_side=max_side))
    assert detector.seen[0].shape == seen
    scale = max(size) / max(seen)
    np.testing.assert_allclose(found.boxes, [[0, 0, 2 * scale, scale]])


def test_a_shrunk_photo_keeps_its_faces_in_place() -> None:
    found = find_faces(black(900, 600, (300, 150, 450, 330)), WhiteSquares(), replace(PLAIN, max_side=300))
    np.testing.assert_allclose(found.boxes, [[300, 150, 450, 330]], atol=3)


def test_borders_are_tried_in_turn_until_one_helps() -> None:
    nothing, face = Detections.none(), faces_of((60, 40, 80, 70))
    detector = Answers([nothing, face, faces_of((0, 0, 9, 9))])
    found = find_faces(Image.new("RGB", (100, 60), "white"), detector, replace(PLAIN, paddings=(0.0, 0.3, 0.9)))
    assert [image.shape for image in detector.seen] == [(60, 100, 3), (120, 160, 3)]
    assert found.boxes.tolist() == [[30, 10, 50, 40]]
    border = np.ones((120, 160), bool)
    border[30:90, 30:130] = False
    assert (detector.seen[1][border] == 0).all()
    assert (detector.seen[1][~border] == 255).all()


def test_a_face_in_the_border_alone_does_not_end_the_search() -> None:
    in_border, face = faces_of((0, 0, 20, 20)), faces_of((100, 100, 120, 120))
    detector = Answers([in_border, face])
    found = find_faces(Image.new("RGB", (100, 100)), detector, replace(PLAIN, paddings=(0.3, 0.9)))
    assert len(detector.seen) == 2
    assert found.boxes.tolist() == [[10, 10, 30, 30]]


def _with(faces: Detections, change: Callable[[Detections], None]) -> Detections:
    change(faces)
    return faces


@pytest.mark.parametrize(
    "face",
    [
        faces_of((10, 10, 10, 20)),
        faces_of((20, 10, 10, 20)),
        faces_of((-30, 10, 10, 20)),
        faces_of((10, 90, 20, 120)),
        faces_of((np.nan, 10, 20, 20)),
        faces_of((-np.inf, 10, np.inf, 20)),
        faces_of((10, 10, 20, 20), score=np.nan),
        _with(faces_of((10, 10, 20, 20)), lambda faces: faces.landmarks.__setitem__((0, 3, 1), np.nan)),
    ],
    ids=["flat", "inside-out", "left-of-it", "below-it", "nan", "infinite", "score-nan", "landmark-nan"],
)
def test_what_cannot_be_a_face_is_dropped(face: Detections) -> None:
    good = faces_of((30, 30, 60, 60))
    both = Detections(*(np.concatenate([getattr(face, key), getattr(good, key)]) for key in vars(good)))
    found = find_faces(Image.new("RGB", (100, 100)), Answers([both]), PLAIN)
    assert found.boxes.tolist() == good.boxes.tolist()


def test_a_face_that_reaches_out_of_the_photo_stays() -> None:
    found = find_faces(Image.new("RGB", (100, 100)), Answers([faces_of((-20, 10, 40, 80))]), PLAIN)
    assert found.boxes.tolist() == [[-20, 10, 40, 80]]


# From here on with the real detector.


@pytest.fixture(scope="module")
def portrait(sample: Path) -> Iterator[Image.Image]:
    with Image.open(sample / "photos/first/bruno/bruno_05.jpg") as image:
        yield image.convert("RGB")


@pytest.mark.parametrize("tiles", [0, 4])
@pytest.mark.parametrize("size", [(1, 1), (1000, 3), (3, 1000), (37, 37), (5000, 2)])
def test_tiny_photos_have_no_face(size: tuple[int, int], tiles: int, portrait: Image.Image) -> None:
    settings = replace(DetectorSettings(), tiles=tiles)
    found = find_faces(Image.new("RGB", size, "white"), build(settings), settings)
    assert (found.boxes.shape, found.landmarks.shape, found.scores.shape) == ((0, 4), (0, 5, 2), (0,))


def test_a_37_pixel_crop_has_its_face(portrait: Image.Image) -> None:
    settings = DetectorSettings()
    detector = build(settings)
    x1, y1, x2, y2 = find_faces(portrait, detector, settings).boxes[0]
    crop = portrait.resize((37, 37), Image.Resampling.BICUBIC, box=(x1, y1, x2, y2))
    found = find_faces(crop, detector, settings)
    assert len(found) == 1
    assert iou(found.boxes, np.array([[0, 0, 37, 37]], np.float32))[0, 0] > 0.6


def test_a_tight_crop_needs_a_border(sample: Path) -> None:
    settings = DetectorSettings()
    detector = build(settings)
    without, within = 0, 0
    for path in sorted((sample / "photos/first/alma").glob("*.jpg")):
        with Image.open(path) as photo:
            image = photo.convert("RGB")
        face = find_faces(image, detector, settings)
        x1, y1, x2, y2 = (round(float(edge)) for edge in face.boxes[0])
        margin = round(0.1 * (x2 - x1))
        crop = image.crop((x1 + margin, y1 + margin, x2 - margin, y2 - margin))
        without += len(find_faces(crop, detector, PLAIN))
        again = find_faces(crop, detector, settings)
        within += len(again)
        if len(again):
            back = again.landmarks[0] + [x1 + margin, y1 + margin] - face.landmarks[0]
            assert np.median(np.abs(back)) < 0.1 * (x2 - x1)
    assert without <= 3 < 16 <= within


def test_tiles_find_a_class_photo(sample: Path) -> None:
    """Twelve portraits of which each is a 40th of the picture wide, far below what 192 pixels can show."""
    photo, heads = Image.new("RGB", (1280, 800), (90, 100, 110)), []
    for place, person in enumerate(sorted(p for p in (sample / "photos/first").iterdir() if p.name[0] != "_")[:10]):
        with Image.open(person / f"{person.name}_04.jpg") as portrait:
            small = portrait.convert("RGB").resize((70, 84), Image.Resampling.BICUBIC)
        corner = 60 + place % 5 * 240, 150 + place // 5 * 380
        photo.paste(small, corner)
        heads.append((*corner, corner[0] + 70, corner[1] + 84))
    settings = DetectorSettings()
    detector = build(settings)
    whole = find_faces(photo, detector, settings)
    tiled = find_faces(photo, detector, replace(settings, tiles=4))
    assert len(whole) <= 3
    assert len(tiled) >= 9
    middle = (tiled.boxes[:, :2] + tiled.boxes[:, 2:]) / 2
    inside = [((middle > head[:2]) & (middle < head[2:])).all(1).sum() for head in np.array(heads)]
    assert max(inside) == 1
    assert sum(inside) == len(tiled)
    assert (np.diff(tiled.scores) <= 0).all()

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sample_faces import sample_chips

from castline.curation.registration import SIDE, inside_of, likeness, picture_of
from castline.faces.align import CHIP_POINTS, CHIP_SIZE


def jpeg(image: Image.Image, quality: int = 95) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def opened(chip: bytes) -> Image.Image:
    with Image.open(io.BytesIO(chip)) as image:
        return image.convert("RGB")


def likenesses(one: list[bytes], other: list[bytes]) -> np.ndarray:
    pictures = np.stack([picture_of(chip) for chip in (*one, *other)])
    pairs = np.column_stack([np.arange(len(one)), len(one) + np.arange(len(other))])
    return likeness(pictures, np.ones(pictures.shape, bool), pairs)


@pytest.fixture(scope="module")
def chips(sample: Path) -> list[bytes]:
    return sample_chips(sample, 4)[0]


def test_no_pairs() -> None:
    none = np.zeros((0, SIDE, SIDE))
    assert likeness(none.astype(np.uint8), none.astype(bool), np.zeros((0, 2), np.int64)).shape == (0,)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_same_face_is_recognised_however_it_lies(chips: list[bytes], mirrored: bool) -> None:
    changed = []
    for number, chip in enumerate(chips):
        image = opened(chip)
        turned = image.rotate(4 * (-1) ** number, Image.Resampling.BICUBIC, translate=(7, -6))
        image = turned.transform((256, 256), Image.Transform.EXTENT, (8, 8, 248, 248), Image.Resampling.BICUBIC)
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image
        changed.append(jpeg(image.point(lambda value: 30 + value // 2), 60))
    assert likenesses(chips, changed).min() >= 0.965


def test_other_photos_of_a_person_are_not_the_same_photo(chips: list[bytes]) -> None:
    ones = [chips[4 * person] for person in range(len(chips) // 4)]
    others = [chips[4 * person + 1] for person in range(len(chips) // 4)]
    assert likenesses(ones, others).max() < 0.965


def test_what_lies_outside_the_photo_does_not_count(chips: list[bytes]) -> None:
    """A copy that is cut off below the mouth and over one eye."""
    pictures = np.stack([picture_of(chips[0])] * 2)
    inside = np.ones(pictures.shape, bool)
    inside[1, 45:], inside[1, :22] = False, False
    pictures[1][~inside[1]] = 90
    pair = np.array([[0, 1]])
    assert likeness(pictures, inside, pair)[0] > 0.96 > likeness(pictures, np.ones_like(inside), pair)[0]


def test_too_little_in_common_is_no_likeness(chips: list[bytes]) -> None:
    pictures = np.stack([picture_of(chips[0])] * 2)
    inside = np.ones(pictures.shape, bool)
    inside[1, :, 30:] = False
    inside[1, 34:] = False
    assert likeness(pictures, inside, np.array([[0, 1]]))[0] < 0.5


def test_a_flat_picture_is_like_nothing() -> None:
    pictures = np.full((2, SIDE, SIDE), 90, np.uint8)
    assert likeness(pictures, np.ones(pictures.shape, bool), np.array([[0, 1]]))[0] < 0.5


def test_inside_is_where_the_photo_is() -> None:
    points = np.vstack([CHIP_POINTS[:3], CHIP_POINTS[3], CHIP_POINTS[3]]).astype(np.float32)
    assert inside_of(points, CHIP_SIZE, CHIP_SIZE).all()
    half = inside_of(points, CHIP_SIZE // 2, CHIP_SIZE)
    assert half[:, : SIDE // 2].all() and not half[:, SIDE // 2 :].any()
    assert not inside_of(np.zeros((5, 2), np.float32), 100, 100).any()

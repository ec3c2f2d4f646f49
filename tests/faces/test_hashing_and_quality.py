import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from castline.faces.hashing import hash_of, mirrored
from castline.faces.quality import quality_of


def bits(a: bytes, b: bytes) -> int:
    return int(np.unpackbits(np.frombuffer(a, np.uint8) ^ np.frombuffer(b, np.uint8)).sum())


def chips(sample: Path, count: int = 40) -> list[Image.Image]:
    """Square crops about the faces, as photos.json knows them."""
    truth = json.loads((sample / "photos.json").read_text())
    found = []
    for name, entry in list(truth.items())[:: len(truth) // count]:
        x, y, w, h = entry["box"]
        side = 1.2 * max(w, h)
        left, top = x + w / 2 - side / 2, y + h / 2 - side / 2
        with Image.open(sample / name) as image:
            found.append(
                image.convert("RGB").resize(
                    (256, 256),
                    Image.Resampling.BICUBIC,
                    (max(left, 0), max(top, 0), min(left + side, image.width), min(top + side, image.height)),
                )
            )
    return found


def test_small_changes_stay_near_and_other_photos_far(sample: Path) -> None:
    originals = chips(sample)
    hashes = [hash_of(chip) for chip in originals]
    for chip, known in zip(originals, hashes, strict=True):
        buffer = io.BytesIO()
        chip.resize((128, 128)).save(buffer, "JPEG", quality=40)
        assert bits(hash_of(Image.open(buffer)), known) <= 40
    others = [bits(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(others) > 40


def test_the_hash_of_the_mirrored_chip_needs_no_picture(sample: Path) -> None:
    for chip in chips(sample, 10):
        flipped = hash_of(chip.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        predicted = mirrored(np.frombuffer(hash_of(chip), np.uint8)[None])[0].tobytes()
        assert bits(flipped, predicted) <= 4


def landmarks(yaw: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """A mean face's landmarks, turned: the nose moves along the eyes' line as it would."""
    points = np.array([[-30, 0], [30, 0], [33 * np.tan(np.deg2rad(yaw)), 38], [-20, 64], [20, 64]])
    turn = np.deg2rad(roll)
    return (points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + 100).astype(np.float32)


def test_pose_and_size_are_read_off_the_landmarks() -> None:
    grey = Image.new("RGB", (256, 256), (90, 90, 90))
    for yaw, roll in ((0, 0), (25, 0), (-25, 10), (0, -40)):
        found = quality_of(grey, landmarks(yaw, roll))
        assert abs(found.yaw - yaw) < 1
        assert abs(found.roll - roll) < 1
        assert abs(found.eye_distance - 60) < 0.1
    assert (found.brightness, found.contrast, found.sharpness) == (90, 0, 0)


def test_blur_lowers_sharpness(sample: Path) -> None:
    chip = chips(sample, 2)[0]
    sharp = quality_of(chip, landmarks()).sharpness
    assert quality_of(chip.filter(ImageFilter.GaussianBlur(6)), landmarks()).sharpness < sharp / 4


def test_light_does_not_count_as_sharpness_nor_does_the_edge_of_a_tight_crop(sample: Path) -> None:
    chip = chips(sample, 2)[0]
    sharp = quality_of(chip, landmarks()).sharpness
    assert abs(quality_of(chip.point(lambda value: 60 + value // 3), landmarks()).sharpness / sharp - 1) < 0.1
    cut = Image.new("RGB", chip.size, (255, 0, 255))
    cut.paste(chip.crop((70, 70, 190, 220)), (70, 70))
    assert quality_of(cut, landmarks()) == quality_of(chip, landmarks())

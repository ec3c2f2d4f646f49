import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from castline.faces.align import CHIP_POINTS, CHIP_SIZE, TEMPLATES, align, crop, fit_similarity, four_points

numbers = st.floats(-500, 500)


@given(numbers, numbers, st.floats(0.05, 20), st.floats(-3.1, 3.1))
def test_a_similarity_is_recovered(dx: float, dy: float, scale: float, angle: float) -> None:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = CHIP_POINTS @ turn.T + [dx, dy]
    fit = fit_similarity(CHIP_POINTS, target)
    assert np.allclose(fit[:, :2], turn, atol=1e-6)
    assert np.allclose(fit[:, 2], [dx, dy], atol=1e-3)


def test_points_that_coincide_do_not_divide_by_zero() -> None:
    fit = fit_similarity(np.ones((4, 2)), CHIP_POINTS)
    assert np.isfinite(fit).all()
    assert not fit[:, :2].any()


def five(points: np.ndarray) -> np.ndarray:
    """Four points as landmarks, the mouth's corners apart."""
    return np.vstack([points[:3], points[3] - [20, 0], points[3] + [20, 0]]).astype(np.float32)


def test_the_mouths_corners_become_its_centre() -> None:
    assert np.allclose(four_points(five(CHIP_POINTS)), CHIP_POINTS, atol=1e-4)


@pytest.mark.parametrize("scale", [0.2, 0.7, 1.0, 3.0, 11.0])
@pytest.mark.parametrize("angle", [0, 30, -75])
def test_landmarks_land_on_the_chips_points_at_every_size(scale: float, angle: float) -> None:
    turn = np.deg2rad(angle)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (CHIP_POINTS - CHIP_POINTS.mean(0)) @ matrix.T + [
        1700 * max(scale, 1) / 10 + 300,
        300 + 90 * scale,
    ]
    image = Image.new("RGB", (int(points[:, 0].max() + 200 * scale), int(points[:, 1].max() + 200 * scale)))
    pen = ImageDraw.Draw(image)
    for x, y in points:
        pen.ellipse((x - 6 * scale, y - 6 * scale, x + 6 * scale, y + 6 * scale), fill=(255, 255, 255))
    chip = np.asarray(align(image, five(points)).convert("L"), float)
    rows, columns = np.mgrid[:CHIP_SIZE, :CHIP_SIZE]
    for x, y in CHIP_POINTS:
        near = chip * (np.hypot(columns - x, rows - y) < 12)
        assert near.sum() > 0
        centre = np.array([(near * (columns + 0.5)).sum(), (near * (rows + 0.5)).sum()]) / near.sum()
        # Pillow draws a dot to the nearest pixel of the photo, which is 1 / scale pixels of the chip.
        assert np.hypot(*(centre - [x, y])) < 0.3 + 0.5 / scale


def test_large_faces_do_not_alias() -> None:
    """A fine checkerboard has to turn grey when it is shrunk tenfold."""
    board = (np.indices((2600, 2600)).sum(0) % 2 * 255).astype(np.uint8)
    image = Image.fromarray(np.repeat(board[..., None], 3, axis=2))
    chip = np.asarray(align(image, five(CHIP_POINTS * 10)), float)
    assert chip[20:-20, 20:-20].std() < 5


@pytest.mark.parametrize("points", [CHIP_POINTS * 9 - 9000, CHIP_POINTS * 0.1 - 400, CHIP_POINTS * 0])
def test_a_face_outside_the_photo_or_of_no_size_is_its_mean_colour_and_no_error(points: np.ndarray) -> None:
    image = Image.new("RGB", (50, 50), (200, 100, 0))
    image.paste((0, 100, 200), (0, 0, 50, 25))
    assert (np.asarray(align(image, five(points) if points.any() else np.zeros((5, 2)))) == (100, 100, 100)).all()


@given(st.floats(-20, 320), st.floats(-20, 220), st.floats(0.02, 3), st.floats(-3.1, 3.1))
def test_around_a_photo_is_its_mean_colour(x: float, y: float, scale: float, angle: float) -> None:
    """Of a white photo, every chip is white."""
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (CHIP_POINTS - CHIP_POINTS.mean(0)) @ turn.T + [x, y]
    assert np.asarray(align(Image.new("RGB", (300, 200), "white"), five(points))).min() == 255


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_lies_inside_the_chip(name: str) -> None:
    t = TEMPLATES[name]
    assert min(t.left, t.top) >= 0
    assert max(t.left, t.top) + t.side <= CHIP_SIZE


def test_crops_put_the_eyes_where_the_base_models_want_them() -> None:
    chip = Image.new("RGB", (CHIP_SIZE, CHIP_SIZE))
    for x, y in CHIP_POINTS[:2]:
        ImageDraw.Draw(chip).ellipse((x - 4, y - 4, x + 4, y + 4), fill=(255, 255, 255))
    for name, size, left, right in [
        ("dlib", 150, (42.3, 34.9), (100.9, 34.3)),
        ("arcface", 112, (38.3, 51.7), (73.5, 51.5)),
    ]:
        pixels = crop(chip, name, size)
        assert pixels.shape == (size, size, 3)
        assert pixels.dtype == np.uint8
        grey = pixels[..., 0].astype(float)
        rows, columns = np.mgrid[:size, :size]
        for half, (x, y) in ((columns < size / 2, left), (columns >= size / 2, right)):
            weight = grey * half
            centre = (
                (weight * (columns + 0.5)).sum() / weight.sum(),
                (weight * (rows + 0.5)).sum() / weight.sum(),
            )
            assert np.hypot(centre[0] - x, centre[1] - y) < 2.5, name

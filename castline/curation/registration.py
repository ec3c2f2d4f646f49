"""Two chips laid on each other: the same photo stays the same photo when it is cropped, compressed, scaled or mirrored.

A hash tells copies apart only as long as the detector puts its landmarks alike, and on a crop or a mirror image it puts
them elsewhere. So one chip is moved, turned and scaled until it lies best on the other, and what counts is how alike
they are then. Of the same photo little but noise is left; two photos of a person never fit like that, if they were not
taken in the same moment.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from castline.faces.align import CHIP_POINTS, CHIP_SIZE, fit_similarity, four_points

__all__ = ["SIDE", "inside_of", "likeness", "picture_of"]

SIDE = 64
"""Pixels a side of the pictures that are compared: chips at a quarter of their size."""

# Left, top, right and bottom, in pixels of the picture: the face from brow to mouth, and all there is of hair and
# background, by which two photos of one smile differ. So much of the face has to be within both photos.
_FACE, _ALL = (18.0, 16.0, 46.0, 52.0), (3.0, 5.0, 61.0, 63.0)  # about the same middle
_MIN_SHARED = 0.5


def picture_of(chip: bytes) -> NDArray[np.uint8]:
    """A chip (JPEG) as it is compared: (64, 64) uint8, grey."""
    with Image.open(io.BytesIO(chip)) as image:
        image.draft("L", (SIDE, SIDE))  # libjpeg decodes at a quarter of the size
        return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def inside_of(landmarks: NDArray[np.float32], width: int, height: int) -> NDArray[np.bool_]:
    """Which pixels of a face's picture come from the photo, not from the colour that fills the chip: (64, 64) bool.

    landmarks: (5, 2), pixels of the photo, which is `width` × `height`.
    """
    linear = fit_similarity(four_points(landmarks), CHIP_POINTS)
    if not linear[:, :2].any():
        return np.zeros((SIDE, SIDE), np.bool_)
    x, y = np.meshgrid(*[(np.arange(SIDE) + 0.5) * (CHIP_SIZE / SIDE)] * 2)
    points = np.linalg.solve(linear[:, :2], np.stack([x.ravel(), y.ravel()]) - linear[:, 2:])
    inside = (points >= 0).all(0) & (points[0] <= width) & (points[1] <= height)
    return np.asarray(inside.reshape(SIDE, SIDE), np.bool_)


def likeness(pictures: NDArray[np.uint8], inside: NDArray[np.bool_], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """How alike the two faces of each pair are once one is laid on the other: correlation, -1 to 1.

    pictures, inside: (N, 64, 64), see `picture_of` and `inside_of`. pairs: (M, 2) int64, rows of them; what a thousand
    at a time need, 200 MB, no cache holds. Returns (M,) float32.

    Source: Baker and Matthews, Lucas-Kanade 20 years on, 2004: the inverse compositional algorithm, coarse to fine, for
    moves, turns and scales; both pictures at mean 0 and length 1, so that light and contrast do not count.
    """
    if not len(pairs):
        return np.zeros(0, np.float32)
    used, place = np.unique(pairs, return_inverse=True)
    a, b = place.reshape(-1, 2).T
    pixels = pictures[used].astype(np.float32)
    coarse, fine = _blurred(pixels, 4), _blurred(pixels, 1)
    # Blurring brings what is outside the photo into the pixels at its edge.
    masks = (_blurred(inside[used].astype(np.float32), 1) > 0.99).astype(np.float32)
    plain = _registered(coarse, masks, a, b, np.zeros(len(a), bool), None, _FACE, 3.0, 4)
    turned = _registered(coarse, masks, a, b, np.ones(len(a), bool), None, _FACE, 3.0, 4)
    flip = turned[0] > plain[0]
    best = np.where(flip, turned[0], plain[0])
    scale, shift = np.where(flip, turned[1], plain[1]), np.where(flip, turned[2], plain[2])
    for level, window, step, enough in ((coarse, _FACE, 3.0, 0.5), (fine, _FACE, 1.5, 0.75), (fine, _ALL, 2.0, 0.9)):
        i = np.flatnonzero(best > enough)  # the rest is given up
        begin = (scale[i], shift[i])
        found, scale[i], shift[i] = _registered(level, masks, a[i], b[i], flip[i], begin, window, step, 6)
        best[i] = np.minimum(best[i], found) if window is _ALL else found
    return best.astype(np.float32)


_Complex = NDArray[np.complex128]


def _registered(
    pictures: NDArray[np.float32],
    inside: NDArray[np.float32],
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    flip: NDArray[np.bool_],
    begin: tuple[_Complex, _Complex] | None,
    window: tuple[float, float, float, float],
    step: float,
    rounds: int,
) -> tuple[NDArray[np.float64], _Complex, _Complex]:
    """Correlation (M,), and what takes the face in `a` to the one in `b`: scale and turn, and shift, complex numbers.

    flip: where `b` is looked at in the mirror. begin: where to start from. window: what of `a` is laid on `b`. step:
    pixels from one sample to the next. rounds: of improvement.
    """
    left, top, right, bottom = window
    least = _MIN_SHARED * (_FACE[2] - _FACE[0]) * (_FACE[3] - _FACE[1]) / ((right - left) * (bottom - top))
    x, y = np.meshgrid(np.arange(left, right + 0.1, step), np.arange(top, bottom + 0.1, step))
    middle = complex((left + right) / 2, (top + bottom) / 2)
    grid = (x + 1j * y).ravel() - middle  # (S,)
    still = np.broadcast_to(grid + middle, (len(a), grid.size))
    template, within = _sampled(pictures, a, still), _sampled(inside, a, still)
    template = _normalised(template, within)
    slopes = np.gradient(template.reshape(len(a), *x.shape), step, axis=(1, 2))
    dy, dx = (slope.reshape(len(a), grid.size) for slope in slopes)
    # What a small shift, scale and turn change: (M, S, 4).
    steepest = np.stack([dx, dy, dx * grid.real + dy * grid.imag, dy * grid.real - dx * grid.imag], axis=2)
    steepest *= within[:, :, None]
    square = np.matmul(steepest.transpose(0, 2, 1), steepest)
    square += 1e-4 * (np.trace(square, axis1=1, axis2=2)[:, None, None] / 4 + 1e-12) * np.eye(4)
    solve = np.matmul(np.linalg.inv(square), steepest.transpose(0, 2, 1))  # (M, 4, S)

    scale, shift = begin if begin else (np.ones(len(a), np.complex128), np.zeros(len(a), np.complex128))
    best: NDArray[np.float64] = np.full(len(a), -1.0)
    best_scale, best_shift = scale, shift
    for last in range(rounds + 1):
        moved = scale[:, None] * grid + shift[:, None] + middle
        if flip.any():
            moved = np.where(flip[:, None], SIDE - 1 - moved.conj(), moved)
        there = (moved.real >= 0) & (moved.real <= SIDE - 1) & (moved.imag >= 0) & (moved.imag <= SIDE - 1)
        shared = within * there * _sampled(inside, b, moved)
        seen = _normalised(_sampled(pictures, b, moved), shared)
        alike = (seen * _normalised(template, shared)).sum(1)
        alike[shared.mean(1) < least] = -1
        up = alike > best
        best = np.where(up, alike, best)
        best_scale, best_shift = np.where(up, scale, best_scale), np.where(up, shift, best_shift)
        if last == rounds:
            break
        change = np.matmul(solve, ((seen - template) * shared)[:, :, None])[:, :, 0]
        scale = scale / (1 + change[:, 2] + 1j * change[:, 3])
        shift = shift - scale * (change[:, 0] + 1j * change[:, 1])
        lost = (abs(scale) < 0.6) | (abs(scale) > 1.6) | (abs(shift) > 14)
        scale, shift = np.where(lost, 1, scale), np.where(lost, 0, shift)
    return best, best_scale, best_shift


def _sampled(pictures: NDArray[np.float32], rows: NDArray[np.int64], points: _Complex) -> NDArray[np.float64]:
    """Bilinear samples (M, S) of `pictures[rows]` at `points` (M, S), x + iy; beyond the edge, the edge."""
    x, y = np.clip(points.real, 0, SIDE - 1.001), np.clip(points.imag, 0, SIDE - 1.001)
    x0, y0 = x.astype(np.int64), y.astype(np.int64)
    fx, fy = x - x0, y - y0
    flat, corner = pictures.reshape(-1), (rows[:, None] * SIDE + y0) * SIDE + x0
    above = flat[corner] * (1 - fx) + flat[corner + 1] * fx
    below = flat[corner + SIDE] * (1 - fx) + flat[corner + SIDE + 1] * fx
    return np.asarray(above * (1 - fy) + below * fy, np.float64)


def _normalised(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows at mean 0 and length 1 where `weights` counts them, 0 elsewhere."""
    mean = (values * weights).sum(1, keepdims=True) / np.maximum(weights.sum(1, keepdims=True), 1e-9)
    centred = (values - mean) * np.sqrt(weights)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9), np.float64)


def _blurred(pictures: NDArray[np.float32], times: int) -> NDArray[np.float32]:
    """Each picture blurred by the kernel 1 2 1 in both directions, so many times."""
    for _ in range(times):
        for axis in (1, 2):
            padded = np.pad(pictures, [(1, 1) if i == axis else (0, 0) for i in range(3)], mode="edge")
            n = pictures.shape[axis]
            before, at, after = (np.take(padded, np.arange(n) + k, axis) for k in range(3))
            pictures = ((before + 2 * at + after) / 4).astype(np.float32)
    return pictures

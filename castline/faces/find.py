"""From a photo of any size to the faces in it, in pixels of that photo."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from castline.faces.boxes import nms
from castline.faces.detection import Detections, Detector
from castline.faces.settings import DetectorSettings

__all__ = ["find_faces"]

# A face at a tile's edge is whole in the next one if it is smaller than the overlap: a quarter of a tile.
_TILE_OVERLAP = 0.25


def find_faces(image: Image.Image, detector: Detector, settings: DetectorSettings) -> Detections:
    """The faces in `image` (RGB, upright), best score first, in its pixels.

    The detector sees the photo at `settings.max_side` pixels at most, inside borders of `settings.paddings` in turn
    until it finds something. A face whose centre is in the border is none. `settings.tiles` looks for small ones.
    """
    scale = min(1.0, settings.max_side / max(image.size))
    if scale < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels = np.asarray(image)
    found = _in_borders(pixels, detector, settings.paddings)
    if settings.tiles > 1:
        found = _merged([found, *_in_tiles(pixels, detector, settings.tiles)], settings.max_overlap)
    return found.moved(1 / scale)


def _in_borders(pixels: NDArray[np.uint8], detector: Detector, paddings: tuple[float, ...]) -> Detections:
    """What is found with the first of `paddings` (fractions of the longer side) that lets anything be found."""
    height, width = pixels.shape[:2]
    for padding in paddings:
        border = round(padding * max(height, width))
        # Black, because BlazeFace finds most with it: of 2400 tight crops 2391 with paddings of 0, 0.35 and 0.75; 2378
        # in mid-grey, 2377 with the edge pixels repeated, 2295 with the photo mirrored.
        padded = np.pad(pixels, ((border, border), (border, border), (0, 0)))
        faces = _plausible(detector(padded).moved(1.0, -border, -border), width, height)
        if len(faces):
            return faces
    return Detections.none()


def _in_tiles(pixels: NDArray[np.uint8], detector: Detector, tiles: int) -> Iterator[Detections]:
    """The faces in each of the tiles that `tiles` along the longer side make, without those a tile's edge cuts."""
    height, width = pixels.shape[:2]
    side = max(1, round(max(height, width) / (tiles - (tiles - 1) * _TILE_OVERLAP)))
    for top in _starts(height, side):
        for left in _starts(width, side):
            tile = np.ascontiguousarray(pixels[top : top + side, left : left + side])
            faces = _plausible(detector(tile), tile.shape[1], tile.shape[0]).moved(1.0, left, top)
            # The photo's own edges cut no more than the photographer did.
            low = np.where([left > 0, top > 0], [left, top], -np.inf)
            high = np.where([left + side < width, top + side < height], [left + side, top + side], np.inf)
            whole = (faces.boxes > [*low, -np.inf, -np.inf]) & (faces.boxes < [np.inf, np.inf, *high])
            yield _chosen(faces, np.flatnonzero(whole.all(1)))


def _starts(length: int, side: int) -> list[int]:
    """Where tiles of `side` start so that they cover `length` evenly and overlap by _TILE_OVERLAP or more.

    >>> _starts(100, 40), _starts(30, 40)
    ([0, 30, 60], [0])
    """
    if length <= side:
        return [0]
    steps = int(np.ceil((length - side) / (side * (1 - _TILE_OVERLAP))))
    return [round(step * (length - side) / steps) for step in range(steps + 1)]


def _plausible(faces: Detections, width: int, height: int) -> Detections:
    """The faces with finite numbers, an area, and the centre of the box inside a `width` × `height` image."""
    known = np.isfinite(faces.boxes).all(1) & np.isfinite(faces.landmarks).all((1, 2)) & np.isfinite(faces.scores)
    faces = _chosen(faces, np.flatnonzero(known))
    low, high = faces.boxes[:, :2], faces.boxes[:, 2:]
    centre = (low + high) / 2
    keep = (high > low) & (centre >= 0) & (centre < [width, height])
    return _chosen(faces, np.flatnonzero(keep.all(1)))


def _merged(parts: list[Detections], max_overlap: float) -> Detections:
    """Several searches of one photo as one, each face once."""
    faces = Detections(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.landmarks for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )
    return _chosen(faces, nms(faces.boxes, faces.scores, max_overlap))


def _chosen(faces: Detections, which: NDArray[np.intp]) -> Detections:
    return Detections(faces.boxes[which], faces.landmarks[which], faces.scores[which])

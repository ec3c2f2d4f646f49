"""From a photo of any size to the faces in it, in pixels of that photo."""

import numpy as np
from PIL import Image

from castline.faces.detection import Detections, Detector, DetectorSettings

__all__ = ["find_faces"]


def find_faces(image: Image.Image, detector: Detector, settings: DetectorSettings) -> Detections:
    """The faces in `image` (RGB, upright), best score first, in its pixels.

    The detector sees the photo at `settings.max_side` pixels at most, inside borders of `settings.paddings` in turn
    until it finds something. What it finds in the border alone is left out.
    """
    scale = min(1.0, settings.max_side / max(image.size))
    if scale < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels = np.asarray(image)
    for padding in settings.paddings:
        border = round(padding * max(image.size))
        padded = np.pad(pixels, ((border, border), (border, border), (0, 0)), mode=MODE) if border else pixels
        faces = detector(padded).moved(1.0, -border, -border)
        faces = _plausible(faces, image.size)
        if len(faces):
            return faces.moved(1 / scale)
    return Detections.none()


MODE = "constant"


def _plausible(faces: Detections, size: tuple[int, int]) -> Detections:
    """Faces with finite numbers, an area, and the centre of the box inside an image of `size` (width, height)."""
    centre = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    keep = (
        np.isfinite(faces.boxes).all(1)
        & np.isfinite(faces.landmarks).all((1, 2))
        & (faces.boxes[:, 2:] > faces.boxes[:, :2]).all(1)
        & (centre >= 0).all(1)
        & (centre < size).all(1)
    )
    return Detections(faces.boxes[keep], faces.landmarks[keep], faces.scores[keep])

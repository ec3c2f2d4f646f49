"""What makes a face hard to recognise, as numbers: size, sharpness, light, pose."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from castline.faces.align import four_points

__all__ = ["Quality", "quality_of"]

# How far the nose of the mean adult face stands out before the plane of the eyes, in eye distances.
_NOSE_DEPTH = 0.55


@dataclass(frozen=True)
class Quality:
    """Measures of one face.

    eye_distance: pixels of the photo. sharpness: variance of the Laplacian of the face's grey values over their own
    variance, so that light does not count; 0 where they are all the same. brightness, contrast: mean and standard
    deviation of the same, 0 to 255. yaw: degrees, positive when the nose points to the image's right; an estimate good
    to about 10 degrees. roll: degrees, positive when clockwise.
    """

    eye_distance: float
    sharpness: float
    brightness: float
    contrast: float
    yaw: float
    roll: float


def quality_of(chip: Image.Image, landmarks: NDArray[np.float32]) -> Quality:
    """Measure a face. chip: RGB, 256 × 256. landmarks: (5, 2), x then y, pixels of the photo.

    Only the face from brow to mouth counts: further out, tight crops have the colour that fills a chip, and its edge
    is sharp in any photo. Sharpness is taken at a quarter of the chip's size, where faces of 17 pixels between the eyes
    are not enlarged.
    """
    grey = np.asarray(chip.convert("L").reduce(4), np.float32)[21:51, 20:44]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - np.float32(4) * grey[1:-1, 1:-1]
    left, right, nose, _ = four_points(landmarks)
    across = right - left
    distance = float(np.hypot(*across))
    # The nose's way along the eyes' line, from their middle, in eye distances: sin(yaw) times the nose's depth.
    aside = float((nose - (left + right) / 2) @ across) / max(distance, 1e-6) ** 2
    return Quality(
        eye_distance=distance,
        sharpness=float(laplacian.var() / max(float(grey.var()), 1.0)),
        brightness=float(grey.mean()),
        contrast=float(grey.std()),
        yaw=float(np.degrees(np.arctan2(aside, _NOSE_DEPTH))),
        roll=float(np.degrees(np.arctan2(across[1], across[0]))),
    )

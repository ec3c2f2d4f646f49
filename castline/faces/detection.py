"""What a detector finds, and what it is asked: one interface for all of them."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Detections", "Detector", "DetectorSettings"]


@dataclass(frozen=True)
class DetectorSettings:
    """The `detector` section of params.yaml.

    name: blazeface, mtcnn, yunet or haar.
    min_score: faces below it are left out; 0 to 1.
    max_overlap: of two boxes with a larger intersection over union, one is left.
    paddings: borders to try in turn, as a fraction of the photo's longer side, until a face is found. Detectors
        are trained on photos with a head in them, so a tight crop needs a border to look like one.
    max_side: the photo is shrunk to this longest side, in pixels, before detection.
    tiles: look again in overlapping square tiles, so many along the longer side; 0 and 1: don't. For group photos under
        blazeface, which sees everything at 192 pixels: with 4, it finds 86 instead of 55 faces in 18 group photos, at
        a dozen times the cost. Photos of one or two people gain next to nothing.
    file, sha256: the weight file of a detector that no package carries (yunet).
    """

    name: str = "blazeface"
    min_score: float = 0.5
    max_overlap: float = 0.3
    paddings: tuple[float, ...] = (0.0, 0.35, 0.75)
    max_side: int = 1280
    tiles: int = 0
    file: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Detections:
    """Faces in one image, best score first.

    boxes: (N, 4) float32, x1 y1 x2 y2, pixels, may reach outside the image.
    landmarks: (N, 5, 2) float32, x then y, pixels: the eye on the image's left, the eye on its right, the tip of
        the nose, the mouth corner on the image's left, and on its right. A detector that only knows the centre of
        the mouth gives it as both corners.
    scores: (N,) float32, 0 to 1.
    """

    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls) -> "Detections":
        """No face.

        >>> len(Detections.none())
        0
        """
        return cls(np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.float32))

    def moved(self, scale: float, dx: float = 0.0, dy: float = 0.0) -> "Detections":
        """The same faces in an image that is `scale` times as large, its origin then moved by (dx, dy) pixels."""
        offset = np.array([dx, dy], np.float32)
        return Detections(
            (self.boxes.reshape(-1, 2, 2) * np.float32(scale) + offset).reshape(-1, 4),
            self.landmarks * np.float32(scale) + offset,
            self.scores,
        )


class Detector(Protocol):
    """A photo in, faces out."""

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Find faces in `image`: (H, W, 3) uint8, RGB, upright. Pixels of the result are pixels of `image`."""
        ...

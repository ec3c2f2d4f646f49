"""What a detector finds: one interface for all of them."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Detections", "Detector"]


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

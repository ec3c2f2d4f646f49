"""Viola and Jones' cascade of Haar features on OpenCV 4: boxes only, the baseline of 2001.

Source: Viola and Jones, Rapid Object Detection using a Boosted Cascade of Simple Features, 2001; the cascade is
OpenCV's haarcascade_frontalface_alt2, trained by Rainer Lienhart (Intel licence, BSD-like). On 218 photos in which
YuNet finds a face it found 201 with 23 false ones; frontalface_default found 199 with 89.
"""

import numpy as np
from numpy.typing import NDArray

from castline.errors import MissingExtra, optional_import
from castline.faces.boxes import nms
from castline.faces.detection import Detections
from castline.faces.settings import DetectorSettings

__all__ = ["Haar"]

# Where YuNet has eyes, nose and mouth corners in a box of this cascade, as fractions of its side: the mean of 218
# faces, made symmetrical. An eye lies within 0.025 of it as a rule (standard deviation), the nose within 0.06.
_POINTS = np.array([[0.308, 0.383], [0.692, 0.383], [0.5, 0.615], [0.332, 0.789], [0.668, 0.789]], np.float32)
# The last stage's sum is 56.8 for the median face and 55.1 for the median false one; of four boxes with a sum of 55.6
# (score 0.74) about three are faces.
_EVEN, _STEEP = 55.3, 3.4
_MIN_FACE = 24


class Haar:
    """Finds upright frontal faces from 24 pixels, or 4 % of the longer side where that is more.

    The cascade knows no landmarks: each face gets the mean ones, so it is cut out but not turned upright. The score
    is a logistic function of the last stage's sum.

    Raises: MissingExtra, also when OpenCV is a version 5, which has no cascades any more.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        cv2 = optional_import("cv2", "opencv")
        if not hasattr(cv2, "CascadeClassifier"):
            raise MissingExtra(
                f"OpenCV {cv2.__version__} has no cascades, haar needs version 4", "pip install 'castline[opencv]'"
            )
        self._cascade = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_frontalface_alt2.xml")
        self._cv2 = cv2
        self._settings = settings

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Find faces in `image`: (H, W, 3) uint8, RGB, upright; in its pixels."""
        smallest = max(_MIN_FACE, round(0.04 * max(image.shape[:2])))
        grey = self._cv2.equalizeHist(self._cv2.cvtColor(image, self._cv2.COLOR_RGB2GRAY))
        found, _, sums = self._cascade.detectMultiScale3(
            grey, scaleFactor=1.1, minNeighbors=3, minSize=(smallest, smallest), outputRejectLevels=True
        )
        if not len(found):
            return Detections.none()
        corner, size = np.split(np.asarray(found, np.float32), 2, axis=1)
        boxes = np.concatenate([corner, corner + size], 1)
        scores = (1 / (1 + np.exp(_STEEP * (_EVEN - np.asarray(sums, np.float64).ravel())))).astype(np.float32)
        keep = nms(boxes, scores, self._settings.max_overlap)
        keep = keep[scores[keep] >= self._settings.min_score]
        return Detections(boxes[keep], corner[keep, None] + _POINTS * size[keep, None], scores[keep])

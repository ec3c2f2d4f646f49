"""MTCNN: three small networks in a cascade, five points a face, on PyTorch.

Source: Zhang et al., Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks, 2016; code and
weights are facenet-pytorch's (MIT).
"""

import numpy as np
from numpy.typing import NDArray

from castline.errors import optional_import
from castline.faces.boxes import nms
from castline.faces.detection import Detections
from castline.faces.settings import DetectorSettings
from castline.files.weights import packaged_file

__all__ = ["Mtcnn"]

_SHA256 = {
    "pnet.pt": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "rnet.pt": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "onet.pt": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}
_MIN_FACE = 20


class Mtcnn:
    """Finds faces from 20 pixels, or 4 % of the longer side where that is more.

    Its cost grows with the number of pixels per smallest face, so the limit follows the size of the photo.

    Raises: MissingExtra, WeightsError.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        facenet = optional_import("facenet_pytorch", "mtcnn")
        for name, sha256 in _SHA256.items():
            packaged_file("facenet_pytorch", f"data/{name}", sha256)
        self._mtcnn = facenet.MTCNN(min_face_size=_MIN_FACE, keep_all=True, select_largest=False)
        self._settings = settings

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Find faces in `image`: (H, W, 3) uint8, RGB, upright; in its pixels."""
        smallest = max(_MIN_FACE, round(0.04 * max(image.shape[:2])))
        if min(image.shape[:2]) < smallest:
            return Detections.none()
        self._mtcnn.min_face_size = smallest
        boxes, scores, points = self._mtcnn.detect(image, landmarks=True)
        if boxes is None:
            return Detections.none()
        boxes, scores, points = (np.asarray(part, np.float32) for part in (boxes, scores, points))
        keep = nms(boxes, scores, self._settings.max_overlap)
        keep = keep[scores[keep] >= self._settings.min_score]
        return Detections(boxes[keep], points[keep], scores[keep])

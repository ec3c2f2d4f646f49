"""YuNet: a 76,000-parameter detector on OpenCV, five points a face.

Source: Wu, Peng, Yu, YuNet: A Tiny Millisecond-level Face Detector, 2023. No package carries its weights.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from castline.errors import WeightsError, optional_import
from castline.faces.detection import Detections
from castline.faces.settings import DetectorSettings
from castline.files.weights import checked_file

__all__ = ["YuNet", "weights"]

_SHA256 = "25a606a145a5b6d7271ae138fbd00eba91dad8b83222ae3f2c7ecd0f4a7b0e31"
_REMEDY = (
    "get onnx/yunet_n_640_640.onnx (Apache-2.0) from github.com/ShiqiYu/libfacedetection.train and set detector.file "
    "to where it lies; for another YuNet set detector.sha256 too"
)


def weights(settings: DetectorSettings) -> Path:
    """The model file, which `settings.file` names.

    Without `settings.sha256` it has to be libfacedetection's yunet_n_640_640.onnx.

    Raises: WeightsError.
    """
    if not settings.file:
        raise WeightsError("detector.file: empty, and no package carries the weights of yunet", _REMEDY)
    return checked_file(Path(settings.file), settings.sha256 or _SHA256, _REMEDY)


class YuNet:
    """Finds faces from about 10 pixels.

    Raises: MissingExtra, WeightsError.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        cv2 = optional_import("cv2", "opencv")
        path = weights(settings)
        self._model = cv2.FaceDetectorYN.create(str(path), "", (320, 320), settings.min_score, settings.max_overlap)

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Find faces in `image`: (H, W, 3) uint8, RGB, upright; in its pixels."""
        # With 32 pixels or less on a side, OpenCV 4.12 returns what was in memory. Below and to the right, a border
        # leaves coordinates as they are.
        below, right = (max(0, 64 - side) for side in image.shape[:2])
        image = np.pad(image[..., ::-1], ((0, below), (0, right), (0, 0)))  # BGR
        self._model.setInputSize((image.shape[1], image.shape[0]))
        _, rows = self._model.detect(np.ascontiguousarray(image))
        if rows is None:
            return Detections.none()
        # A row: x, y, width, height, five points (the person's right eye, on the image's left, comes first), score.
        rows = np.asarray(rows, np.float32)
        return Detections(
            np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1),
            rows[:, 4:14].reshape(-1, 5, 2),
            rows[:, 14],
        )

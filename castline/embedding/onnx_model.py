"""A base model as an ONNX file, run by ONNX Runtime: what features are made with, and what is converted and released.

PyTorch takes seconds to be imported; this does not.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["OnnxModel"]


class OnnxModel:
    """(S, S, 3) uint8 RGB → raw embedding (D,) float32. May be shared between threads."""

    def __init__(self, file: Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Raw embedding of a face, as `castline.faces.align.crop` cuts it."""
        planes = image.transpose(2, 0, 1)[np.newaxis].astype(np.float32)  # (1, 3, S, S)
        (embedding,) = self._session.run(["embedding"], {"image": planes})
        row: NDArray[np.float32] = embedding[0]
        return row

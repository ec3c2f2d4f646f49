"""Exported files, each in the runtime that its users run it with, and what they make of the test faces."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from castline.embedding.onnx_model import OnnxModel
from castline.runtime.tflite import TFLiteModel

__all__ = ["likeness", "opened", "run"]


def opened(file: Path) -> OnnxModel | TFLiteModel:
    """The file in its runtime, on one thread."""
    return OnnxModel(file) if file.suffix == ".onnx" else TFLiteModel(file)


def run(model: OnnxModel | TFLiteModel, images: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], float]:
    """Raw embeddings of faces, (N, D), and the median time of one in milliseconds of this machine.

    images: N of (S, S, 3) uint8 RGB, one at least.
    """
    model(images[0])  # the first call also sets up
    rows, seconds = [], []
    for image in images:
        start = time.perf_counter()
        rows.append(model(image))
        seconds.append(time.perf_counter() - start)
    return np.stack(rows), 1000 * float(np.median(seconds))


def likeness(raw: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """The mean cosine of two makings of the same raw embeddings, (N, D) each, their mean taken off.

    Embeddings share a large common part; with it, even a file that confuses everybody has a cosine near 1.
    """
    a, b = raw - reference.mean(0), reference - reference.mean(0)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / np.maximum(lengths, 1e-12)).mean())

"""Features: the embeddings of many chips. The frozen base model runs once a face and heads learn from it."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from castline import machine
from castline.bars import counted
from castline.embedding.base_settings import BaseModelSettings
from castline.embedding.crops import decode

__all__ = ["embed"]


def embed(
    model: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    settings: BaseModelSettings,
    chips: Sequence[bytes],
    title: str = "features",
    change: Callable[[NDArray[np.uint8], bytes], NDArray[np.uint8]] | None = None,
) -> NDArray[np.float32]:
    """Raw embeddings of chips: (N, D) float32, a row for each of `chips`, which are 256 × 256 JPEG.

    Each face is decoded and computed by one thread, as many at a time as CASTLINE_THREADS says. (Threads that share one
    convolution wait for each other at its end: with another busy process beside them, ten times as long.) So rows do
    not depend on the number of threads, nor on which others there are.

    model: what makes a raw embedding (D,) of a picture (S, S, 3) uint8 RGB, in several threads at once: an OnnxModel.
    change: what to do to each picture, of the chip that it was decoded from, before it is looked at.

    Raises: DataError when a chip cannot be decoded.
    """

    def row(chip: bytes) -> NDArray[np.float32]:
        image = decode(chip, settings)
        return model(image if change is None else change(image, chip))

    rows = np.zeros((len(chips), settings.embedding_size), np.float32)
    with ThreadPoolExecutor(machine.threads()) as pool:
        for i, found in enumerate(counted(pool.map(row, chips), title, "face", len(chips))):
            rows[i] = found
    return rows

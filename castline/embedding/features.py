"""Features: the embeddings of many chips. The frozen base model runs once a face and heads learn from it."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm  # type: ignore[import-untyped]

from castline import machine
from castline.embedding.base_models import BaseModel, BaseModelSettings
from castline.embedding.crops import decode

__all__ = ["embed"]


def embed(
    base: BaseModel,
    settings: BaseModelSettings,
    chips: Sequence[bytes],
    batch_size: int = 16,
    title: str = "features",
    change: Callable[[NDArray[np.uint8], bytes], NDArray[np.uint8]] | None = None,
) -> NDArray[np.float32]:
    """Raw embeddings of chips: (N, D) float32, a row for each of `chips`, which are 256 × 256 JPEG.

    Each batch is decoded and computed by one thread, as many batches at a time as CASTLINE_THREADS says. (Threads
    that share one convolution wait for each other at its end: with another busy process beside them, ten times as
    long.) So rows do not depend on the number of threads, and as the last batch is filled up, neither on how many
    others there are. The base model is put into eval mode.

    change: what to do to each picture (S, S, 3) uint8, of the chip that it was decoded from, before it is looked at.

    Raises: DataError when a chip cannot be decoded.
    """
    base.eval().to(memory_format=torch.channels_last)

    def batch(start: int) -> NDArray[np.float32]:
        part = chips[start : start + batch_size]
        images = [decode(chip, settings) for chip in part]
        if change is not None:
            images = [change(image, chip) for image, chip in zip(images, part, strict=True)]
        filled = np.stack(images + images[-1:] * (batch_size - len(images)))
        planes = torch.from_numpy(filled).permute(0, 3, 1, 2).float()  # (B, S, S, 3) → (B, 3, S, S), channels last
        with torch.inference_mode():
            rows: NDArray[np.float32] = base(planes)[: len(images)].numpy()
        return rows

    starts = range(0, len(chips), batch_size)
    with (
        ThreadPoolExecutor(machine.threads(), initializer=torch.set_num_threads, initargs=(1,)) as pool,
        tqdm(total=len(chips), desc=title, unit="face", disable=None) as bar,
    ):
        found: list[NDArray[np.float32]] = [np.empty((0, settings.embedding_size), np.float32)]
        for rows in pool.map(batch, starts):
            found.append(rows)
            bar.update(len(rows))
    return np.concatenate(found)

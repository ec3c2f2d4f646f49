"""Features: the embeddings of many chips. The frozen base model runs once a face and heads learn from it."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]

from castline import machine
from castline.errors import DataError
from castline.faces.align import crop
from castline.training.base_models import BaseModel, BaseModelSettings

__all__ = ["Crops", "decode", "embed"]


def decode(chip: bytes, settings: BaseModelSettings) -> NDArray[np.uint8]:
    """What the base model sees of a chip in JPEG: (S, S, 3) uint8, RGB.

    Raises: DataError when it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(chip)) as image:
            return crop(image.convert("RGB"), settings.template, settings.input_size)
    except OSError as error:
        raise DataError(f"a chip cannot be decoded: {error}", "dvc repro --force faces") from error


def embed(
    base: BaseModel,
    settings: BaseModelSettings,
    chips: Sequence[bytes],
    batch_size: int = 16,
    title: str = "features",
) -> NDArray[np.float32]:
    """Raw embeddings of chips: (N, D) float32, a row for each of `chips`, which are 256 × 256 JPEG.

    Each batch is decoded and computed by one thread, as many batches at a time as CASTLINE_THREADS says. (Threads
    that share one convolution wait for each other at its end: with another busy process beside them, ten times as
    long.) So rows do not depend on the number of threads, and as the last batch is filled up, neither on how many
    others there are. The base model is put into eval mode.

    Raises: DataError when a chip cannot be decoded.
    """
    base.eval().to(memory_format=torch.channels_last)

    def batch(start: int) -> NDArray[np.float32]:
        images = [decode(chip, settings) for chip in chips[start : start + batch_size]]
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


class Crops(Sequence[NDArray[np.uint8]]):
    """What the base model sees of each chip, (S, S, 3) uint8 RGB, decoded when asked for."""

    def __init__(self, chips: Sequence[bytes], settings: BaseModelSettings) -> None:
        self._chips, self._settings = chips, settings

    def __len__(self) -> int:
        return len(self._chips)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> "Crops": ...
    def __getitem__(self, index: int | slice) -> "NDArray[np.uint8] | Crops":
        if isinstance(index, slice):
            return Crops(self._chips[index], self._settings)
        return decode(self._chips[index], self._settings)

"""Features: the embeddings of many chips. The frozen base model runs once a face and heads learn from it."""

import io
from collections.abc import Iterator, Sequence
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
    batch_size: int = 32,
    title: str = "features",
) -> NDArray[np.float32]:
    """Raw embeddings of chips: (N, D) float32, a row for each of `chips`, which are 256 × 256 JPEG.

    The last batch is filled up, so all batches run the same kernels and a row does not depend on how many
    others there are. The base model is put into eval mode.

    Raises: DataError when a chip cannot be decoded.
    """
    base.eval()
    torch.set_num_threads(machine.threads())
    rows = np.empty((len(chips), settings.embedding_size), np.float32)
    with torch.inference_mode(), tqdm(total=len(chips), desc=title, unit="face", disable=None) as bar:
        done = 0
        for count, batch in _batches(settings, chips, batch_size):
            images = torch.from_numpy(batch).permute(0, 3, 1, 2).float()  # (B, S, S, 3) → (B, 3, S, S)
            rows[done : done + count] = base(images)[:count].numpy()
            done += count
            bar.update(count)
    return rows


def _batches(settings: BaseModelSettings, chips: Sequence[bytes], size: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """How many images of a batch count, and the batch (B, S, S, 3); the next is decoded meanwhile."""

    def batch(start: int) -> tuple[int, NDArray[np.uint8]]:
        images = [decode(chip, settings) for chip in chips[start : start + size]]
        return len(images), np.stack(images + images[-1:] * (size - len(images)))

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(batch, 0) if chips else None
        for start in range(size, len(chips) + size, size):
            if ahead is not None:
                current, ahead = ahead, pool.submit(batch, start) if start < len(chips) else None
                yield current.result()


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

"""What a base model sees of chips. NumPy and Pillow only: files are run on it where PyTorch is not."""

import io
from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from castline.embedding.base_settings import BaseModelSettings
from castline.errors import DataError
from castline.faces.align import crop

__all__ = ["Crops", "decode"]


def decode(chip: bytes, settings: BaseModelSettings) -> NDArray[np.uint8]:
    """What the base model sees of a chip in JPEG: (S, S, 3) uint8, RGB.

    Raises: DataError when it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(chip)) as image:
            return crop(image.convert("RGB"), settings.template, settings.input_size)
    except OSError as error:
        raise DataError(f"a chip cannot be decoded: {error}", "dvc repro --force faces") from error


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

"""Perceptual hashes of chips: near-duplicates lie a few bits apart however they were scaled or compressed.

A chip is aligned before it is hashed, so a photo that was cropped, shrunk or recompressed still gives the same chip.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["BITS", "hash_of", "mirrored"]

BITS = 256
_SIDE = 16  # frequencies a side
_GRID = 64

_n = np.arange(_GRID)
_DCT: NDArray[np.float64] = np.cos(np.pi * (2 * _n[None, :] + 1) * np.arange(1, _SIDE + 1)[:, None] / (2 * _GRID))


def hash_of(chip: Image.Image) -> bytes:
    """256 bits, row by row: the signs of the 16 × 16 lowest frequencies of its DCT, the mean left out.

    chip: RGB or grey, any size. Source: the pHash of Zauner, Implementation and benchmarking of perceptual image hash
    functions, 2010, at four times its usual length: aligned faces are alike, 64 bits do not tell them apart.
    """
    grey = np.asarray(chip.convert("L").resize((_GRID, _GRID), Image.Resampling.BOX), np.float64)
    coefficients = _DCT @ grey @ _DCT.T
    return np.packbits(coefficients > 0).tobytes()


def mirrored(hashes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The hashes of the mirrored chips: (..., 32) uint8 to the same.

    Mirroring changes the sign of every second horizontal frequency, so no picture is needed.
    """
    bits = np.unpackbits(hashes, axis=-1).reshape(*hashes.shape[:-1], _SIDE, _SIDE)
    bits[..., 0::2] ^= 1
    return np.packbits(bits.reshape(*hashes.shape[:-1], BITS), axis=-1)

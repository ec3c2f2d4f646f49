"""Photos that show the same moment: found by their chips' hashes, also when mirrored, and grouped."""

import numpy as np
from numpy.typing import NDArray

from castline.faces.hashing import BITS, mirrored

__all__ = ["near_pairs"]


def near_pairs(hashes: NDArray[np.uint8], max_bits: int, block: int = 4096) -> NDArray[np.int64]:
    """Pairs of rows whose hashes differ in at most `max_bits` bits, as they are or with one mirrored.

    hashes: (N, 32) uint8. Returns (M, 2) int64, the smaller row first, sorted. Every pair is looked at: as ±1 numbers
    the comparison is a matrix product, a block at a time.
    """

    def signs(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1

    found: list[NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(hashes), block):
        rows = hashes[start : start + block]
        left, flipped = signs(rows), signs(mirrored(rows))
        for other in range(start, len(hashes), block):
            right = signs(hashes[other : other + block]).T
            distance = (BITS - np.maximum(left @ right, flipped @ right)) / 2
            i, j = np.nonzero(distance <= max_bits)
            pairs = np.column_stack([i + start, j + other]).astype(np.int64)
            found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    every: NDArray[np.int64] = np.concatenate(found)
    order = np.lexsort((every[:, 1], every[:, 0]))
    return np.asarray(every[order], np.int64)

"""Photos that show the same moment, also when mirrored: by their chips' hashes; and whom to look at more closely."""

import numpy as np
from numpy.typing import NDArray

from castline.curation.choose import centred
from castline.faces.hashing import BITS, mirrored

__all__ = ["near_pairs", "neighbours"]


def near_pairs(hashes: NDArray[np.uint8], max_bits: int, settled: int = 0, block: int = 4096) -> NDArray[np.int64]:
    """Pairs of rows whose hashes differ in at most `max_bits` bits, as they are or with one mirrored.

    hashes: (N, 32) uint8. settled: so many of the first rows are not compared with each other. Returns (M, 2) int64,
    the smaller row first, sorted. Every other pair is looked at: as ±1 numbers the comparison is a matrix product, a
    block at a time.
    """

    def signs(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1

    found: list[NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]
    for start in range(settled, len(hashes), block):
        rows = hashes[start : start + block]
        left, flipped = signs(rows), signs(mirrored(rows))
        for other in range(0, start + len(rows), block):
            right = signs(hashes[other : other + block]).T
            distance = (BITS - np.maximum(left @ right, flipped @ right)) / 2
            i, j = np.nonzero(distance <= max_bits)
            pairs = np.column_stack([j + other, i + start]).astype(np.int64)
            found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    every: NDArray[np.int64] = np.concatenate(found)
    order = np.lexsort((every[:, 1], every[:, 0]))
    return np.asarray(every[order], np.int64)


def neighbours(
    embeddings: NDArray[np.float32], batches: NDArray[np.int64], count: int = 5, least: float = 0.5
) -> NDArray[np.int64]:
    """Pairs of faces that may be of the same photo: each face and those `count` that are most similar to it.

    embeddings: (N, D) float32, of the reference model. batches: (N,), the number of each face's batch. least: the
    cosine that they have to reach, what all faces have in common taken off. Returns (M, 2) int64, the smaller row
    first, sorted.

    A face is compared with those of its own and of older batches, so a new batch changes no pair of older ones. To a
    copy, however cropped or mirrored, its original is nearly always the most similar face; so there are a few times N
    pairs to look at more closely, not N².
    """
    found: list[NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]
    for batch in np.unique(batches):
        older = np.flatnonzero(batches <= batch)
        vectors, own = centred(embeddings[older]), np.flatnonzero(batches[older] == batch)
        most = min(count, len(older) - 1)
        for start in range(0, len(own) if most else 0, 2048):
            rows = own[start : start + 2048]
            similar = vectors[rows] @ vectors.T
            similar[np.arange(len(rows)), rows] = -2
            nearest = np.argpartition(-similar, most - 1, axis=1)[:, :most]
            near = np.take_along_axis(similar, nearest, axis=1) >= least
            pairs = older[np.column_stack([np.repeat(rows, most), nearest.ravel()])[near.ravel()]]
            found.append(np.sort(pairs, axis=1))
    return np.asarray(np.unique(np.concatenate(found), axis=0), np.int64)

import numpy as np
import pytest

from castline.curation.duplicates import near_pairs
from castline.faces.hashing import mirrored


def flipped_bits(hash: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    bits = np.unpackbits(hash)
    bits[random.choice(256, count, replace=False)] ^= 1
    return np.packbits(bits)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_for_a_pair(count: int) -> None:
    assert near_pairs(np.zeros((count, 32), np.uint8), 40).shape == (0, 2)


@pytest.mark.parametrize("block", [3, 7, 4096])
def test_pairs_are_those_within_the_bits_mirrored_or_not(block: int) -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 256, (20, 32), np.uint8)
    hashes[5] = flipped_bits(hashes[2], 40, random)
    hashes[19] = flipped_bits(hashes[2], 41, random)
    hashes[11] = mirrored(flipped_bits(hashes[7], 10, random)[None])[0]
    assert near_pairs(hashes, 40, block).tolist() == [[2, 5], [7, 11]]

import numpy as np
import pytest

from castline.curation.duplicates import near_pairs, neighbours
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
    assert near_pairs(hashes, 40, block=block).tolist() == [[2, 5], [7, 11]]
    assert near_pairs(hashes, 40, 6, block).tolist() == [[7, 11]], "what is settled is not compared with itself"
    assert near_pairs(hashes, 40, 20, block).tolist() == []


def test_nearest_faces_are_those_of_the_same_and_of_older_batches() -> None:
    random = np.random.default_rng(0)
    faces = random.normal(size=(30, 16)).astype(np.float32)
    faces[20] = faces[3] + 0.05 * random.normal(size=16)  # a copy in a later batch
    faces[4] = faces[3] + 0.05 * random.normal(size=16)
    batches = np.repeat([0, 1, 2], 10)
    before = neighbours(faces[:20], batches[:20])
    after = neighbours(faces, batches)
    assert {(3, 4)} <= set(map(tuple, before)), "pairs that are found stay, whatever comes later"
    assert set(map(tuple, before)) == {pair for pair in map(tuple, after) if max(pair) < 20}
    assert {(3, 20), (4, 20)} <= set(map(tuple, after))
    assert (after[:, 0] < after[:, 1]).all()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_faces_have_few_neighbours(count: int) -> None:
    faces = np.eye(4, dtype=np.float32)[:count]
    assert neighbours(faces, np.zeros(count, np.int64), least=-1.0).tolist() == ([[0, 1]] if count == 2 else [])

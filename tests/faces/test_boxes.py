"""Boxes: intersection over union, and who is left of those that compete for one face."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from castline.faces.boxes import clusters, iou, nms

Boxes = NDArray[np.float32]


def boxes_of(*rows: tuple[float, ...]) -> Boxes:
    return np.array(rows, np.float32).reshape(-1, 4)


# Whole numbers, so that areas are exact in float32.
edge = st.integers(0, 40)
some_boxes = st.lists(st.tuples(edge, edge, st.integers(1, 40), st.integers(1, 40)), max_size=20).map(
    lambda rows: boxes_of(*((x, y, x + width, y + height) for x, y, width, height in rows))
)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (boxes_of(), boxes_of(), np.zeros((0, 0))),
        (boxes_of(), boxes_of((0, 0, 1, 1)), np.zeros((0, 1))),
        (boxes_of((0, 0, 1, 1)), boxes_of(), np.zeros((1, 0))),
        (boxes_of((0, 0, 2, 2)), boxes_of((0, 0, 2, 2)), [[1.0]]),
        (boxes_of((0, 0, 2, 2)), boxes_of((1, 0, 3, 2)), [[1 / 3]]),
        (boxes_of((0, 0, 4, 4)), boxes_of((1, 1, 3, 3)), [[0.25]]),
        (boxes_of((0, 0, 2, 2)), boxes_of((2, 0, 4, 2), (2, 2, 4, 4), (-3, -3, -1, -1)), [[0.0, 0.0, 0.0]]),
        (boxes_of((0, 0, 0, 0)), boxes_of((0, 0, 0, 0)), [[0.0]]),
        (boxes_of((3, 3, 1, 1)), boxes_of((0, 0, 4, 4)), [[0.0]]),
    ],
    ids=["none", "none-one", "one-none", "same", "half", "inside", "beside", "point", "inside-out"],
)
def test_iou(a: Boxes, b: Boxes, expected: Boxes) -> None:
    found = iou(a, b)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@given(some_boxes, some_boxes, st.integers(-50, 50), st.integers(1, 8))
def test_iou_is_symmetric_and_blind_to_shift_and_scale(a: Boxes, b: Boxes, shift: int, scale: int) -> None:
    found = iou(a, b)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_array_equal(found, iou(b, a).T)
    np.testing.assert_allclose(found, iou((a + shift) * scale, (b + shift) * scale), rtol=1e-5)
    np.testing.assert_array_equal(np.diag(iou(a, a)), np.ones(len(a)))


@pytest.mark.parametrize(
    ("boxes", "scores", "kept"),
    [
        (boxes_of(), [], []),
        (boxes_of((0, 0, 10, 10)), [0.1], [0]),
        (boxes_of((0, 0, 10, 10), (20, 0, 30, 10)), [0.5, 0.6], [1, 0]),
        (boxes_of((0, 0, 10, 10), (1, 0, 11, 10)), [0.5, 0.6], [1]),
        (boxes_of((0, 0, 10, 10), (0, 0, 10, 10)), [0.5, 0.5], [0]),
        # The middle one is dropped for the first, so it cannot take the third along.
        (boxes_of((0, 0, 10, 10), (4, 0, 14, 10), (8, 0, 18, 10)), [0.9, 0.8, 0.7], [0, 2]),
        (boxes_of((5, 5, 5, 5), (5, 5, 5, 5)), [0.5, 0.6], [1, 0]),
    ],
    ids=["none", "one", "apart", "overlapping", "tie", "chain", "points"],
)
def test_nms(boxes: Boxes, scores: list[float], kept: list[int]) -> None:
    found = nms(boxes, np.array(scores, np.float32), 0.3)
    assert found.tolist() == kept
    assert found.dtype == np.intp  # an index, even when empty


@given(some_boxes, st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_clusters_share_out_all_boxes(boxes: Boxes, seed: int, most: float) -> None:
    scores = np.random.default_rng(seed).random(len(boxes), np.float32)
    found = clusters(boxes, scores, most)
    assert sorted(i for cluster in found for i in cluster) == list(range(len(boxes)))
    first = [cluster[0] for cluster in found]
    assert (np.diff(scores[first]) <= 0).all()
    for cluster in found:
        assert (np.diff(scores[cluster]) <= 0).all()
        assert (iou(boxes[cluster[:1]], boxes[cluster]) > most).all()
    overlap = iou(boxes[first], boxes[first])
    assert (overlap[~np.eye(len(first), dtype=bool)] <= most).all()
    assert nms(boxes, scores, most).tolist() == first

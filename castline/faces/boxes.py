"""Arithmetic on boxes: x1 y1 x2 y2, one row a box, in whatever unit the caller has."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["clusters", "iou", "nms"]


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of every box of `a` with every box of `b`: (N, 4) and (M, 4) to (N, M) float32.

    Boxes without area overlap nothing, not even themselves.

    >>> iou(np.array([[0, 0, 2, 2]], np.float32), np.array([[1, 0, 3, 2], [5, 5, 6, 6]], np.float32)).round(3).tolist()
    [[0.3330000042915344, 0.0]]
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared: NDArray[np.float32] = np.clip(high - low, 0, None).prod(-1)  # (N, M)
    union = _area(a)[:, None] + _area(b)[None, :] - shared
    share = np.zeros(shared.shape, np.float32)
    np.divide(shared, union, out=share, where=union > 0, casting="same_kind")
    return share


def clusters(boxes: NDArray[np.float32], scores: NDArray[np.float32], max_overlap: float) -> list[NDArray[np.intp]]:
    """Boxes that compete for one face, best cluster first and in each the best box first.

    boxes: (N, 4); scores: (N,). Each index of 0..N-1 is in exactly one of the arrays. A cluster is the best box that
    is left, and all that is left and overlaps it by more than `max_overlap`.

    The first of each cluster is what greedy non-maximum suppression keeps (`nms`); MediaPipe averages the cluster.
    """
    left = np.argsort(-scores, kind="stable")
    found = []
    while len(left):
        near = iou(boxes[left[:1]], boxes[left])[0] > max_overlap
        near[0] = True
        found.append(left[near])
        left = left[~near]
    return found


def nms(boxes: NDArray[np.float32], scores: NDArray[np.float32], max_overlap: float) -> NDArray[np.intp]:
    """Greedy non-maximum suppression: the indices of the boxes to keep, best score first.

    boxes: (N, 4); scores: (N,). No two of the kept boxes overlap by more than `max_overlap`.

    >>> boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]], np.float32)
    >>> nms(boxes, np.array([0.7, 0.8, 0.9], np.float32), 0.3).tolist()
    [2, 1]
    """
    return np.array([cluster[0] for cluster in clusters(boxes, scores, max_overlap)], np.intp)


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    area: NDArray[np.float32] = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1)
    return area

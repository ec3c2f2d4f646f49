"""Which boxes are of one face: those of the labellers among themselves, and with what the detector found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from castline.faces.boxes import iou
from castline.labels.export import Box

__all__ = ["Unit", "pairs", "units"]


@dataclass
class Unit:
    """A face. bounds: as in Box, of the detector, or of the labeller who drew it first. face: its number, None where
    the detector found nothing. drawn: the box of each labeller who drew one.
    """

    bounds: tuple[float, ...]
    face: int | None = None
    drawn: dict[int, Box] = field(default_factory=dict)


def pairs(overlap: NDArray[np.float32], least: float) -> list[tuple[int, int]]:
    """Rows and columns matched one to one, those that overlap most first, down to `least`.

    overlap: (N, M), intersection over union.

    >>> pairs(np.array([[0.5, 0.9], [0.4, 0.8]], np.float32), 0.3)
    [(0, 1), (1, 0)]
    """
    rows, columns = np.nonzero(overlap >= least)
    found: list[tuple[int, int]] = []
    for place in np.argsort(-overlap[rows, columns], kind="stable"):
        row, column = int(rows[place]), int(columns[place])
        if all(row != r and column != c for r, c in found):
            found.append((row, column))
    return found


def units(faces: NDArray[np.float32], labelled: Mapping[int, Sequence[Box]], min_iou: float) -> tuple[list[Unit], int]:
    """The faces of a photo: first those that the detector found, then those that only people boxed; and how many boxes
    were a second one of the same labeller on the same face.

    faces: (N, 4), x1 y1 x2 y2 as shares of the photo. labelled: each labeller's boxes. A labeller who boxes a face
    twice under two names has said nothing of whose it is.
    """
    found = [Unit(tuple(bounds), number) for number, bounds in enumerate(faces.tolist())]
    twice = 0
    for labeller in sorted(labelled):
        boxes = labelled[labeller]
        overlap = iou(_array([box.bounds for box in boxes]), _array([unit.bounds for unit in found]))
        matched = dict(pairs(overlap, min_iou))
        for number, box in enumerate(boxes):
            if number in matched:
                found[matched[number]].drawn[labeller] = box
        for number, box in enumerate(boxes):
            if number in matched:
                continue
            known = [(float(overlap[number, place]), place) for place in set(matched.values())]
            best, place = max(known, default=(0.0, 0))
            if best < min_iou:
                found.append(Unit(box.bounds, drawn={labeller: box}))
                continue
            twice += 1
            if (first := found[place].drawn[labeller]).name != box.name:
                found[place].drawn[labeller] = Box(first.bounds, "", first.size)
    return found, twice


def _array(bounds: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    return np.array(bounds, np.float32).reshape(-1, 4)

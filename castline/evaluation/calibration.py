"""Confidence that means what it says: of faces named with 92 %, 92 in 100 are named right."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castline.evaluation.measures import wilson_interval
from castline.scoring import softmax

__all__ = ["Bin", "Reliability", "fit_temperature", "reliability"]

_BINS = 15
# How far from 1 a temperature may be expected before anything is seen, as a factor (one standard deviation of its
# logarithm): with few validation faces, all named right, nothing else would stop it from falling to 0.
_PRIOR = np.log(2.0)


@dataclass(frozen=True)
class Bin:
    """Faces of about the same confidence: how many, their mean confidence, and the share that is named right."""

    count: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Reliability:
    """Confidence held against the truth. ece: expected calibration error, the mean distance of confidence and accuracy
    over 15 bins of equal width, weighted by faces (Guo et al., On calibration of modern neural networks, 2017)."""

    ece: float
    bins: tuple[Bin, ...]


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.integer]) -> float:
    """The temperature at which the scores of validation faces are likeliest; 1 without any.

    logits: (N, P) float32. truth: (N,) the right person's place. One number for all people: who comes first stays the
    same, so accuracy does. Source: Guo et al., 2017; here with a prior that keeps it near 1 where little was seen.
    """
    if not len(truth):
        return 1.0

    def cost(log_temperature: float) -> float:
        scores = softmax(logits.astype(np.float32), float(np.exp(log_temperature)))
        likelihood = np.log(np.maximum(scores[np.arange(len(truth)), truth], 1e-12)).sum(dtype=np.float64)
        return float((log_temperature / _PRIOR) ** 2 / 2 - likelihood)

    low, high = np.log(0.05), np.log(20.0)
    for _ in range(4):  # a grid, and a finer one around its best: the cost has a single valley
        grid = np.linspace(low, high, 25)
        best = int(np.argmin([cost(value) for value in grid]))
        low, high = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
    return round(float(np.exp((low + high) / 2)), 4)


def reliability(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> Reliability:
    """confidence: (N,) of the name that was given. right: (N,) whether it is the right one."""
    number = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    bins, ece = [], 0.0
    for i in np.unique(number):
        inside = number == i
        count, hits = int(inside.sum()), int(right[inside].sum())
        mean = float(confidence[inside].mean(dtype=np.float64))
        bins.append(Bin(count, mean, hits / count, wilson_interval(hits, count)))
        ece += count / len(right) * abs(mean - hits / count)
    return Reliability(ece, tuple(bins))

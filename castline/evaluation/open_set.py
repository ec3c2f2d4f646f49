"""Saying "unknown": how many of the cast are still named when strangers are to be named at a chosen rate at most.

A face is named when its statistic (the similarity to the nearest person, or the confidence) reaches a threshold.
FPIR, the false-positive identification rate, is the share of strangers' faces that reach it; TPIR, also called DIR, the
share of the cast's test faces that reach it and are named right (ISO/IEC 19795-1; NIST FRTE 1:N).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEW_PEOPLE", "FPIRS", "Impostors", "OpenSet", "OperatingPoint", "needed_faces", "open_set"]

# What open-set papers and NIST FRTE quote.
FPIRS = (0.1, 0.01, 0.001)
# Faces of one person are alike: a rate over fewer people than this is that of those few.
FEW_PEOPLE = 10
_RESAMPLES = 500
# Thresholds are kept to six digits; the last one is raised, so that nobody passes who did not.
_STEP = 1e-6


@dataclass(frozen=True, eq=False)
class Impostors:
    """Faces of people that the model does not know, as it sees them.

    statistic: (M,) float, how well each face passes for somebody of the cast. people: M names, whose each is.
    source: where they come from, in words.
    """

    statistic: NDArray[np.floating]
    people: Sequence[str]
    source: str = ""

    @property
    def count(self) -> int:
        """How many people they are."""
        return len(set(self.people))


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold for one FPIR, and what it costs the cast.

    fpir: asked for. threshold: named is what reaches it. tpir: share of the cast's test faces that are named right.
    measured_fpir: on impostors that the threshold was not fitted to: fitted to half of the people, measured on the
    other half, and the other way round; None where half is too few. All None, and `refusal` says how many are needed,
    where there are too few impostors to say.
    """

    fpir: float
    threshold: float | None = None
    tpir: float | None = None
    measured_fpir: float | None = None
    refusal: str = ""


@dataclass(frozen=True, eq=False)
class OpenSet:
    """How one statistic tells the cast from strangers.

    statistic: (N,) float, of the cast's faces. right: (N,), named right if they are named. people: N, whose they are.
    points: one for each FPIR that was asked for. fpir, tpir: (T,) float64, the curve, strictest threshold first.
    """

    statistic: NDArray[np.floating]
    right: NDArray[np.bool_]
    people: Sequence[str]
    impostors: Impostors
    points: tuple[OperatingPoint, ...]
    fpir: NDArray[np.float64]
    tpir: NDArray[np.float64]

    def at(self, fpir: float) -> OperatingPoint:
        """The point for an FPIR that was asked for."""
        return next(point for point in self.points if point.fpir == fpir)

    def interval(self, fpir: float) -> tuple[float, float] | None:
        """Where the TPIR at an FPIR that was asked for lies in 95 of 100 samples of other people, strangers and cast
        alike, drawn from these (the bootstrap over people); None where there is none."""
        if self.at(fpir).tpir is None:
            return None
        highest, so_far, faces = self._samples
        allowed = np.maximum(np.floor(fpir * (so_far[:, -1:] + 1) + 1e-9), 1)
        thresholds = highest[(so_far < allowed).sum(1)]  # (R,)
        named = self.right & (self.statistic > thresholds[:, None])
        low, high = np.percentile((faces * named).sum(1) / faces.sum(1), [2.5, 97.5])
        return float(low), float(high)

    @cached_property
    def _samples(self) -> tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.int64]]:
        """The impostors' statistic, highest first, (M,); how many faces each of R samples has of the first 1, 2 ... M
        of them, (R, M); and how often it has each of the cast's, (R, N)."""
        random = np.random.default_rng(0)
        order = np.argsort(-self.impostors.statistic, kind="stable")
        drawn = _drawn(self.impostors.people, random)[:, order]
        return self.impostors.statistic[order], np.cumsum(drawn, axis=1), _drawn(self.people, random)


def needed_faces(fpir: float) -> int:
    """How many impostor faces it takes to fit a threshold to `fpir`.

    Of n faces and a new one of the same kind, each is as likely to have the highest statistic, so above the highest of
    n there is a new one at a rate of 1 / (n + 1). With fewer, no threshold that was seen holds the rate. Source: split
    conformal prediction, Vovk et al., Algorithmic learning in a random world, 2005.

    >>> needed_faces(0.01)
    99
    """
    return math.ceil(1 / fpir - 1e-9) - 1


def open_set(
    statistic: NDArray[np.floating],
    right: NDArray[np.bool_],
    people: Sequence[str],
    impostors: Impostors,
    fpirs: Sequence[float] = FPIRS,
) -> OpenSet:
    """Thresholds fitted to `impostors`, and what they do to the cast's test faces.

    statistic: (N,) float, of the cast's faces. right: (N,), named right if they are named. people: N, whose they are.
    """
    # In double precision, as a device compares: in single, a threshold may be rounded onto a face that it excludes.
    statistic = statistic.astype(np.float64)
    impostors = replace(impostors, statistic=impostors.statistic.astype(np.float64))
    fpir, tpir = _curve(statistic, right, impostors.statistic)
    return OpenSet(
        statistic=statistic,
        right=right,
        people=people,
        impostors=impostors,
        points=tuple(_point(rate, statistic, right, impostors) for rate in dict.fromkeys(fpirs)),
        fpir=fpir,
        tpir=tpir,
    )


def _point(
    rate: float,
    statistic: NDArray[np.floating],
    right: NDArray[np.bool_],
    impostors: Impostors,
) -> OperatingPoint:
    threshold = _threshold(impostors.statistic, rate)
    if threshold is None or impostors.count < FEW_PEOPLE:
        have = f"{len(impostors.statistic):,} faces of {impostors.count:,}"
        return OperatingPoint(
            rate,
            refusal=f"an FPIR of {rate:g} needs {needed_faces(rate):,} faces of {FEW_PEOPLE} people at least "
            f"that the model does not know; there are {have}",
        )
    named = right & (statistic >= threshold)
    return OperatingPoint(
        rate,
        threshold,
        float(named.mean()) if len(named) else None,
        _measured(rate, impostors),
    )


def _threshold(impostors: NDArray[np.floating], rate: float) -> float | None:
    """The lowest threshold that a new impostor reaches at `rate` at most; None with too few to say."""
    allowed = math.floor(rate * (len(impostors) + 1) + 1e-9)
    if allowed < 1:
        return None
    highest = float(np.partition(impostors, len(impostors) - allowed)[len(impostors) - allowed])
    return round((math.floor(highest / _STEP) + 1) * _STEP, 6)


def _measured(rate: float, impostors: Impostors) -> float | None:
    names = np.array(impostors.people)
    order = sorted(set(impostors.people), key=lambda name: hashlib.sha256(name.encode()).digest())
    half = np.isin(names, order[::2])
    passed = 0
    for fitted, other in ((half, ~half), (~half, half)):
        threshold = _threshold(impostors.statistic[fitted], rate)
        if threshold is None:
            return None
        passed += int((impostors.statistic[other] >= threshold).sum())
    return passed / len(names)


def _drawn(people: Sequence[str], random: np.random.Generator) -> NDArray[np.int64]:
    """How often each of N faces is in each of R samples, as many people drawn again and again: (R, N)."""
    names, own = np.unique(np.array(people), return_inverse=True)
    chances = np.full(len(names), 1 / len(names))
    counts: NDArray[np.int64] = random.multinomial(len(names), chances, size=_RESAMPLES)[:, own]
    return counts


def _curve(
    statistic: NDArray[np.floating], right: NDArray[np.bool_], impostors: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FPIR and TPIR at each threshold that an impostor sets, strictest first; ends at an FPIR of 1."""
    if not len(impostors) or not len(statistic):
        return np.zeros(0), np.zeros(0)
    thresholds = np.sort(impostors)[::-1]
    fpir = np.arange(len(thresholds)) / len(thresholds)
    named = np.sort(statistic[right])
    tpir = (len(named) - np.searchsorted(named, thresholds, side="right")) / len(statistic)
    return np.append(fpir, 1.0), np.append(tpir, len(named) / len(statistic))

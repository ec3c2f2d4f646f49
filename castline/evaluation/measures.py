"""How often a model names the right person, and how well its embedding tells people apart.

Pure functions on arrays, and `Evaluation`, which holds all of them for one test split.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castline.errors import DataError

__all__ = [
    "FARS",
    "Evaluation",
    "Funnel",
    "PersonResult",
    "Roc",
    "TarAtFar",
    "confusion_matrix",
    "most_confused",
    "per_person",
    "top_k_accuracy",
    "truth_ranks",
    "verification_roc",
    "wilson_interval",
]

# The false accept rates that face recognition papers and NIST FRTE quote.
FARS = (0.1, 0.01, 0.001)

# With 30 errors seen, the true rate is within 30 % of the measured one at 90 % confidence. Doddington et al.,
# The NIST speaker recognition evaluation, 2000; ISO/IEC 19795-1 calls it the rule of 30.
RULE_OF_30 = 30

# Cosines are counted in steps of 0.0001, so that memory does not grow with the number of pairs.
_BINS = 20_000
_BLOCK = 256  # rows of the cosine matrix at a time: about 60 MB for 30,000 faces


def truth_ranks(truth: NDArray[np.integer], scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """How many people come before the right one, for each face: (N,) int64, 0 is best.

    truth: (N,) int, index of the right person. scores: (N, P) float, larger is likelier.
    Of equal scores the person listed first wins, as in argmax.

    >>> truth_ranks(np.array([0, 2]), np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])).tolist()
    [0, 2]
    """
    own = np.take_along_axis(scores, truth[:, None], axis=1)  # (N, 1)
    listed_before = np.arange(scores.shape[1]) < truth[:, None]  # (N, P)
    ranks: NDArray[np.int64] = ((scores > own) | ((scores == own) & listed_before)).sum(1, dtype=np.int64)
    return ranks


def top_k_accuracy(truth: NDArray[np.integer], scores: NDArray[np.floating], k: int = 1) -> float:
    """The share of faces whose right person is among the `k` best scores; NaN when there is no face.

    truth: (N,) int. scores: (N, P) float.

    >>> scores = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])
    >>> top_k_accuracy(np.array([0, 1]), scores), top_k_accuracy(np.array([0, 1]), scores, k=2)
    (0.5, 1.0)
    """
    return float((truth_ranks(truth, scores) < k).mean()) if len(truth) else math.nan


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Where the true proportion lies, with 95 % confidence, when `successes` of `n` trials succeed.

    Unlike the normal interval it stays within 0 and 1 and says something at 0 of n and n of n. The trials are
    taken to be independent; photos of one shoot are not, and for them the interval is too narrow.
    Source: Wilson, Probable inference, the law of succession, and statistical inference, 1927.

    >>> [round(end, 3) for end in wilson_interval(97, 100)]
    [0.915, 0.99]
    """
    if n == 0:
        return 0.0, 1.0
    z2 = 1.959963984540054**2
    p = successes / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At the ends the formula gives exactly 0 and 1, floating point almost.
    return (
        0.0 if successes == 0 else max(0.0, centre - half),
        1.0 if successes == n else min(1.0, centre + half),
    )


def confusion_matrix(truth: NDArray[np.integer], predicted: NDArray[np.integer], n_people: int) -> NDArray[np.int64]:
    """How often each person (row) was given each name (column): (P, P) int64.

    truth, predicted: (N,) int, indices of people.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    cells = truth.astype(np.int64) * n_people + predicted
    return np.bincount(cells, minlength=n_people * n_people).reshape(n_people, n_people).astype(np.int64)


def most_confused(confusion: NDArray[np.int64], limit: int = 10) -> list[tuple[int, int, int]]:
    """The wrong names given most often: (truth, predicted, count), most first, ties in the order of people.

    confusion: (P, P) int, rows are the truth.

    >>> most_confused(np.array([[5, 2, 0], [0, 7, 1], [3, 0, 4]]))
    [(2, 0, 3), (0, 1, 2), (1, 2, 1)]
    """
    rows, columns = np.nonzero(confusion)
    pairs = [(t, p, int(confusion[t, p])) for t, p in zip(rows.tolist(), columns.tolist(), strict=True) if t != p]
    return sorted(pairs, key=lambda pair: -pair[2])[:limit]


@dataclass(frozen=True)
class PersonResult:
    """How one person fared in the test split.

    n: test faces of this person; correct: how many of them were named right.
    recall: correct / n, None without a test face; interval: its 95 % Wilson interval.
    precision: of the faces given this name, the share that is this person; None when it was never given.
    confused_with: the wrong name that this person's faces got most often, or ""; confused: how often.
    """

    person: str
    n: int
    correct: int
    recall: float | None
    interval: tuple[float, float]
    precision: float | None
    confused_with: str
    confused: int


def per_person(people: Sequence[str], confusion: NDArray[np.int64]) -> list[PersonResult]:
    """A result for each of `people`, in their order.

    confusion: (P, P) int, rows are the truth, in the order of `people`.

    >>> anna, _ = per_person(["anna", "ben"], np.array([[3, 1], [0, 4]]))
    >>> anna.recall, anna.precision, anna.confused_with
    (0.75, 1.0, 'ben')
    """
    named = confusion.sum(0)
    results = []
    for index, person in enumerate(people):
        n, correct, given = int(confusion[index].sum()), int(confusion[index, index]), int(named[index])
        wrong = confusion[index].copy()
        wrong[index] = 0
        other = int(wrong.argmax())
        results.append(
            PersonResult(
                person=person,
                n=n,
                correct=correct,
                recall=correct / n if n else None,
                interval=wilson_interval(correct, n),
                precision=correct / given if given else None,
                confused_with=people[other] if wrong[other] else "",
                confused=int(wrong[other]),
            )
        )
    return results


@dataclass(frozen=True)
class TarAtFar:
    """The true accept rate at a threshold that lets at most `far` of the impostor pairs through.

    tar, threshold (cosine): None with too few pairs to say; `refusal` then tells how many are needed.
    """

    far: float
    tar: float | None
    threshold: float | None
    refusal: str = ""


@dataclass(frozen=True, eq=False)
class Roc:
    """Verification: is this probe the same person as that one? One point a threshold, strictest first.

    thresholds: (T,) float64, cosine; a pair at or above it is accepted; the first is infinity: nobody is.
    far: (T,) float64, share of impostor pairs (two people) accepted, from 0 up to 1.
    tar: (T,) float64, share of genuine pairs (one person) accepted, from 0 up to 1; NaN without such pairs.
    genuine, impostor: how many pairs there were.
    """

    thresholds: NDArray[np.float64]
    far: NDArray[np.float64]
    tar: NDArray[np.float64]
    genuine: int
    impostor: int

    @property
    def auc(self) -> float | None:
        """The chance that a genuine pair looks more alike than an impostor pair, ties counting half.

        None without pairs of both kinds.
        """
        return float(np.trapezoid(self.tar, self.far)) if self.genuine and self.impostor else None

    def at(self, far: float) -> TarAtFar:
        """The TAR at a wanted FAR; refused below the rule of 30: 30 / far impostor pairs, 30 genuine ones."""
        needed = math.ceil(RULE_OF_30 / far - 1e-9)
        if self.impostor < needed or self.genuine < RULE_OF_30:
            return TarAtFar(
                far,
                None,
                None,
                f"needs {needed:,} pairs of different people and {RULE_OF_30} pairs of the same person; "
                f"the test faces make {self.impostor:,} and {self.genuine:,}",
            )
        index = int(np.searchsorted(self.far, far, side="right")) - 1
        return TarAtFar(far, float(self.tar[index]), float(self.thresholds[index]))

    def sampled(self, points: int = 200) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The curve at `points` rates, evenly spaced in log FAR from one impostor pair up to all: far, tar.

        Two (points,) float64 arrays; empty without pairs of both kinds. This is for drawing: the curve itself
        may have 20,000 points.
        """
        if not self.genuine or not self.impostor:
            return np.zeros(0), np.zeros(0)
        far = np.geomspace(1 / self.impostor, 1.0, points).astype(np.float64)
        far[-1] = 1.0
        return far, self.tar[np.searchsorted(self.far, far * (1 + 1e-12), side="right") - 1]


def verification_roc(truth: NDArray[np.integer], embeddings: NDArray[np.float32]) -> Roc:
    """The verification ROC over every pair of faces, genuine and impostor.

    truth: (N,) int, index of the person. embeddings: (N, D) float32, L2-normalised.
    All N (N - 1) / 2 cosines are counted, in steps of 0.0001 and a block of rows at a time: no sampling,
    memory linear in N, time quadratic (10,000 faces of 128 numbers: one second on one core).

    >>> faces = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    >>> roc = verification_roc(np.array([0, 0, 1]), faces)
    >>> roc.genuine, roc.impostor, roc.auc
    (1, 2, 1.0)
    """
    counts = np.zeros(2 * _BINS + 1, np.int64)  # impostor bins, genuine bins, and one for what is not a pair
    for start in range(0, len(truth), _BLOCK):
        rows = slice(start, start + _BLOCK)
        cosines = embeddings[rows] @ embeddings[start:].T  # (B, N - start)
        bins = np.clip((cosines + 1) * (_BINS / 2), 0, _BINS - 1).astype(np.int64)
        bins += _BINS * (truth[rows, None] == truth[None, start:])
        bins[np.tril_indices(len(bins), m=bins.shape[1])] = 2 * _BINS
        counts += np.bincount(bins.ravel(), minlength=len(counts))
    impostor, genuine = counts[:_BINS][::-1], counts[_BINS:-1][::-1]  # strictest first
    occupied = np.flatnonzero(impostor + genuine)
    n_impostor, n_genuine = int(impostor.sum()), int(genuine.sum())
    edges = 1 - (np.arange(_BINS) + 1) * (2 / _BINS)
    return Roc(
        thresholds=np.concatenate([[np.inf], edges[occupied]]),
        far=_rates(impostor[occupied], n_impostor),
        tar=_rates(genuine[occupied], n_genuine),
        genuine=n_genuine,
        impostor=n_impostor,
    )


def _rates(counts: NDArray[np.int64], total: int) -> NDArray[np.float64]:
    """Running shares from 0 to 1: (T + 1,) for (T,) counts; NaN when the total is 0."""
    running = np.concatenate([[0], np.cumsum(counts)])
    return running / total if total else np.full(len(running), np.nan)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All that is measured of one model on one test split; each measure is computed once, when asked for.

    people: P names, the order of the columns of `scores`.
    truth: (N,) int, index of the right person of each test face.
    scores: (N, P) float32, larger is likelier.
    embeddings: (N, D) float32, L2-normalised.

    Raises: DataError without a test face or when the model's output is not finite; ValueError for arrays that
    do not fit together.
    """

    people: Sequence[str]
    truth: NDArray[np.integer]
    scores: NDArray[np.float32]
    embeddings: NDArray[np.float32]

    def __post_init__(self) -> None:
        n, p = len(self.truth), len(self.people)
        if self.scores.shape != (n, p) or self.embeddings.ndim != 2 or len(self.embeddings) != n:
            raise ValueError(
                f"{n} test faces of {p} people, but scores {self.scores.shape}, embeddings {self.embeddings.shape}"
            )
        if not n:
            raise DataError(
                "no test face: nothing can be measured",
                "add photos, or make the test part of the split larger, and run `dvc repro`",
            )
        if self.truth.min() < 0 or self.truth.max() >= p:
            raise ValueError(f"truth runs from {self.truth.min()} to {self.truth.max()}, but there are {p} people")
        if not (np.isfinite(self.scores).all() and np.isfinite(self.embeddings).all()):
            raise DataError(
                "the model's scores or embeddings are not finite",
                "train again with a smaller learning rate",
            )
        if np.abs(np.linalg.norm(self.embeddings, axis=1) - 1).max() > 1e-2:
            raise ValueError("embeddings are not L2-normalised")

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The name given to each test face: (N,) int64, index of a person."""
        predicted: NDArray[np.int64] = self.scores.argmax(1)
        return predicted

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """How many people came before the right one: (N,) int64, 0 is best."""
        return truth_ranks(self.truth, self.scores)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """(P, P) int64, rows are the truth, columns the names given."""
        return confusion_matrix(self.truth, self.predicted, len(self.people))

    @cached_property
    def persons(self) -> list[PersonResult]:
        """One result a person, in the order of `people`."""
        return per_person(self.people, self.confusion)

    @cached_property
    def roc(self) -> Roc:
        """Verification over all pairs of test faces."""
        return verification_roc(self.truth, self.embeddings)

    @property
    def n(self) -> int:
        """How many test faces."""
        return len(self.truth)

    @property
    def correct(self) -> int:
        """How many of them are named right."""
        return int((self.ranks == 0).sum())

    @property
    def k(self) -> int:
        """The k of top-k: 5, or all people when there are fewer."""
        return min(5, len(self.people))

    def top(self, k: int) -> float:
        """The share of faces whose right name is among the first `k`."""
        return float((self.ranks < k).mean())

    @property
    def worst(self) -> list[PersonResult]:
        """The people with test faces, lowest recall first, then most test faces, then by name."""
        tested = [person for person in self.persons if person.recall is not None]
        return sorted(tested, key=lambda person: (person.recall, -person.n, person.person))

    def mistakes(self, limit: int | None = None) -> list[int]:
        """Which test faces are named wrong, the surest mistake first: indices into `truth`."""
        wrong = np.flatnonzero(self.ranks > 0)
        order = np.argsort(-self.scores.max(1)[wrong], kind="stable")
        return [int(index) for index in wrong[order][:limit]]

    def metrics(self) -> dict[str, float | int]:
        """What `dvc metrics show` prints: flat, JSON-ready, rounded to four digits so that diffs stay quiet.

        `top5` is `top3` with three people. `auc` and `tar_at_far_*` are left out with too few pairs to say.
        """
        low, high = wilson_interval(self.correct, self.n)
        recalls = [person.recall for person in self.worst if person.recall is not None]
        numbers = {
            "top1": self.top(1),
            "top1_low": low,
            "top1_high": high,
            f"top{self.k}": self.top(self.k),
            "mean_person_recall": sum(recalls) / len(recalls),
            "worst_person_recall": recalls[0],
        }
        if self.roc.auc is not None:
            numbers["auc"] = self.roc.auc
        for far in FARS:
            if (tar := self.roc.at(far).tar) is not None:
                numbers[f"tar_at_far_1e{round(math.log10(far))}"] = tar
        return {"n_test": self.n, "n_people": len(self.people)} | {
            key: round(value, 4) for key, value in numbers.items()
        }


@dataclass(frozen=True)
class Funnel:
    """What became of the photos. Nothing may be lost on the way: the counts have to add up.

    photos: files that came in. rejected: photos that gave no face to use, by reason.
    faces: faces found in the other photos. left_out: faces that were set aside, by reason.
    splits: the faces that were kept, by what they are for: train, val, test, and whatever else there is.

    Raises: ValueError when the counts do not add up.
    """

    photos: int
    rejected: Mapping[str, int]
    faces: int
    left_out: Mapping[str, int]
    splits: Mapping[str, int]

    def __post_init__(self) -> None:
        if self.readable < 0 or (self.faces > 0 and self.readable == 0):
            raise ValueError(
                f"{sum(self.rejected.values())} of {self.photos} photos rejected, {self.faces} faces found"
            )
        if self.faces != self.kept + sum(self.left_out.values()):
            raise ValueError(
                f"{self.faces} faces found, but {self.kept} kept and {sum(self.left_out.values())} left out"
            )

    @property
    def readable(self) -> int:
        """Photos that gave at least one face."""
        return self.photos - sum(self.rejected.values())

    @property
    def kept(self) -> int:
        """Faces that are used."""
        return sum(self.splits.values())

    def reasons(self) -> Iterator[tuple[str, str, int]]:
        """Why photos and faces are not used: ("photo" or "face", reason, count), most first."""
        for kind, counts in (("photo", self.rejected), ("face", self.left_out)):
            for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
                if count:
                    yield kind, reason, count

    def metrics(self) -> dict[str, Any]:
        """The same, JSON-ready, for `dvc metrics show`; `Funnel(**metrics)` is the funnel again."""
        return {
            "photos": self.photos,
            "faces": self.faces,
            "splits": dict(self.splits),
            "rejected": dict(sorted(self.rejected.items())),
            "left_out": dict(sorted(self.left_out.items())),
        }

"""One model, or one exported file of it, on the faces that a memory holds: whom it names, how sure, and when not."""

# PyTorch's features and what each file makes of the same faces are columns of one table, so all are measured alike.

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from castline.evaluation.calibration import Reliability, fit_temperature, reliability
from castline.evaluation.open_set import FEW_PEOPLE, FPIRS, Impostors, OpenSet, needed_faces, open_set
from castline.evaluation.settings import OpenSetSettings
from castline.files import tables
from castline.scoring import Scorer, softmax

__all__ = ["Identification"]

_WHO = ["person", "stranger", "split"]


@dataclass(frozen=True, eq=False)
class Identification:
    """What is made of N faces of the cast and of strangers.

    rows: (N,) int64, their rows in the memory. raw: (N, D) float32, raw embeddings. who: N names. split: N sides, "" of
    strangers. truth: (N,) int64, place of the right person in the scores; -1 of strangers. folds: heads that do not
    know their share of the people. frozen: the base model was not trained on these people, so that people whom a
    gallery or a head lacks are strangers to it.
    """

    scorer: Scorer
    rows: NDArray[np.int64]
    raw: NDArray[np.float32]
    who: Sequence[str]
    split: NDArray[np.str_]
    truth: NDArray[np.int64]
    folds: Sequence[Scorer]
    frozen: bool
    settings: OpenSetSettings

    @classmethod
    def of(
        cls,
        memory: pa.Table,
        scorer: Scorer,
        settings: OpenSetSettings,
        folds: Sequence[Scorer] = (),
        frozen: bool = True,
        column: str = "feature",
        among: str = "",
    ) -> "Identification":
        """column: of the memory, whose raw embeddings these are. among: another column; faces that have none there are
        left out, so that two columns are measured on the same faces."""
        kept = memory.column("kept").to_numpy(zero_copy_only=False).astype(bool)
        for name in filter(None, (column, among)):
            kept &= np.asarray(memory.column(name).is_valid())
        rows = np.flatnonzero(kept)
        chosen = memory.take(pa.array(rows))
        place = {person: i for i, person in enumerate(scorer.people)}
        who = chosen.select(_WHO).to_pylist()
        return cls(
            scorer=scorer,
            rows=rows,
            raw=tables.matrix(chosen, column),
            who=[row["person"] for row in who],
            split=np.array([row["split"] or "" for row in who], np.str_),
            truth=np.array([-1 if row["stranger"] else place[row["person"]] for row in who], np.int64),
            folds=folds,
            frozen=frozen,
            settings=settings,
        )

    @cached_property
    def test(self) -> NDArray[np.int64]:
        """Which of the N are tested on."""
        return np.flatnonzero((self.split == "test") & (self.truth >= 0))

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """(N, P)."""
        return self.scorer.logits(self.raw)

    @cached_property
    def temperature(self) -> float:
        """Fitted on the validation faces."""
        val = np.flatnonzero((self.split == "val") & (self.truth >= 0))
        return fit_temperature(self.logits[val], self.truth[val])

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """(N, P), calibrated."""
        return softmax(self.logits, self.temperature)

    @cached_property
    def similarities(self) -> NDArray[np.float32]:
        """(N, P)."""
        return self.scorer.similarities(self.raw)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """(N,): whose most likely name is the right one."""
        found: NDArray[np.bool_] = self.logits.argmax(1) == self.truth
        return found

    @property
    def top1(self) -> float:
        """Share of test faces that are named right, of those that are somebody's."""
        return float(self.right[self.test].mean())

    def reliability(self, temperature: float) -> Reliability:
        """Of the test faces' confidence, at a temperature."""
        scores = softmax(self.logits[self.test], temperature)
        return reliability(scores.max(1), self.right[self.test])

    @cached_property
    def by_similarity(self) -> OpenSet:
        """With the similarity to the nearest person held against the threshold."""
        return self._open_set(self.similarities.max(1), self._left_out_similarity())

    @cached_property
    def by_confidence(self) -> OpenSet:
        """With the confidence held against the threshold."""
        return self._open_set(self.scores.max(1), self._left_out_confidence())

    @property
    def statistic(self) -> NDArray[np.float64]:
        """(N,): what is held against the threshold."""
        by_similarity = self.settings.by == "similarity"
        found: NDArray[np.float64] = (self.similarities if by_similarity else self.scores).max(1).astype(np.float64)
        return found

    @property
    def chosen(self) -> OpenSet:
        """The one of the two that decides."""
        return self.by_similarity if self.settings.by == "similarity" else self.by_confidence

    def metrics(self) -> dict[str, float | int]:
        """For `dvc metrics show`: what is known of it, rounded to four digits."""
        numbers: dict[str, float | int] = {"temperature": self.temperature}
        numbers["ece_before"] = self.reliability(1.0).ece
        numbers["ece"] = self.reliability(self.temperature).ece
        for by, found in (("similarity", self.by_similarity), ("confidence", self.by_confidence)):
            for point in found.points:
                if point.tpir is not None:
                    numbers[f"tpir_at_fpir_{point.fpir:g}_by_{by}"] = point.tpir
        return {key: round(value, 4) for key, value in numbers.items()}

    def _open_set(self, statistic: NDArray[np.float32], left_out: NDArray[np.float32]) -> OpenSet:
        """left_out: (N,) the statistic of each of the cast if nobody knew them, NaN where that cannot be said."""
        strangers = np.flatnonzero(self.truth < 0)
        people = {self.who[i] for i in strangers}
        impostors, source = strangers, f"{len(strangers):,} faces of {len(people):,} people in _strangers"
        values = statistic.copy()
        if len(strangers) < needed_faces(self.settings.fpir) or len(people) < FEW_PEOPLE:
            others = np.flatnonzero((self.truth >= 0) & np.isfinite(left_out))
            values[others] = left_out[others]
            impostors = np.concatenate([strangers, others])
            source += f", {len(others):,} faces of the cast, each compared with everybody else"
            if not self.frozen:
                source += " (none: the base model was tuned on them)"
        return open_set(
            statistic[self.test],
            self.right[self.test],
            [self.who[i] for i in self.test],
            Impostors(values[impostors], [f"{self.truth[i] < 0} {self.who[i]}" for i in impostors], source),
            (self.settings.fpir, *FPIRS),
        )

    def _left_out_similarity(self) -> NDArray[np.float32]:
        if not self.frozen:
            return np.full(len(self.truth), np.nan, np.float32)
        others = self.similarities.copy()
        cast = np.flatnonzero(self.truth >= 0)
        others[cast, self.truth[cast]] = -np.inf
        found: NDArray[np.float32] = others.max(1)
        return found

    def _left_out_confidence(self) -> NDArray[np.float32]:
        found = np.full(len(self.truth), np.nan, np.float32)
        for fold in self.folds if self.frozen else ():
            unknown = [i for i in np.flatnonzero(self.truth >= 0) if self.who[i] not in set(fold.people)]
            if unknown:
                found[unknown] = softmax(fold.logits(self.raw[unknown]), self.temperature).max(1)
        return found

"""Thresholds for a chosen FPIR, and confidence as a probability."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castline.evaluation.calibration import fit_temperature, reliability
from castline.evaluation.identification import Identification
from castline.evaluation.open_set import FEW_PEOPLE, Impostors, needed_faces, open_set
from castline.evaluation.settings import OpenSetSettings
from castline.scoring import Scorer, softmax

RIGHT = np.ones(200, bool)


def impostors(count: int, people: int = 50, seed: int = 0) -> Impostors:
    values = np.random.default_rng(seed).normal(0, 1, count).astype(np.float32)
    return Impostors(values, [f"stranger {i % people}" for i in range(count)])


def cast(count: int = 200, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, 1, count).astype(np.float32)


NAMES = [f"person {i % 20}" for i in range(200)]


@given(st.integers(99, 400), st.sampled_from([0.01, 0.05, 0.1]), st.integers(0, 10_000))
def test_no_more_impostors_pass_than_were_asked_for(count: int, fpir: float, seed: int) -> None:
    strangers = impostors(count, seed=seed)
    point = open_set(cast(), RIGHT, NAMES, strangers, [fpir]).at(fpir)
    assert point.threshold is not None and point.tpir is not None
    passed = int((strangers.statistic.astype(float) >= point.threshold).sum())
    # Of n, floor(fpir (n + 1)) are at or above the value that the threshold lies just over; so one fewer pass.
    assert passed == math.floor(fpir * (count + 1) + 1e-9) - 1
    assert point.tpir == pytest.approx(float((cast() >= point.threshold).mean()))


def test_the_rate_holds_for_strangers_who_were_not_there() -> None:
    """Over many draws, the mean rate of new impostors is the one asked for."""
    rates = []
    for seed in range(300):
        point = open_set(cast(), RIGHT, NAMES, impostors(99, 99, seed), [0.05]).at(0.05)
        new = impostors(2000, seed=10_000 + seed).statistic
        rates.append(float((new >= (point.threshold or np.inf)).mean()))
    assert 0.04 < np.mean(rates) < 0.055


@pytest.mark.parametrize(("count", "people"), [(98, 50), (500, FEW_PEOPLE - 1)])
def test_too_few_impostors_are_refused_and_said(count: int, people: int) -> None:
    point = open_set(cast(), RIGHT, NAMES, impostors(count, people), [0.01]).at(0.01)
    assert (point.threshold, point.tpir, point.measured_fpir) == (None, None, None)
    assert point.refusal.startswith("an FPIR of 0.01 needs 99 faces of 10 people at least")
    assert f"there are {count} faces of {people}" in point.refusal


def test_what_is_needed() -> None:
    assert [needed_faces(rate) for rate in (0.1, 0.01, 0.001)] == [9, 99, 999]


def test_the_rate_is_measured_on_people_whom_the_threshold_was_not_fitted_to() -> None:
    found = open_set(cast(), RIGHT, NAMES, impostors(2000, 100), [0.05]).at(0.05).measured_fpir
    assert found is not None and 0.03 < found < 0.07
    # One half passes for the cast, the other never: fitted to either, the other is at 0 or at 1.
    names = [f"stranger {i % 100}" for i in range(2000)]
    first = open_set(cast(), RIGHT, NAMES, impostors(2000, 100), [0.05])
    assert first.impostors.count == len(set(names)) and len(first.impostors.statistic) == 2000


def test_the_curve_starts_at_no_impostor_and_ends_at_all() -> None:
    found = open_set(cast(), np.arange(200) % 10 > 0, NAMES, impostors(300))
    assert found.fpir[0] == 0 and found.fpir[-1] == 1 and np.all(np.diff(found.fpir) >= 0)
    assert found.tpir[-1] == 0.9 and np.all(np.diff(found.tpir) >= 0), "who is named wrong never counts"


def test_an_interval_over_people_is_wider_than_one_person_makes_it() -> None:
    """The same faces as of 4 and of 100 people: with 4, whom one happens to have matters more."""
    strong = np.where(np.arange(200) % 4 == 0, -5, 5).astype(np.float32)  # one of four is never recognised
    widths = []
    for names in ([f"{i % 4}" for i in range(200)], [f"{i}" for i in range(200)]):
        low, high = open_set(strong, RIGHT, names, impostors(500), [0.01]).interval(0.01) or (0, 0)
        assert low <= 0.75 <= high
        widths.append(high - low)
    assert widths[0] > 2 * widths[1] > 0


def test_a_temperature_undoes_scores_that_are_too_sure() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4000, 5)).astype(np.float32)
    truth = np.array([random.choice(5, p=row / row.sum()) for row in softmax(logits).astype(np.float64)])
    for factor in (0.5, 1.0, 3.0):
        assert fit_temperature(factor * logits, truth) == pytest.approx(factor, rel=0.1)
    before = softmax(3 * logits)
    after = softmax(3 * logits, fit_temperature(3 * logits, truth))
    right = logits.argmax(1) == truth
    assert reliability(after.max(1), right).ece < 0.03 < 0.1 < reliability(before.max(1), right).ece


def test_few_faces_do_not_make_a_temperature() -> None:
    assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == 1
    sure = 5 * np.eye(3, dtype=np.float32)
    few, many = (
        fit_temperature(sure, np.arange(3)),
        fit_temperature(np.tile(sure, (500, 1)), np.tile(np.arange(3), 500)),
    )
    assert many < few < 1, "all right: surer, but not after three faces"
    assert few > 0.4


def test_reliability_counts_every_face() -> None:
    found = reliability(np.array([0.5, 0.5, 1.0, 1.0], np.float32), np.array([True, False, True, True]))
    assert [(one.count, one.confidence, one.accuracy) for one in found.bins] == [(2, 0.5, 0.5), (2, 1.0, 1.0)]
    assert found.ece == 0
    assert reliability(np.full(4, 0.9, np.float32), np.zeros(4, bool)).ece == pytest.approx(0.9)


def scorer(people: int = 12, size: int = 16) -> Scorer:
    centres = np.random.default_rng(0).normal(size=(people, size)).astype(np.float32)
    names = tuple(f"person {i:02}" for i in range(people))
    zeros, one = np.zeros(size, np.float32), np.ones(1, np.float32)
    return Scorer(names, {}, zeros, one, centres, np.zeros(people, np.float32), gallery=centres)


def identification(strangers: int, frozen: bool = True, folds: tuple[Scorer, ...] = ()) -> Identification:
    """Ten test faces of each person, and `strangers` faces of as many strangers."""
    model, random = scorer(), np.random.default_rng(1)
    gallery = model.gallery
    assert gallery is not None
    truth = np.concatenate([np.repeat(np.arange(12), 10), np.full(strangers, -1)])
    raw = np.where(truth[:, None] < 0, 0, gallery[truth]) + 0.3 * random.normal(size=(len(truth), 16))
    who = [model.people[person] if person >= 0 else f"stranger {i}" for i, person in enumerate(truth)]
    sides = np.where(truth < 0, "", "test")
    return Identification(
        model, np.arange(len(truth)), raw.astype(np.float32), who, sides, truth, folds, frozen, OpenSetSettings()
    )


def test_strangers_are_enough_where_there_are_enough() -> None:
    found = identification(120).by_similarity
    assert (len(found.impostors.statistic), found.impostors.count) == (120, 120)
    assert found.impostors.source == "120 faces of 120 people in _strangers"


def test_people_are_held_out_in_turn_where_strangers_are_few() -> None:
    few = identification(5)
    assert (len(few.by_similarity.impostors.statistic), few.by_similarity.impostors.count) == (125, 17)
    own = few.similarities[np.arange(120), few.truth[:120]]
    left_out = few._left_out_similarity()[:120]
    assert (own > left_out).mean() > 0.95, "without themselves in the gallery they are like nobody"
    assert len(few.by_confidence.impostors.statistic) == 5, "no head was trained without them"
    point = few.by_similarity.at(0.01)
    assert point.tpir is not None and point.tpir > 0.9


def test_confidence_of_strangers_comes_from_heads_that_do_not_know_them() -> None:
    model = scorer()
    folds = []
    for k in range(3):
        kept = [i for i in range(12) if i % 3 != k]
        gallery = model.weight[kept]
        folds.append(
            Scorer(tuple(model.people[i] for i in kept), {}, model.mean, model.factor, gallery, np.zeros(8, np.float32))
        )
    found = identification(0, folds=tuple(folds)).by_confidence
    assert (len(found.impostors.statistic), found.impostors.count) == (120, 12)


def test_a_tuned_base_model_knows_its_people() -> None:
    found = identification(5, frozen=False).by_similarity
    assert len(found.impostors.statistic) == 5 and "tuned" in found.impostors.source
    assert found.at(0.01).threshold is None

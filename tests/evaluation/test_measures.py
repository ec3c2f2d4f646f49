"""Measures, against hand-counted tables, definitions written the slow way, and invariants."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from castline.errors import DataError
from castline.evaluation.measures import (
    FARS,
    Evaluation,
    Funnel,
    Roc,
    confusion_matrix,
    most_confused,
    per_person,
    top_k_accuracy,
    truth_ranks,
    verification_roc,
    wilson_interval,
)

Arrays = tuple[NDArray[np.int64], NDArray[np.float32]]

# Row by row the right person comes 1st, 2nd, 3rd of three.
TRUTH = np.array([0, 1, 2])
SCORES = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1]], np.float32)


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows of length 1."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def faces(n: int, people: int, noise: float, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """`n` made-up faces: truth (n,) and embeddings (n, 32) around a direction for each person."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, people, n)
    return truth, unit(rng.normal(size=(people, 32))[truth] + noise * rng.normal(size=(n, 32)))


def evaluation(n: int = 60, people: int = 4, noise: float = 1.0) -> Evaluation:
    """A model that knows its people about as well as `noise` lets it."""
    truth, embeddings = faces(n, people, noise)
    centres = unit(np.stack([embeddings[truth == person].sum(0) for person in range(people)]))
    names = ["anna", "ben", "cleo", "dan", "eve", "finn"][:people]
    return Evaluation(names, truth, embeddings @ centres.T, embeddings)


@st.composite
def scored(draw: st.DrawFn) -> Arrays:
    n, p = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    values = draw(st.lists(st.integers(0, 3), min_size=n * p, max_size=n * p))  # few values: many ties
    truth = draw(st.lists(st.integers(0, p - 1), min_size=n, max_size=n))
    return np.array(truth), np.array(values, np.float32).reshape(n, p)


@pytest.mark.parametrize(
    ("truth", "scores", "k", "expected"),
    [
        (np.zeros(0, int), np.zeros((0, 3), np.float32), 1, math.nan),
        (TRUTH, SCORES, 1, 1 / 3),
        (TRUTH, SCORES, 2, 2 / 3),
        (TRUTH, SCORES, 3, 1.0),
        (TRUTH, SCORES, 99, 1.0),
        (np.array([0, 1]), np.ones((2, 2), np.float32), 1, 0.5),  # of equal scores the first listed wins
    ],
)
def test_top_k_accuracy(truth: NDArray[np.int64], scores: Any, k: int, expected: float) -> None:
    assert top_k_accuracy(truth, scores, k) == pytest.approx(expected, nan_ok=True)


@given(scored())
def test_top_k_grows_with_k_and_top_1_is_argmax(case: Arrays) -> None:
    truth, scores = case
    by_k = [top_k_accuracy(truth, scores, k) for k in range(1, scores.shape[1] + 1)]
    assert by_k == sorted(by_k)
    assert by_k[-1] == 1.0
    assert by_k[0] == (scores.argmax(1) == truth).mean()


@given(scored(), st.randoms(use_true_random=False))
def test_the_order_of_faces_does_not_matter(case: Arrays, random: Any) -> None:
    truth, scores = case
    order = list(range(len(truth)))
    random.shuffle(order)
    assert (truth_ranks(truth[order], scores[order]) == truth_ranks(truth, scores)[order]).all()
    predicted, n = scores.argmax(1), scores.shape[1]
    shuffled = confusion_matrix(truth[order], predicted[order], n)
    assert (shuffled == confusion_matrix(truth, predicted, n)).all()


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # the values of Brown, Cai and DasGupta's formula, computed by hand
        (0, 0, 0.0, 1.0),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (97, 100, 0.9155, 0.9897),
    ],
)
def test_wilson_interval(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_proportion_and_narrows(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    wider_low, wider_high = low, high
    low, high = wilson_interval(4 * successes, 4 * n)
    assert high - low < wider_high - wider_low
    mirrored = wilson_interval(n - successes, n)
    assert mirrored == pytest.approx((1 - wider_high, 1 - wider_low))


@pytest.mark.parametrize(
    ("truth", "predicted", "n_people", "expected"),
    [
        ([], [], 2, [[0, 0], [0, 0]]),
        ([0, 0, 1], [0, 1, 1], 2, [[1, 1], [0, 1]]),
        ([2, 2, 2], [0, 0, 2], 3, [[0, 0, 0], [0, 0, 0], [2, 0, 1]]),
    ],
)
def test_confusion_matrix(truth: list[int], predicted: list[int], n_people: int, expected: list[list[int]]) -> None:
    counted = confusion_matrix(np.array(truth, int), np.array(predicted, int), n_people)
    assert counted.tolist() == expected


@given(scored())
def test_confusion_rows_sum_to_the_faces_of_each_person(case: Arrays) -> None:
    truth, scores = case
    n = scores.shape[1]
    confusion = confusion_matrix(truth, scores.argmax(1), n)
    assert confusion.sum(1).tolist() == np.bincount(truth, minlength=n).tolist()
    wrong = sum(count for _, _, count in most_confused(confusion, limit=n * n))
    assert wrong == len(truth) - confusion.trace()


def test_most_confused_is_sorted_and_cut() -> None:
    confusion = np.array([[5, 2, 0], [0, 7, 1], [3, 0, 4]])
    assert most_confused(confusion, limit=2) == [(2, 0, 3), (0, 1, 2)]
    assert most_confused(np.zeros((0, 0), np.int64)) == []


def test_per_person_with_the_untested_and_the_never_named() -> None:
    anna, ben, cleo = per_person(["anna", "ben", "cleo"], np.array([[3, 1, 0], [4, 0, 0], [0, 0, 0]]))
    assert (anna.n, anna.correct, anna.recall, anna.precision) == (4, 3, 0.75, 3 / 7)
    assert (anna.confused_with, anna.confused) == ("ben", 1)
    assert (ben.recall, ben.precision, ben.confused_with, ben.confused) == (0.0, 0.0, "anna", 4)
    assert (cleo.n, cleo.recall, cleo.precision, cleo.confused_with) == (0, None, None, "")
    assert cleo.interval == (0.0, 1.0)
    assert per_person([], np.zeros((0, 0), np.int64)) == []


@pytest.mark.parametrize("n", [0, 1])
def test_roc_without_a_pair_says_nothing(n: int) -> None:
    roc = verification_roc(np.zeros(n, int), unit(np.ones((n, 4))))
    assert (roc.genuine, roc.impostor, roc.auc) == (0, 0, None)
    assert roc.at(0.1).tar is None
    assert [len(column) for column in roc.sampled()] == [0, 0]


def test_roc_of_one_person_only_has_no_impostors() -> None:
    roc = verification_roc(np.zeros(5, int), unit(np.ones((5, 4))))
    assert (roc.genuine, roc.impostor, roc.auc) == (10, 0, None)
    assert np.isnan(roc.far).all()


@pytest.mark.parametrize("n", [2, 40, 255, 256, 257, 600])
def test_roc_is_what_counting_every_pair_gives(n: int) -> None:
    truth, embeddings = faces(n, 3, 1.5)
    roc = verification_roc(truth, embeddings)
    i, j = np.triu_indices(n, 1)
    cosines, same = (embeddings[i] * embeddings[j]).sum(1), truth[i] == truth[j]
    assert (roc.genuine, roc.impostor) == (same.sum(), (~same).sum())
    if roc.auc is None:
        return
    for threshold, far, tar in list(zip(roc.thresholds, roc.far, roc.tar, strict=True))[1::97]:
        # A cosine may fall on either side of a threshold by rounding.
        for measured, kind in ((far, cosines[~same]), (tar, cosines[same])):
            assert (kind >= threshold + 1e-6).mean() <= measured <= (kind >= threshold - 1e-6).mean()
    below, at_most = (np.searchsorted(np.sort(cosines[~same]), cosines[same], side) for side in ("left", "right"))
    assert roc.auc == pytest.approx((below + at_most).mean() / 2 / roc.impostor, abs=1e-3)


@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(2, 5), st.floats(0.1, 5))
def test_roc_is_monotone_from_nobody_to_everybody(seed: int, n: int, people: int, noise: float) -> None:
    truth, embeddings = faces(n, people, noise, seed)
    roc = verification_roc(truth, embeddings)
    assert (np.diff(roc.thresholds) < 0).all()
    for rate in (roc.far, roc.tar):
        if not np.isnan(rate).any():
            assert (rate[0], rate[-1]) == (0.0, 1.0)
            assert (np.diff(rate) >= 0).all()
    far, tar = roc.sampled(50)
    assert (np.diff(far) > 0).all() or roc.impostor <= 1
    assert (np.diff(tar) >= 0).all()


def test_roc_does_not_depend_on_the_order_of_faces() -> None:
    truth, embeddings = faces(300, 4, 1.5)
    order = np.random.default_rng(1).permutation(300)
    one, other = verification_roc(truth, embeddings), verification_roc(truth[order], embeddings[order])
    assert one.auc == pytest.approx(other.auc, abs=1e-5)
    assert one.at(0.01).tar == pytest.approx(other.at(0.01).tar, abs=1e-3)


def test_identical_faces_are_accepted_last_bin_included() -> None:
    roc = verification_roc(np.array([0, 0, 1]), np.array([[1, 0], [1, 0], [-1, 0]], np.float32))
    assert roc.auc == 1.0
    assert roc.tar[1] == 1.0


def test_tar_at_far_never_lets_more_through_than_asked() -> None:
    truth, embeddings = faces(400, 5, 1.5)
    roc = verification_roc(truth, embeddings)
    cosines = embeddings @ embeddings.T
    impostors = cosines[truth[:, None] != truth[None]]
    for far in FARS:
        point = roc.at(far)
        assert point.refusal == ""
        assert point.tar is not None
        assert point.threshold is not None
        assert (impostors >= point.threshold + 1e-6).mean() <= far
    tars = [roc.at(far).tar or 0.0 for far in FARS]
    assert tars == sorted(tars, reverse=True)


@pytest.mark.parametrize(
    ("genuine", "impostor", "answered"),
    [(30, 300, [0.1]), (30, 299, []), (29, 10**6, []), (30, 3000, [0.1, 0.01]), (30, 30_000, [0.1, 0.01, 0.001])],
)
def test_tar_at_far_is_refused_below_the_rule_of_30(genuine: int, impostor: int, answered: list[float]) -> None:
    roc = Roc(np.array([np.inf, 0.5, 0.0]), np.array([0, 0, 1.0]), np.array([0, 0.9, 1.0]), genuine, impostor)
    assert [far for far in FARS if roc.at(far).tar == 0.9] == answered
    for far in set(FARS) - set(answered):
        point = roc.at(far)
        assert point.tar is None
        assert f"needs {round(30 / far):,} pairs" in point.refusal


def test_metrics_are_flat_json_and_rounded() -> None:
    measured = evaluation(n=300, people=6)
    metrics = measured.metrics()
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert list(metrics)[:8] == [
        "n_test",
        "n_people",
        "top1",
        "top1_low",
        "top1_high",
        "top5",
        "mean_person_recall",
        "worst_person_recall",
    ]
    assert metrics["top1_low"] <= metrics["top1"] <= metrics["top1_high"]
    assert metrics["top1"] == round(measured.correct / measured.n, 4)
    assert metrics["top1"] <= metrics["top5"]
    assert metrics["worst_person_recall"] <= metrics["mean_person_recall"]
    assert {"auc", "tar_at_far_1e-1", "tar_at_far_1e-2", "tar_at_far_1e-3"} <= metrics.keys()
    assert all(value == round(value, 4) for value in metrics.values())


def test_metrics_of_few_people_name_their_k_and_leave_out_what_they_cannot_say() -> None:
    metrics = evaluation(n=6, people=3).metrics()
    assert metrics["top3"] == 1.0
    assert "top5" not in metrics
    assert not [key for key in metrics if key.startswith("tar_at_far")]


def test_mistakes_come_surest_first() -> None:
    scores = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], np.float32)
    measured = Evaluation(["anna", "ben"], np.array([1, 1, 1, 0]), scores, unit(np.ones((4, 3))))
    assert measured.mistakes() == [1, 3, 0]
    assert measured.mistakes(2) == [1, 3]
    assert measured.correct == 1
    assert [person.person for person in measured.worst] == ["anna", "ben"]
    perfect = Evaluation(["anna", "ben"], measured.predicted, scores, unit(np.ones((4, 3))))
    assert perfect.mistakes() == []


def test_people_without_test_faces_do_not_count_as_worst() -> None:
    scores = np.array([[0.6, 0.4, 0], [0.1, 0.9, 0]], np.float32)
    measured = Evaluation(["anna", "ben", "cleo"], np.array([0, 1]), scores, unit(np.ones((2, 3))))
    assert measured.metrics()["worst_person_recall"] == 1.0
    assert len(measured.persons) == 3


ONE = np.ones((1, 1), np.float32)


@pytest.mark.parametrize(
    ("truth", "scores", "embeddings", "error", "says"),
    [
        ([], np.zeros((0, 1)), np.zeros((0, 1)), DataError, "no test face"),
        ([0], ONE * np.nan, ONE, DataError, "not finite"),
        ([0], ONE, ONE * np.inf, DataError, "not finite"),
        ([0], ONE, ONE * 2, ValueError, "not L2-normalised"),
        ([1], ONE, ONE, ValueError, "truth runs from 1 to 1"),
        ([-1], ONE, ONE, ValueError, "truth runs from -1"),
        ([0], np.ones((1, 2)), ONE, ValueError, "scores"),
        ([0], ONE, np.ones((2, 1)), ValueError, "embeddings"),
    ],
)
def test_evaluation_refuses(truth: list[int], scores: Any, embeddings: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Evaluation(["anna"], np.array(truth, int), scores, embeddings)


def test_funnel_adds_up_and_survives_json() -> None:
    funnel = Funnel(10, {"no_face": 1, "truncated": 2, "none": 0}, 8, {"blur": 1}, {"train": 5, "test": 2})
    assert (funnel.readable, funnel.kept) == (7, 7)
    assert list(funnel.reasons()) == [("photo", "truncated", 2), ("photo", "no_face", 1), ("face", "blur", 1)]
    assert Funnel(**json.loads(json.dumps(funnel.metrics()))) == funnel
    assert Funnel(0, {}, 0, {}, {}).kept == 0


@pytest.mark.parametrize(
    "counts",
    [
        (10, {"no_face": 11}, 0, {}, {}),
        (10, {"no_face": 10}, 1, {}, {"train": 1}),
        (10, {}, 10, {"blur": 1}, {"train": 8}),
    ],
)
def test_funnel_refuses_counts_that_lose_something(counts: Any) -> None:
    with pytest.raises(ValueError, match="faces found"):
        Funnel(*counts)

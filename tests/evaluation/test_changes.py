"""What changed since a release: nothing is missed, and what is unknown is not called a change for the better."""

import pytest

from castline.evaluation.changes import Change, State, changes_between

BEFORE = State(
    metrics={"top1": 0.9, "top1_low": 0.85, "top1_high": 0.95, "n_test": 50, "auc": 0.98},
    photos={"photos": 100, "left_out.no face": 2},
    settings={"head.kind": "softmax", "training.lr": 0.001},
    batches=["one"],
    tested={"anna": (9, 10), "ben": (10, 10), "old": (1, 1)},
)
NOW = State(
    metrics={"top1": 0.97, "top1_low": 0.96, "top1_high": 0.98, "n_test": 60, "ece": 0.02},
    photos={"photos": 120},
    settings={"head.kind": "softmax", "training.lr": 0.01, "curation.limit": 3},
    batches=["one", "two"],
    tested={"anna": (10, 10), "ben": (8, 10), "cleo": (3, 4)},
)


def test_what_differs_is_told() -> None:
    found = changes_between("v1.0.0", BEFORE, NOW)
    assert [(change.before, change.now) for change in found.measures] == [(0.9, 0.97), (None, 0.02), (50, 60)]
    assert found.others == (Change("auc", 0.98, None), Change("top1_high", 0.95, 0.98), Change("top1_low", 0.85, 0.96))
    assert found.photos == (Change("photos", 100, 120), Change("left_out.no face", 2, None))
    assert found.settings == (Change("training.lr", 0.001, 0.01), Change("curation.limit", None, 3))
    assert (found.batches_added, found.batches_removed) == (("two",), ())
    assert (found.people_added, found.people_removed) == (("cleo",), ("old",))
    assert found.worse == (Change("ben", (10, 10), (8, 10)),)
    assert found.better == (Change("anna", (9, 10), (10, 10)),)


def test_nothing_changed() -> None:
    found = changes_between("v1.0.0", NOW, NOW)
    assert all(change.before == change.now for change in found.measures)
    assert not any(
        (found.photos, found.settings, found.batches_added, found.batches_removed, found.people_added, found.worse)
    )
    assert found.chance


@pytest.mark.parametrize(("low", "high", "chance"), [(0.85, 0.95, False), (0.85, 0.96, True), (0.99, 1.0, False)])
def test_a_difference_may_be_chance_where_intervals_overlap(low: float, high: float, chance: bool) -> None:
    before = State({"top1": 0.9, "top1_low": low, "top1_high": high})
    assert changes_between("v1.0.0", before, NOW).chance is chance


def test_of_a_version_that_nothing_is_known_of_nothing_is_said() -> None:
    found = changes_between("v1.0.0", State(), NOW)
    assert found.chance is None
    assert found.people_added == (), "nobody was tested, so nobody is new"
    assert all(change.before is None for change in (*found.measures, *found.settings))

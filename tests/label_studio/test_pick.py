"""Which photos are picked to be labelled next."""

from pathlib import Path

import numpy as np
import pytest
from face_tables import faces_of, sha_of, write_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from castline.errors import ConfigError, DataError
from castline.label_studio.pick import RULES, margins, newcomers, pick, standing_for_most, told_by
from castline.runtime import Name


def every(vectors: NDArray[np.float32], count: int, **changes: NDArray[np.float32]) -> list[int]:
    """Each face in a photo of its own."""
    given = {"weights": np.ones(len(vectors), np.float32), "told": np.zeros(len(vectors), np.float32)} | changes
    return standing_for_most(vectors, np.arange(len(vectors)), count=count, **given)


def test_who_is_in_most_photos_comes_first_and_nobody_takes_all() -> None:
    people = [0] * 3 + [1] * 9 + [2] * 6 + [3]
    picked = every(faces_of(people), 4)
    assert [people[photo] for photo in picked] == [1, 2, 0, 3]


def test_what_labels_tell_of_is_not_picked_before_the_rest() -> None:
    people = [0] * 9 + [1] * 3
    vectors = faces_of(people)
    assert people[every(vectors, 1)[0]] == 0
    told = told_by(vectors, faces_of([0, 0], seed=1))
    assert people[every(vectors, 1, told=told)[0]] == 1


def test_of_equals_the_one_that_counts_more() -> None:
    people = [0] * 5 + [1] * 5
    weights = np.float32([0.2] * 5 + [0.9] * 5)
    assert people[every(faces_of(people), 1, weights=weights)[0]] == 1


def test_a_photo_is_worth_its_best_face() -> None:
    vectors = faces_of([0, 1, 1, 1, 2, 2])
    photos = np.array([5, 5, 6, 7, 8, 9])  # photo 5: one of the many of person 1, and somebody who is in no other
    ones, none = np.ones(6, np.float32), np.zeros(6, np.float32)
    picked = standing_for_most(vectors, photos, ones, none, 6)
    assert picked[0] in {5, 6, 7}
    assert set(picked[:3]) >= {5}  # after two picks there is nobody else to tell of


@settings(max_examples=60)
@given(
    people=st.lists(st.integers(0, 5), max_size=24),
    count=st.integers(1, 30),
    seed=st.integers(0, 99),
    per_photo=st.integers(1, 3),
)
def test_greedy_as_by_the_book(people: list[int], count: int, seed: int, per_photo: int) -> None:
    """The lazy way picks distinct photos, no more than asked for, each as good as the best that could be had then."""
    vectors = faces_of(people, seed, spread=0.3) if people else np.zeros((0, 16), np.float32)
    photos = np.arange(len(people)) // per_photo
    weights = np.random.default_rng(seed).random(len(people)).astype(np.float32)
    told = np.zeros(len(people), np.float32)
    picked = standing_for_most(vectors, photos, weights, told, count)
    assert len(picked) == len(set(picked)) <= count
    assert set(picked) <= set(photos.tolist())
    tells = np.maximum(vectors @ vectors.T, 0) ** 2
    for photo in picked:
        gain = np.maximum(tells - told, 0) @ weights
        assert gain[photos == photo].max() >= gain.max() - 1e-4
        told = np.maximum(told, tells[photos == photo].max(0))
    if len(picked) < min(count, len(set(photos.tolist()))):  # only those were left out that tell nothing new
        assert (np.maximum(tells - told, 0) @ weights).max() < 2e-3


def test_margins() -> None:
    scores = np.float32([[0.5, 0.4, 0.1], [1.0, 0.0, 0.0], [0.3, 0.3, 0.4]])
    assert margins(scores).tolist() == pytest.approx([0.1, 1.0, 0.1])
    assert margins(np.ones((2, 1), np.float32)).tolist() == [1.0, 1.0]


def test_newcomers_are_in_two_photos_and_known_to_nobody() -> None:
    vectors, photos = faces_of([0, 0, 1, 2, 2, 3, 3]), np.array([0, 1, 2, 3, 4, 5, 5])
    told = told_by(vectors, faces_of([0], seed=1))
    known = np.array([False] * 4 + [True] + [False] * 2)
    # 0 is labelled; 1 is in one photo; of 2 the model knows one face, so the other is alone; 3 is twice in one photo.
    assert not newcomers(vectors, photos, told, known).any()
    assert newcomers(vectors, photos, told, np.zeros(7, bool)).tolist() == [False] * 3 + [True] * 2 + [False] * 2


# ---- on a project's tables --------------------------------------------------------------------------------------


def named(score: float, known: bool = True) -> Name:
    scores = np.float32([score, 1 - score])
    return Name(known, "alma", score, score, scores, np.zeros(2, np.float32))


WHO = [0] * 6 + [1] * 4 + [2] * 2 + [3] * 3
PHOTOS = [f"{n}.jpg" for n in range(12)] + [f"alma/{n}.jpg" for n in range(3)]  # the last three have a label


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 3, 100])
def test_picked_are_distinct_photos_without_a_label(tmp_path: Path, rule: str, count: int) -> None:
    write_batch(tmp_path, "new", PHOTOS, faces_of(WHO))
    names = [named(0.6, known=False)] * 15
    picked = pick(rule, count, "new", ["new"], {sha_of("0.jpg"), sha_of("11.jpg")}, names, tmp_path)
    assert len(set(picked)) == len(picked) <= count
    assert set(picked) <= {f"{n}.jpg" for n in range(1, 11)}
    assert picked
    if rule == "random" or count == 1:
        assert len(picked) == min(count, 10)


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_rows_does_not_matter(tmp_path: Path, rule: str) -> None:
    order = np.random.default_rng(3).permutation(15).tolist()
    names = [named(0.5 + n / 40, known=False) for n in range(15)]
    write_batch(tmp_path / "a", "new", PHOTOS, faces_of(WHO))
    write_batch(tmp_path / "b", "new", PHOTOS, faces_of(WHO), order)
    one = pick(rule, 5, "new", ["new"], named=names, build=tmp_path / "a")
    other = pick(rule, 5, "new", ["new"], named=[names[i] for i in order], build=tmp_path / "b")
    assert one == other


def test_of_copies_one_is_picked_and_none_of_what_is_labelled(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    first, second = rng.bytes(32), rng.bytes(32)
    hashes = [first, first, second, second, rng.bytes(32), rng.bytes(32)]
    photos = ["a.jpg", "a_small.jpg", "b.jpg", "b_small.jpg", "c.jpg", "d.jpg"]
    write_batch(tmp_path, "new", photos, faces_of([0, 0, 1, 1, 2, 3]), chip_hash=hashes)
    for rule in ("diverse", "random"):
        picked = pick(rule, 9, "new", ["new"], {sha_of("b.jpg")}, build=tmp_path)
        assert len({"a.jpg", "a_small.jpg"} & set(picked)) == 1
        assert set(picked) - {"a.jpg", "a_small.jpg"} == {"c.jpg", "d.jpg"}


def test_labels_of_other_batches_count_and_their_photos_are_not_picked(tmp_path: Path) -> None:
    write_batch(tmp_path, "old", ["alma/1.jpg", "x.jpg"], faces_of([0, 3], seed=1))
    write_batch(tmp_path, "new", PHOTOS[:12], faces_of(WHO[:12]))
    picked = pick("diverse", 1, "new", ["old", "new"], build=tmp_path)
    assert WHO[PHOTOS.index(picked[0])] == 1  # 0 is in more photos, but has a label


def test_poor_faces_are_not_picked(tmp_path: Path) -> None:
    write_batch(tmp_path, "new", PHOTOS[:12], faces_of(WHO[:12]), sharpness=[0.01] * 6 + [1.0] * 6)
    assert {WHO[PHOTOS.index(photo)] for photo in pick("diverse", 12, "new", ["new"], build=tmp_path)} == {1, 2}


def test_the_unsure_come_first(tmp_path: Path) -> None:
    write_batch(tmp_path, "new", PHOTOS[:12], faces_of(WHO[:12]))
    names = [named(0.99)] * 10 + [named(0.51)] * 2
    picked = pick("uncertain", 1, "new", ["new"], named=names, build=tmp_path)
    assert WHO[PHOTOS.index(picked[0])] == 2
    write_batch(tmp_path, "old", ["alma/1.jpg"], faces_of([0], seed=1))
    strange = [named(0.7)] * 6 + [named(0.51, known=False)] * 6  # unsure of 0, whose label is there; of 1 and 2 more
    picked = pick("uncertain", 1, "new", ["old", "new"], named=strange, build=tmp_path)
    assert WHO[PHOTOS.index(picked[0])] == 0, "the others look like nobody labelled"
    assert pick("unknown", 5, "new", ["new"], named=names, build=tmp_path) == []  # the model knows everybody


@pytest.mark.parametrize(
    ("rule", "count", "error", "words"),
    [
        ("best", 3, ConfigError, "no such rule"),
        ("diverse", 0, ConfigError, "1 or more"),
        ("uncertain", 3, DataError, "--pick diverse"),
        ("diverse", 3, DataError, "dvc repro"),
    ],
)
def test_what_cannot_be_picked(tmp_path: Path, rule: str, count: int, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        pick(rule, count, "new", ["new"], build=tmp_path)


def test_a_batch_without_faces_has_none_to_pick(tmp_path: Path) -> None:
    write_batch(tmp_path, "new", [], np.zeros((0, 16), np.float32))
    assert pick("diverse", 3, "new", ["new"], build=tmp_path) == []

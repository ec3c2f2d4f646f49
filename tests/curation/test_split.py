import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castline.curation.split import PhotoToPlace, chance, place

OPTIONS = {"test": 0.2, "val": 0.1, "salt": "s"}


def sha(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


def photos(count: int, batch: int = 0, person: str = "ann") -> list[PhotoToPlace]:
    return [PhotoToPlace(batch, sha((batch, person, i)), frozenset({person})) for i in range(count)]


@st.composite
def collections(draw: st.DrawFn) -> tuple[list[PhotoToPlace], list[tuple[int, int]]]:
    """Photos of a few people in three batches, some of them the same file, some near-duplicates."""
    count = draw(st.integers(0, 40))
    made = [
        PhotoToPlace(
            draw(st.integers(0, 2)),
            sha(draw(st.integers(0, 30))),
            frozenset(draw(st.sets(st.sampled_from("abc"), max_size=2))),
        )
        for _ in range(count)
    ]
    index = st.integers(0, max(count - 1, 0))
    pairs = draw(st.lists(st.tuples(index, index), max_size=12)) if count else []
    return made, [(a, b) for a, b in pairs if a != b]


def test_no_photos_are_placed_nowhere() -> None:
    assert place([], [], **OPTIONS) == []


@given(collections())
@settings(max_examples=150)
def test_near_duplicates_are_never_on_two_sides(
    collection: tuple[list[PhotoToPlace], list[tuple[int, int]]],
) -> None:
    made, pairs = collection
    placed = place(made, pairs, **OPTIONS)
    same = [(i, j) for i in range(len(made)) for j in range(i) if made[i].sha256 == made[j].sha256]
    for a, b in [*pairs, *same]:
        sides = {placed[a].side, placed[b].side} - {None}
        assert len(sides) < 2
    for i, a in enumerate(placed):
        for b in placed[:i]:
            if a.group == b.group and a.side and b.side:
                assert a.side == b.side


@given(collections())
@settings(max_examples=150)
def test_new_batches_move_nothing(collection: tuple[list[PhotoToPlace], list[tuple[int, int]]]) -> None:
    made, pairs = collection
    old = [i for i, photo in enumerate(made) if photo.batch < 2]
    number = {i: n for n, i in enumerate(old)}
    before = place(
        [made[i] for i in old],
        [(number[a], number[b]) for a, b in pairs if a in number and b in number],
        **OPTIONS,
    )
    after = place(made, pairs, **OPTIONS)
    assert [after[i] for i in old] == before


@given(collections(), st.randoms())
@settings(max_examples=100)
def test_the_order_of_photos_does_not_matter(
    collection: tuple[list[PhotoToPlace], list[tuple[int, int]]], random: "st.random.Random"
) -> None:
    made, pairs = collection
    order = list(range(len(made)))
    random.shuffle(order)
    number = {i: n for n, i in enumerate(order)}
    shuffled = place([made[i] for i in order], [(number[b], number[a]) for a, b in pairs], **OPTIONS)
    assert [shuffled[number[i]] for i in range(len(made))] == place(made, pairs, **OPTIONS)


def test_a_photo_more_in_a_batch_moves_few_others() -> None:
    made = [photo for person in "abcdefgh" for photo in photos(30, person=person)]
    before = place(made[:-1], [], **OPTIONS)
    after = place(made, [], **OPTIONS)[:-1]
    assert after[:-29] == before[:-29]
    assert sum(a != b for a, b in zip(after, before, strict=True)) <= 2


@pytest.mark.parametrize("count", [2, 3, 5, 18, 40, 101])
def test_each_person_has_the_shares_asked_for_in_every_batch(count: int) -> None:
    made = [photo for batch in range(3) for person in "abc" for photo in photos(count, batch, person)]
    placed = place(made, [], **OPTIONS)
    for person in "abc":
        for batches in (1, 2, 3):
            sides = [p.side for p, m in zip(placed, made, strict=True) if person in m.people and m.batch < batches]
            assert abs(sides.count("test") - 0.2 * len(sides)) <= 0.6 or sides.count("test") == 1
            assert abs(sides.count("val") - 0.1 * len(sides)) <= 0.5
            assert "train" in sides


def test_strangers_and_the_unlabelled_are_placed_too() -> None:
    made = [PhotoToPlace(0, sha(i)) for i in range(100)]
    sides = [p.side for p in place(made, [], **OPTIONS)]
    assert (sides.count("test"), sides.count("val")) == (20, 10)


def test_a_photo_between_two_sides_is_left_out() -> None:
    made = photos(40)
    sides = [p.side for p in place(made, [], **OPTIONS)]
    a, b = sides.index("train"), sides.index("test")
    bridge = PhotoToPlace(1, sha("bridge"), frozenset({"ann"}))
    placed = place([*made, bridge], [(40, a), (b, 40)], **OPTIONS)
    assert placed[40].side is None
    assert [p.side for p in placed[:40]] == sides


def test_another_salt_is_another_split() -> None:
    assert chance(sha(1), "a") != chance(sha(1), "b")
    assert 0 <= chance(sha(1), "a") < 1

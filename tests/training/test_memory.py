"""Memory and what is built on it: a head that learns new people without the photos of the old."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from castline.files import tables
from castline.training import memory
from castline.training.examples import Examples, Part
from castline.training.fit import fit_head
from castline.training.folds import folds, on_random_split, without
from castline.training.gallery import with_gallery
from castline.training.heads import HeadSettings, head_of, new_head
from castline.training.incremental import extended, joined
from castline.training.settings import TrainingSettings

SIZE = 16
NAMES = tuple(f"person {i}" for i in range(8))
CENTRES = np.random.default_rng(0).normal(size=(len(NAMES), SIZE))


def faces(people: list[int], each: int, seed: int, spread: float = 0.4) -> Part:
    who = np.repeat(people, each)
    noise = np.random.default_rng(seed).normal(size=(len(who), SIZE))
    return Part((CENTRES[who] + spread * noise).astype(np.float32), who, np.arange(len(who)))


def dataset(part: Part, split: str, batch: str) -> pa.Table:
    rows = [
        {
            "batch": batch, "photo": f"{NAMES[person]}/{split}{i}.jpg", "face": 0, "photo_sha256": f"{batch}{split}{i}",
            "chip_hash": bytes(32), "person": NAMES[person], "stranger": False, "group": f"{split}{i}", "split": split,
            "kept": True, "reason": "",
        }
        for i, person in enumerate(part.people)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=tables.DATASET)


def remembered(train: Part, test: Part, exemplars: int = 5) -> pa.Table:
    table = pa.concat_tables([dataset(train, "train", "old"), dataset(test, "test", "old")])
    return memory.memory_of(table, train, [Part(test.features, test.people, test.rows + len(train))], exemplars)


def test_herding_comes_closer_to_the_mean_than_the_first_few() -> None:
    features = faces([0], 50, 1).features
    order = memory.herd(features, 8)
    assert len(set(order.tolist())) == 8

    def away(rows: np.ndarray) -> float:
        return float(np.linalg.norm(features[rows].mean(0) - features.mean(0)))

    assert away(order) < 0.3 * away(np.arange(8))
    assert memory.herd(features[:3], 8).tolist() == sorted(
        memory.herd(features[:3], 8).tolist(), key=memory.herd(features[:3], 8).tolist().index
    )
    assert len(memory.herd(features[:3], 8)) == 3


def test_a_memory_comes_back_from_disk_with_what_it_knew(tmp_path: Path) -> None:
    train, test = faces([0, 1, 2], 12, 1), faces([0, 1, 2], 4, 2)
    table = remembered(train, test)
    tables.write(tmp_path / "memory.parquet", table.schema, table)
    again = tables.read(tmp_path / "memory.parquet")
    assert again.equals(table)
    kept = memory.part_of(again, "train", NAMES)
    assert np.bincount(kept.people).tolist() == [5, 5, 5]
    assert all(row in train.features for row in kept.features)
    back = memory.part_of(again, "test", NAMES)
    assert np.array_equal(back.features, test.features) and np.array_equal(back.people, test.people)
    assert memory.trained_on(again) == {NAMES[0]: 12, NAMES[1]: 12, NAMES[2]: 12}
    assert len(memory.part_of(again, "val", NAMES)) == 0


def test_what_files_made_of_test_faces_is_kept_while_the_files_are_the_same() -> None:
    train, test, new = faces([0, 1], 6, 1), faces([0, 1], 2, 2), faces([2], 3, 3)

    def probes(rows: pa.Table, features: np.ndarray) -> pa.Table:
        columns = {name: rows.column(name) for name in ("batch", "photo", "face")}
        column = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), SIZE)
        return pa.table({**columns, "int8": column}, schema=tables.probes_schema(SIZE, ["int8"]))

    first = memory.probed(remembered(train, test), probes(dataset(test, "test", "old"), test.features + 1), False)
    fresh = memory.memory_of(
        dataset(new, "test", "new"), Part(new.features[:0], new.people[:0], new.rows[:0]), [new], 5
    )
    both = memory.join(first, fresh)
    for same, expected in ((True, 7), (False, 3)):
        table = memory.probed(both, probes(dataset(new, "test", "new"), new.features + 1), same)
        found = memory.part_of(table, "test", NAMES, "int8")
        assert len(found) == expected
        assert np.array_equal(found.features[-3:], new.features + 1)
        assert len(memory.part_of(table, "test", NAMES)) == 7


@pytest.mark.parametrize(
    "kind",
    [HeadSettings(), HeadSettings(hidden=24), HeadSettings(kind="cosine", margin=0.2), HeadSettings(kind="prototype")],
    ids=["softmax", "hidden", "cosine", "prototype"],
)
def test_new_people_are_learned_and_old_ones_kept(kind: HeadSettings) -> None:
    old, new = [0, 1, 2, 3, 4], [5, 6, 7]
    settings = TrainingSettings(epochs=40, lr=0.01, patience=10, balanced=True)
    first, nobody = (
        faces(old, 30, 1),
        Part(np.zeros((0, SIZE), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)),
    )
    head = new_head(kind, first, len(old), seed=1)
    fit_head(head, first, nobody, settings)
    version, kept = head.scorer(NAMES[:5]), memory.part_of(remembered(first, nobody), "train", NAMES)

    arrived = faces(new, 10, 2)
    imprinted = extended(version, NAMES[5:], kept, arrived, dict.fromkeys(NAMES[:5], 30))
    assert imprinted.people == NAMES and np.array_equal(imprinted.weight[:5], version.weight)
    tested, seen = faces(old + new, 40, 3), faces(old, 40, 3)
    before = float((version(seen.features)[1].argmax(1) == seen.people).mean())

    def right(scorer: object, people: list[int]) -> float:
        rows = np.isin(tested.people, people)
        return float((scorer(tested.features[rows])[1].argmax(1) == tested.people[rows]).mean())  # type: ignore[operator]

    assert right(imprinted, new) > 0.7, "already before training"
    longer = head_of(imprinted)
    fit_head(longer, joined(kept, arrived), nobody, settings)
    after = longer.scorer(NAMES)
    assert right(after, new) > 0.9
    assert right(after, old) > before - 0.05


def test_more_photos_of_somebody_known_move_a_prototype_by_their_share() -> None:
    first, more = faces([0, 1], 30, 1), faces([0], 10, 2)
    head = new_head(HeadSettings(kind="prototype"), first, 2, seed=1)
    version = head.scorer(NAMES[:2])
    moved = extended(version, (), first, more, {NAMES[0]: 30, NAMES[1]: 30})
    assert np.array_equal(moved.weight[1], version.weight[1])
    assert not np.array_equal(moved.weight[0], version.weight[0])
    ideal = version.before_last(np.concatenate([first.features[:30], more.features])).mean(0)
    np.testing.assert_allclose(
        moved.weight[0] / np.linalg.norm(moved.weight[0]), ideal / np.linalg.norm(ideal), atol=1e-4
    )


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_gallery_is_the_mean_of_each_person_and_goes_on_with_new_photos(metric: str) -> None:
    first, more = faces([0, 1], 30, 1), faces([0, 2], 10, 2)
    head = new_head(HeadSettings(), first, 2, seed=1)
    version = with_gallery(head.scorer(NAMES[:2]), first, metric)
    assert version.gallery is not None and version.metric == metric
    np.testing.assert_allclose(version.gallery[0], version.compared(first.features[:30]).mean(0), atol=1e-6)
    similar = version.similarities(first.features)
    assert similar.max() <= 1 + 1e-6 and (similar.argmax(1) == first.people).mean() > 0.95
    if metric == "euclidean":
        distances = np.linalg.norm(first.features[:, None] - version.gallery, axis=2)
        np.testing.assert_allclose(similar, 1 - distances, atol=1e-4)
    else:
        assert np.allclose(version.similarities(3 * first.features), similar, atol=1e-6), "lengths do not count"

    longer = extended(version, [NAMES[2]], first, more, dict.fromkeys(NAMES[:2], 30))
    longer = with_gallery(longer, more, metric, version, dict.fromkeys(NAMES[:2], 30))
    assert longer.gallery is not None
    together = np.concatenate([first.features[:30], more.features[:10]])
    np.testing.assert_allclose(longer.gallery[0], version.compared(together).mean(0), atol=1e-6)
    np.testing.assert_allclose(longer.gallery[1], version.gallery[1], atol=1e-6)
    np.testing.assert_allclose(longer.gallery[2], version.compared(more.features[10:]).mean(0), atol=1e-6)


def test_a_fold_does_not_know_its_people() -> None:
    train, val = faces(list(range(8)), 12, 1), faces(list(range(8)), 3, 2)
    parts = folds(NAMES, 4)
    assert sorted(name for part in parts for name in part) == sorted(NAMES)
    settings = TrainingSettings(epochs=20, lr=0.01)
    scorer = without(parts[0], NAMES, HeadSettings(), train, val, settings)
    assert set(scorer.people) == set(NAMES) - parts[0] and len(scorer.people) == 6
    place = [NAMES.index(name) for name in scorer.people]
    known = np.isin(val.people, place)
    _, scores = scorer(val.features)
    named = np.array(place)[scores.argmax(1)]
    assert (named[known] == val.people[known]).mean() > 0.9
    assert scores[~known].max(1).mean() < scores[known].max(1).mean() - 0.1


def test_files_are_measured_on_what_is_not_trained_on_and_filled_up_if_that_is_little() -> None:
    train, test = faces([0, 1], 12, 1), faces([0, 1], 4, 2)
    table = remembered(train, test)  # five of each person's twelve training faces have features
    assert len(memory.to_probe(table, ["old"], 0)) == 8
    some, more = memory.to_probe(table, ["old"], 12), memory.to_probe(table, ["old"], 15)
    assert len(some) == 12 and set(some) < set(more) and len(more) == 15
    assert len(memory.to_probe(table, ["old"], 1000)) == 18
    assert len(memory.to_probe(table, ["new"], 1000)) == 0


def test_a_random_split_tests_on_copies_of_what_it_trains_on() -> None:
    """Two people who cannot be told apart, but each test face is there a second time, as a training face."""
    random = np.random.default_rng(0)
    features = random.normal(size=(40, SIZE)).astype(np.float32)
    rows = []
    for i, copy in enumerate([0] * 40 + [1] * 40):
        side = "train" if copy else "test"
        kept = not copy  # curation keeps one of two
        rows.append(
            {"person": NAMES[i % 2], "stranger": False, "kept": kept, "split": "test" if kept else None,
             "random_split": side}
        )  # fmt: skip
    examples = Examples(NAMES[:2], np.concatenate([features, features]), rows)
    found = on_random_split(examples, HeadSettings(hidden=64), TrainingSettings(epochs=60, lr=0.01))
    assert found["faces"] == 40 and found["right"] >= 38
    nothing = Examples(NAMES[:2], features, [row | {"random_split": None} for row in rows[:40]])
    assert on_random_split(nothing, HeadSettings(), TrainingSettings()) == {"right": 0, "faces": 0}

"""Heads trained beside the model's, to know more of it: what becomes of people whom it does not know, and what a random
split would have said."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from castline.scoring import Scorer
from castline.training.examples import Examples, Part
from castline.training.fit import fit_head
from castline.training.heads import new_head
from castline.training.settings import HeadSettings, TrainingSettings

__all__ = ["folds", "on_random_split", "without"]


def folds(people: Sequence[str], count: int) -> list[set[str]]:
    """People to do without, in turn: `count` sets, everybody in one of them; none where too few would be left.

    By a hash of their names: neighbours in the alphabet may be relatives.

    >>> [sorted(fold) for fold in folds(["ann", "bo", "cy", "di"], 2)]
    [['bo', 'di'], ['ann', 'cy']]
    >>> folds(["ann", "bo", "cy"], 2)
    []
    """
    order = sorted(people, key=lambda name: hashlib.sha256(name.encode()).digest())
    return [set(order[i::count]) for i in range(count)] if len(people) >= 2 * count else []


def without(
    fold: Collection[str], people: Sequence[str], kind: HeadSettings, train: Part, val: Part, settings: TrainingSettings
) -> Scorer:
    """A head trained as `settings` says, but on the faces of those of `people` alone who are not in `fold`.

    train, val: of all people, numbered as in `people`.
    """
    kept = [person for person in people if person not in fold]
    place = {person: i for i, person in enumerate(kept)}
    number = np.array([place.get(person, -1) for person in people], np.int64)

    def rest(part: Part) -> Part:
        inside = number[part.people] >= 0
        return Part(part.features[inside], number[part.people[inside]], part.rows[inside])

    head = new_head(kind, rest(train), len(kept), settings.seed)
    fit_head(head, rest(train), rest(val), settings)
    return head.scorer(kept)


def on_random_split(examples: Examples, kind: HeadSettings, settings: TrainingSettings) -> dict[str, int]:
    """How many test faces a head names right, and of how many, where photos are split at random as most people do:
    near-duplicates and copies of a test face may be trained on."""
    people = [
        {**row, "kept": row["random_split"] is not None and row["person"] in examples.people}
        | {"split": row["random_split"]}
        for row in examples.dataset
    ]
    random = replace(examples, dataset=people)
    train, val, test = (random.part(split) for split in ("train", "val", "test"))
    if not len(train) or not len(test):
        return {"right": 0, "faces": 0}
    head = new_head(kind, train, len(examples.people), settings.seed)
    fit_head(head, train, val, settings)
    _, scores = head.scorer(examples.people)(test.features)
    return {"right": int((scores.argmax(1) == test.people).sum()), "faces": len(test)}

"""A released head that learns new people, and more of those it knows, without the photos that it was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from castline.scoring import Scorer
from castline.training.examples import Part

__all__ = ["extended", "joined"]


def joined(*parts: Part) -> Part:
    """Parts one below the other; their people have to be numbered alike. Rows are of the table that each is from."""
    parts = tuple(part for part in parts if len(part)) or parts[:1]
    return Part(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.people for part in parts]),
        np.concatenate([part.rows for part in parts]),
    )


def extended(scorer: Scorer, newcomers: Sequence[str], known: Part, new: Part, counts: Mapping[str, int]) -> Scorer:
    """`scorer` with a row for each of `newcomers` after its own people, imprinted from their faces.

    known: the faces that the version remembers; new: those of the new batches; both number its people first, then the
    newcomers. counts: faces that the version was trained on, by person.

    Imprinting (Qi et al., Low-shot learning with imprinted weights, 2018) makes a person's mean, as the last layer sees
    it, that person's weights. Here the length and the bias are such that newcomers start as loud as those whom the head
    knows. A prototype head is nothing but means, so those of people whom it knows move with their new photos.
    """
    people = (*scorer.people, *newcomers)
    seen_known, seen_new = scorer.before_last(known.features), scorer.before_last(new.features)
    old, centre = len(scorer.people), _mean_of_means(seen_known, known.people)
    loudness = float(np.linalg.norm(scorer.weight, axis=1).mean())
    own = (seen_known * scorer.weight[known.people]).sum(1) + scorer.bias[known.people]
    level = float(own.mean())

    weight = np.zeros((len(people), scorer.weight.shape[1]), np.float32)
    bias = np.zeros(len(people), np.float32)
    weight[:old], bias[:old] = scorer.weight, scorer.bias
    for person in range(old, len(people)):
        mean = seen_new[new.people == person].mean(0)
        direction = mean if scorer.normalised else mean - centre
        weight[person] = loudness * direction / max(float(np.linalg.norm(direction)), 1e-12)
        bias[person] = 0.0 if scorer.normalised else level - weight[person] @ mean
    if scorer.settings.get("kind") == "prototype":
        for person in np.intersect1d(new.people, np.arange(old)):
            fresh = seen_new[new.people == person]
            remembered = seen_known[known.people == person].mean(0)
            both = counts.get(people[person], 0) * remembered + fresh.sum(0)
            weight[person] = loudness * both / max(float(np.linalg.norm(both)), 1e-12)
    return replace(scorer, people=people, weight=weight, bias=bias)


def _mean_of_means(rows: NDArray[np.float32], people: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean over people of their means: (D,)."""
    means = [rows[people == person].mean(0) for person in np.unique(people)]
    return np.asarray(np.mean(means, axis=0), np.float32)

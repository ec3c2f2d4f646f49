"""Names without the network: whose a raw embedding is, newcomers included."""

from dataclasses import replace

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from castline.runtime import Cast
from castline.scoring import Scorer

PEOPLE = ("anna", "ben", "cleo", "dora", "emil")


def made(seed: int, newcomers: int) -> tuple[Cast, NDArray[np.float32]]:
    """A cast of any weights, and a face."""
    rng = np.random.default_rng(seed)
    weight, gallery = rng.normal(size=(2, 5, 8)).astype(np.float32)
    zeros = np.zeros(8, np.float32)
    scorer = Scorer(PEOPLE, {}, zeros, np.ones(1, np.float32), 3 * weight, zeros[:5], gallery=gallery)
    return Cast(scorer, threshold=0.0, newcomers=newcomers), rng.normal(size=8).astype(np.float32)


@given(st.integers(0, 5000), st.integers(1, 4))
@example(3671, 4)  # two scores that rounding would make one
def test_a_newcomer_is_named_if_and_only_if_nobody_is_more_similar(seed: int, newcomers: int) -> None:
    cast, raw = made(seed, newcomers)
    name, before = cast.name(raw), replace(cast, newcomers=0).name(raw)
    likest = PEOPLE[int(cast.similarities(raw).argmax())]
    new, old = PEOPLE[5 - newcomers :], PEOPLE[: 5 - newcomers]
    assert (name.nearest == likest) if likest in new else (name.nearest in old)
    assert name.nearest == PEOPLE[int(name.scores.argmax())]
    assert abs(float(name.scores.sum()) - 1) < 1e-5
    order = np.argsort(before.scores[: len(old)], kind="stable")
    assert (np.argsort(name.scores[: len(old)], kind="stable") == order).all()
    assert name.similarity == before.similarity and name.known == before.known


@given(st.integers(0, 5000), st.integers(0, 2))
def test_whom_it_cannot_be_brings_no_newcomer_forward(seed: int, excluded: int) -> None:
    cast, raw = made(seed, 2)
    but = [PEOPLE[excluded]]
    similar = {name: value for name, value in zip(PEOPLE, cast.similarities(raw), strict=True) if name not in but}
    likest = max(similar, key=lambda name: similar[name])
    nearest = cast.name(raw, but=but).nearest
    assert nearest not in but
    assert (nearest == likest) if likest in PEOPLE[3:] else (nearest in PEOPLE[:3])


def test_by_confidence_newcomers_are_as_others() -> None:
    for seed in range(20):
        cast, raw = made(seed, 2)
        cast = replace(cast, by="confidence")
        assert (cast.name(raw).scores == replace(cast, newcomers=0).name(raw).scores).all()

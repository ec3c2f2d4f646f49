"""Faces that do not belong to the name above them: each is compared with the name's other photos, and other names'.

The centre of a person is the mean of those faces that agree with it, found anew a few times from the half that agrees
most with all; so a few wrong ones, or a second person under the name, do not move it. A face is never part of the
centre that it is compared with.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castline.curation.choose import centred
from castline.curation.settings import CurationSettings

__all__ = ["REASON", "Judgement", "judge", "two_people"]

REASON = "may be somebody else"
# With fewer people, or fewer photos of one, taking the common part off takes much of the person along, and low
# similarity means little. To be closer to somebody else says more.
_FEW_PEOPLE, _FEW_FACES, _FEW_OF_RIVAL = 5, 6, 3


@dataclass(frozen=True)
class Judgement:
    """What a face's embedding says to its name.

    score: similarity to the centre of the person's other faces, -1 to 1; None where there are none. reason: why it is
    left out, or empty. doubt: why it should be looked at, or empty.
    """

    score: float | None = None
    reason: str = ""
    doubt: str = ""


def judge(
    embeddings: NDArray[np.float32],
    people: Sequence[str | None],
    counted: Sequence[bool],
    settings: CurationSettings,
) -> list[Judgement]:
    """Compare each face with its name.

    embeddings: (N, D) float32, of the reference model. people: the name of each; None is not looked at. counted:
    whether the face is good enough to have a say in what the person looks like.
    """
    judged = [Judgement()] * len(people)
    rows_of: dict[str, list[int]] = {}
    for i, person in enumerate(people):
        if person is not None:
            rows_of.setdefault(person, []).append(i)
    names = sorted(name for name, rows in rows_of.items() if any(counted[i] for i in rows))
    if len(names) < 2:
        return judged
    good = {name: np.array([i for i in rows_of[name] if counted[i]]) for name in names}
    # Every person weighs the same in the common part: else one with many photos would be the common part.
    common = np.mean([embeddings[good[name]].mean(0, dtype=np.float64) for name in names], axis=0)
    vectors = embeddings - common
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    members = {name: good[name][_agreeing(vectors[good[name]], settings.min_similarity)] for name in names}
    sums = np.array([vectors[members[name]].sum(0) for name in names])  # (P, D)
    centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    known = np.array([len(members[name]) >= _FEW_OF_RIVAL for name in names])
    for number, name in enumerate(names):
        inside = set(members[name].tolist())
        for i in rows_of[name]:
            others = sums[number] - (vectors[i] if i in inside else 0)
            length = float(np.linalg.norm(others))
            count = len(inside) - (i in inside)
            if not count or length < 1e-9:
                continue
            score = round(float(vectors[i] @ others) / length, 4)
            rivals = np.where(known, centres @ vectors[i], -1.0)
            rivals[number] = -1.0
            best = int(rivals.argmax())
            sure = len(names) >= _FEW_PEOPLE and count >= _FEW_FACES - 1
            judged[i] = _judgement(score, names[best], round(float(rivals[best]), 4), sure, count, settings)
    return judged


def two_people(embeddings: NDArray[np.float32], people: Sequence[str | None], odd: Sequence[bool]) -> dict[str, int]:
    """Names with photos of two people: how many faces of each are the second's.

    embeddings, people: as in `judge`. odd: the faces that it left out or doubted. The second's are at least three, and
    a seventh of the name's, and agree with each other.
    """
    found = {}
    vectors = centred(embeddings)
    for name in sorted({person for person in people if person is not None}):
        rows = [i for i, person in enumerate(people) if person == name]
        apart = [i for i in rows if odd[i]]
        least = max(3, len(rows) / 7)
        if len(apart) >= least:
            second = int(_agreeing(vectors[apart].astype(np.float64), 0.35).sum())
            if second >= least:
                found[name] = second
    return found


def _judgement(
    score: float, rival: str, rivalling: float, sure: bool, count: int, settings: CurationSettings
) -> Judgement:
    lead = rivalling - score
    closer = f"{REASON}: closer to {rival} ({rivalling:.2f}) than to this name's other photos ({score:.2f})"
    unlike = f"{REASON}: unlike this name's other photos ({score:.2f})"
    if rivalling >= settings.min_similarity and lead > settings.max_rival_lead and count >= 2:
        return Judgement(score, reason=closer)
    if score < settings.min_similarity and sure:
        return Judgement(score, reason=unlike)
    if rivalling >= settings.min_similarity and lead > settings.doubtful_rival_lead:
        return Judgement(score, doubt=closer)
    return Judgement(score, doubt=unlike if score < settings.doubtful_similarity else "")


def _agreeing(vectors: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    """Which of one person's faces, (N, D) at unit length, agree with the rest: (N,) bool, at least one."""
    alike = (vectors @ vectors.T).sum(1)
    inside = alike >= np.sort(alike)[len(alike) // 2] if len(alike) > 3 else np.ones(len(alike), np.bool_)
    for _ in range(5):
        others = vectors[inside].sum(0) - vectors * inside[:, None]
        lengths = np.maximum(np.linalg.norm(others, axis=1), 1e-12)
        agrees = (vectors * others).sum(1) / lengths >= least
        if not agrees.any() or (agrees == inside).all():
            break
        inside = agrees
    return np.asarray(inside, np.bool_)

"""Whose face is it? In a photo of several people under one name, the face that the person's other photos agree on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Choice", "centred", "choose"]


@dataclass(frozen=True)
class Choice:
    """The face (its row) that one photo's label means; or None, and why."""

    face: int | None
    reason: str = ""


def centred(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embeddings (N, D) with their mean taken off, at unit length.

    Face embeddings share a large common part; without it, the cosine of strangers is about 0.
    """
    if not len(embeddings):
        return embeddings
    moved = embeddings - embeddings.mean(0)
    return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12), np.float32)


def choose(
    photos: Sequence[Sequence[int]], embeddings: NDArray[np.float32], min_agreement: float, min_lead: float
) -> list[Choice]:
    """For each of one person's photos, the face that is that person's.

    photos: the rows of `embeddings` that each photo's faces have, at least one a photo. embeddings: (N, D), unit
    length, centred. A photo of one face needs no choice. In the others, each face is compared with the mean of the
    person's faces in all *other* photos; size plays no part, since the labelled person is often not the nearest.

    The person's face is found first: the one with most support, that is the highest mean over the other photos of its
    similarity to the most similar face there. Somebody who stands beside the person in several photos has less,
    because the person is in all of them.
    """
    alone = [len(faces) == 1 for faces in photos]
    if all(alone):
        return [Choice(faces[0]) for faces in photos]
    rows = np.concatenate([np.asarray(faces) for faces in photos])
    own = np.repeat(np.arange(len(photos)), [len(faces) for faces in photos])
    vectors = embeddings[rows]
    starts = np.flatnonzero(np.r_[True, own[1:] != own[:-1]])

    similar = vectors @ vectors.T
    best = np.maximum.reduceat(similar, starts, axis=1)  # (faces, photos): most similar face of each photo
    best[np.arange(len(rows)), own] = 0
    seed = int(best.sum(1).argmax())

    prototype = vectors[seed]
    members = np.zeros((len(photos), vectors.shape[1]), np.float32)
    for _ in range(3):
        scores = vectors @ prototype
        for photo, start in enumerate(starts):
            stop = start + len(photos[photo])
            face = start + int(scores[start:stop].argmax())
            members[photo] = vectors[face] if scores[face] >= min_agreement else 0
        mean = members.sum(0)
        prototype = mean / max(float(np.linalg.norm(mean)), 1e-12)

    choices = []
    total = members.sum(0)
    for photo, faces in enumerate(photos):
        if alone[photo]:
            choices.append(Choice(faces[0]))
            continue
        others = total - members[photo]
        length = float(np.linalg.norm(others))
        if length == 0:
            choices.append(Choice(None, "ambiguous: no other photo of this person to compare its faces with"))
            continue
        scores = embeddings[np.asarray(faces)] @ (others / length)
        order = np.argsort(-scores, kind="stable")
        first, second = float(scores[order[0]]), float(scores[order[1]])
        if first < min_agreement:
            choices.append(Choice(None, f"ambiguous: none of {len(faces)} faces agrees with the others ({first:.2f})"))
        elif first - second < min_lead:
            choices.append(Choice(None, f"ambiguous: two faces agree alike ({first:.2f}, {second:.2f})"))
        else:
            choices.append(Choice(faces[int(order[0])]))
    return choices

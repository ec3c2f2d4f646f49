"""Which photos to label next: a few that stand for many.

A labelled face tells of those that look like it. Each rule chooses, one after the other, the photo whose best face
tells most of what no label tells yet; they differ in which faces are to be told of:

    diverse     all
    uncertain   those that look like somebody labelled, each by how much, and by how unsure the model is of it
    unknown     those of people who are in two photos or more, and like nobody who is labelled or known to the model
    random      chance alone, for what accuracy is to be measured on

How much one face tells of another is the square of their cosine. What is maximised is, over all faces to be told of,
the sum of the most that any labelled face tells of each (facility location). Somebody who is in many photos comes
first; a second photo of the same moment adds next to nothing; odd faces that are like no other come last.

Sources: Wei, Iyer and Bilmes, Submodularity in data subset selection and active learning, 2015; Settles and Craven, An
analysis of active learning strategies for sequence labeling tasks (information density), 2008; Hacohen, Dekel and
Weinshall, Active learning on a budget: opposite strategies suit high and low budgets, 2022. The greatest distance to
what is labelled (Sener and Savarese, Core-set, 2018) and the margin alone were measured too: docs/labelling_pick.md.
"""

import heapq
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from castline.curation.duplicates import near_pairs
from castline.curation.settings import CurationSettings
from castline.curation.split import chance
from castline.errors import ConfigError, DataError
from castline.faces.hashing import BITS
from castline.label_studio.faces import SAME_PERSON, read_faces
from castline.runtime import Name

__all__ = ["RULES", "margins", "newcomers", "pick", "standing_for_most", "told_by"]

RULES = ("uncertain", "diverse", "unknown", "random")

_SEEN = 0.6  # a cosine: of a face this like a labelled one, nobody new is expected, however many are labelled
_LEAST = 1e-3  # a photo that tells less than this of all others together is none to be picked


def pick(
    rule: str,
    count: int,
    batch: str,
    batches: Sequence[str],
    labelled: Collection[str] = (),
    named: Sequence[Name] | None = None,
    build: Path = Path("build"),
    settings: CurationSettings | None = None,
    said: Collection[tuple[str, int]] = (),
) -> list[str]:
    """At most `count` photos of `batch`, by their paths below it, the most useful first.

    batches, labelled, named, build, settings, said: see castline.label_studio.faces.read_faces.

    Fewer than `count` come back when there are no more: of photos that show the same, one is picked, and
    photos without a usable face are not. The answer does not depend on the order of rows.

    Raises: ConfigError for another rule or a count below 1; DataError when a table is absent, or `uncertain` is asked
    for without a model.
    """
    if rule not in RULES:
        raise ConfigError(f"--pick {rule}: no such rule", f"one of: {', '.join(RULES)}")
    if count < 1:
        raise ConfigError(f"--count {count}: it has to be 1 or more")
    if rule == "uncertain" and named is None:
        raise DataError(
            "--pick uncertain asks how unsure the model is, and there is none in models/recognizer",
            "castline label push --pick diverse; once people are labelled, dvc repro makes a model",
        )
    settings = settings or CurationSettings()
    faces = read_faces(batch, batches, labelled, named, build, settings, said)
    rows = faces.rows
    both = [*faces.done, *faces.open]
    hashes = np.frombuffer(b"".join(rows[i]["chip_hash"] for i in both), np.uint8).reshape(-1, BITS // 8)
    # Of copies, one is left to be picked; none where one is labelled. Those that are labelled come first.
    copies = {int(later) for _, later in near_pairs(hashes, settings.duplicate_bits)}
    open_ = [i for n, i in enumerate(both) if n >= len(faces.done) and n not in copies]

    number = {sha256: n for n, sha256 in enumerate(dict.fromkeys(rows[i]["photo_sha256"] for i in open_))}
    paths = {number[rows[i]["photo_sha256"]]: rows[i]["photo"] for i in reversed(open_)}
    photos = np.array([number[rows[i]["photo_sha256"]] for i in open_], np.int64)
    if rule == "random":
        drawn = sorted(number, key=lambda sha256: chance(sha256, "castline label push --pick random"))
        return [paths[number[sha256]] for sha256 in drawn[:count]]
    vectors = faces.vectors[open_]
    told = told_by(vectors, faces.vectors[faces.done])
    if rule == "unknown":
        weights = newcomers(vectors, photos, told, faces.known(open_)).astype(np.float32)
    elif rule == "uncertain" and named and open_:
        weights = 1 - margins(np.stack([named[rows[i]["row"]].scores for i in open_]))
        weights *= told if faces.done else 1  # a model that was trained elsewhere has its labels there
    else:
        weights = np.ones(len(open_), np.float32)
    return [paths[photo] for photo in standing_for_most(vectors, photos, weights, told, count)]


def standing_for_most(
    vectors: NDArray[np.float32],
    photos: NDArray[np.int64],
    weights: NDArray[np.float32],
    told: NDArray[np.float32],
    count: int,
) -> list[int]:
    """At most `count` photos, the one that tells most of all faces first, each next one of what is left.

    vectors: (N, D) float32 of unit length, centred: the faces to choose from. photos: (N,) the number of the photo that
    each is in. weights: (N,) float32, 0 or more, how much each counts. told: (N,) float32, how much labels tell of each
    already, as `told_by` has it.

    Greedy, which comes within 1 - 1/e of the best that can be had (Nemhauser, Wolsey and Fisher, 1978). What a photo
    adds never rises while others are picked, so it is computed anew only for those that lead the list (Minoux,
    Accelerated greedy algorithms, 1978). Of equal ones the lower number comes first.
    """
    told = told.copy()
    counted = np.flatnonzero(weights > 0)
    others, weighted = vectors[counted], weights[counted].astype(np.float64)

    def gains(faces: NDArray[np.int64]) -> NDArray[np.float64]:
        more = _tells(vectors[faces], others) - told[counted]
        gained: NDArray[np.float64] = np.maximum(more, 0) @ weighted
        return gained

    blocks = [gains(np.arange(start, min(start + 1024, len(photos)))) for start in range(0, len(photos), 1024)]
    gain = np.concatenate([np.zeros(0), *blocks])
    faces: dict[int, list[int]] = {}
    for face, photo in enumerate(photos.tolist()):
        faces.setdefault(photo, []).append(face)
    waiting = [(-max(gain[face] for face in own), photo) for photo, own in faces.items()]
    heapq.heapify(waiting)
    picked: list[int] = []
    while waiting and len(picked) < count:
        _, photo = heapq.heappop(waiting)
        own = np.array(faces[photo], np.int64)
        now = -float(gains(own).max())
        if waiting and (now, photo) > waiting[0]:
            heapq.heappush(waiting, (now, photo))
        elif now > -_LEAST:
            break
        else:
            picked.append(photo)
            told = np.maximum(told, told_by(vectors, vectors[own]))
    return picked


def told_by(vectors: NDArray[np.float32], labelled: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) float32, 0 to 1: the most that any of `labelled`, (M, D), tells of each of `vectors`, (N, D)."""
    most = np.zeros(len(vectors), np.float32)
    for start in range(0, len(labelled), 1024):
        most = np.maximum(most, _tells(vectors, labelled[start : start + 1024]).max(1))
    return most


def newcomers(
    vectors: NDArray[np.float32], photos: NDArray[np.int64], told: NDArray[np.float32], known: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(N,) bool: faces of somebody who is nobody labelled, and who is in two photos at least.

    A face that is like no other is more often a bad picture of somebody known than somebody new, and nobody can be
    trained on one photo. What passes for one person's face is less strict between two faces than against all that are
    labelled: of those, some look like anybody.

    vectors, photos, told: see `standing_for_most`. known: (N,) bool, whether the model names it.
    """
    strange = np.flatnonzero(~known & (told < _SEEN**2))
    found = np.zeros(len(vectors), bool)
    for start in range(0, len(strange), 1024):
        rows = strange[start : start + 1024]
        alike = vectors[rows] @ vectors[strange].T >= SAME_PERSON
        found[rows] = (alike & (photos[rows][:, None] != photos[strange])).any(1)
    return found


def margins(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) float32, 0 to 1: by how much the likeliest of (N, P) scores leads; 1 where there is one person only.

    Source: Scheffer, Decomain and Wrobel, Active hidden Markov models for information extraction, 2001.
    """
    if scores.shape[1] < 2:
        return np.ones(len(scores), np.float32)
    best = np.partition(scores, -2, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0], np.float32)


def _tells(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, M) float32: what each of `some`, (N, D), tells of each of `others`, (M, D)."""
    similar: NDArray[np.float32] = np.maximum(some @ others.T, 0)
    return np.square(similar, out=similar)

"""From faces and labels to the dataset: one row a face, kept or not, and why not. Nothing is dropped."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from castline.curation.choose import centred, choose
from castline.curation.duplicates import near_pairs
from castline.curation.settings import CurationSettings, SplitSettings
from castline.curation.split import BRIDGE, PhotoToPlace, Placed, place
from castline.errors import DataError
from castline.photos.batches import label_of

__all__ = ["DatasetRow", "FaceRow", "assemble"]


@dataclass(frozen=True)
class FaceRow:
    """What curation needs of a row of the faces table."""

    batch: str
    photo: str
    face: int
    photo_sha256: str
    chip_hash: bytes


@dataclass(frozen=True)
class DatasetRow:
    """A row of the dataset table: see castline.tables.DATASET."""

    batch: str
    photo: str
    face: int
    photo_sha256: str
    chip_hash: bytes
    person: str | None
    stranger: bool
    group: str
    split: str | None
    kept: bool
    reason: str


def assemble(
    faces: Sequence[FaceRow],
    embeddings: NDArray[np.float32],
    batches: Sequence[str],
    curation: CurationSettings,
    split: SplitSettings,
    seen: Sequence[DatasetRow] = (),
) -> list[DatasetRow]:
    """The dataset: faces in the order given, each with its person, group, side and fate.

    embeddings: (N, D) float32, of the reference model, a row a face. batches: oldest first. seen: what a version
    remembers of earlier batches, of which nothing else is here; faces are then judged as if those batches were.

    Raises: DataError when fewer than two people are left.
    """
    earlier = [row for row in seen if row.kept]
    rows = _labelled(faces, centred(embeddings), curation)
    rows = _without_conflicts([*earlier, *rows])[len(earlier) :]
    rows = _placed(rows, [row for row in earlier if row.split], batches, curation, split)
    rows = _without_the_few(rows, earlier, curation.min_faces)
    people = {row.person for row in [*earlier, *rows] if row.kept and not row.stranger}
    if len(people) < 2:
        reasons = Counter(row.reason for row in rows if row.reason)
        raise DataError(
            f"of {len(faces)} faces, those of {len(people)} people are usable, and telling people apart takes two"
            + "".join(f"\n    {count} × {reason}" for reason, count in reasons.most_common(5)),
            "look into build/faces/*.rejects.parquet for photos without a face, and add photos",
        )
    return rows


def _labelled(
    faces: Sequence[FaceRow], embeddings: NDArray[np.float32], settings: CurationSettings
) -> list[DatasetRow]:
    """Each photo's label given to one of its faces."""
    rows: list[DatasetRow] = []
    photos: dict[tuple[str, bool], dict[tuple[str, str], list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, face in enumerate(faces):
        label = label_of(face.photo)
        row = DatasetRow(**vars(face), person=None, stranger=False, group="", split=None, kept=False, reason="")
        if label is None:
            rows.append(replace(row, reason="unlabelled: it lies in no person's folder"))
            continue
        rows.append(replace(row, stranger=label.stranger))
        photos[label.person, label.stranger][face.batch, face.photo].append(i)
    for (person, stranger), of_person in photos.items():
        members = list(of_person.values())
        if stranger:  # whoever is in a stranger's photo is a stranger
            for i in (i for photo in members for i in photo):
                rows[i] = replace(rows[i], person=person, kept=True)
            continue
        for photo, choice in zip(
            members, choose(members, embeddings, settings.min_agreement, settings.min_lead), strict=True
        ):
            for i in photo:
                if i == choice.face:
                    rows[i] = replace(rows[i], person=person, kept=True)
                else:
                    rows[i] = replace(rows[i], reason=choice.reason or "another face in the photo")
    return rows


def _without_conflicts(rows: list[DatasetRow]) -> list[DatasetRow]:
    """The same file twice: under one name it counts once; under two names it says nothing."""
    rows = list(rows)
    same: dict[tuple[str, int], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if row.kept:
            same[row.photo_sha256, row.face].append(i)
    for twins in same.values():
        names = sorted({str(rows[i].person) for i in twins})
        for i in twins if len(names) > 1 else twins[1:]:
            reason = f"the same photo is labelled {' and '.join(names)}" if len(names) > 1 else "the same file again"
            rows[i] = replace(rows[i], kept=False, reason=reason)
    return rows


def _placed(
    rows: list[DatasetRow],
    earlier: list[DatasetRow],
    batches: Sequence[str],
    curation: CurationSettings,
    split: SplitSettings,
) -> list[DatasetRow]:
    """Groups and sides. Groups are of photos, so a photo's faces are never on two sides."""
    number = {batch: i for i, batch in enumerate(batches)}
    photo_of: dict[tuple[str, str], int] = {}
    people: dict[int, set[str]] = defaultdict(set)
    every = [*earlier, *rows]
    of_face = [photo_of.setdefault((row.batch, row.photo), len(photo_of)) for row in every]
    sha256 = {of_face[i]: row.photo_sha256 for i, row in enumerate(every)}
    for i, row in enumerate(every):
        if row.kept and not row.stranger:
            people[of_face[i]].add(str(row.person))
    hashes = np.frombuffer(b"".join(row.chip_hash for row in every), np.uint8).reshape(len(every), -1)
    pairs = near_pairs(hashes, curation.duplicate_bits)
    placed = place(
        [
            PhotoToPlace(number.get(batch, -1), sha256[photo], frozenset(people[photo]))
            for (batch, _), photo in photo_of.items()
        ],
        [(of_face[a], of_face[b]) for a, b in pairs if of_face[a] != of_face[b]],
        split.test,
        split.val,
        split.salt,
        {of_face[i]: Placed(row.group, row.split) for i, row in enumerate(earlier)},
    )
    found = []
    for i, row in enumerate(rows, start=len(earlier)):
        group, side = placed[of_face[i]].group, placed[of_face[i]].side
        if row.kept and not row.stranger and side is None:
            found.append(replace(row, group=group, kept=False, reason=BRIDGE))
        else:
            found.append(replace(row, group=group, split=side if row.kept and not row.stranger else None))
    return found


def _without_the_few(rows: list[DatasetRow], earlier: list[DatasetRow], min_faces: int) -> list[DatasetRow]:
    """People of whom too little is left, or nothing to learn from, are left out."""
    every = [*earlier, *rows]
    count = Counter(row.person for row in every if row.kept and not row.stranger)
    learned = Counter(row.person for row in every if row.kept and row.split == "train")
    for i, row in enumerate(rows):
        if row.kept and not row.stranger and (count[row.person] < min_faces or not learned[row.person]):
            why = f"too few faces of this person: {count[row.person]}, {learned[row.person]} of them to train on"
            rows[i] = replace(row, split=None, kept=False, reason=why)
    return rows

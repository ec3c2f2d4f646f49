"""From faces and labels to the dataset: one row a face, kept or not, and why not. Nothing is dropped."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from castline.curation.choose import centred, choose
from castline.curation.decisions import IT_IS, LEAVE_OUT, Decision
from castline.curation.duplicates import near_pairs
from castline.curation.quality_gate import too_poor
from castline.curation.settings import CurationSettings, SplitSettings
from castline.curation.split import BRIDGE, PhotoToPlace, Placed, place, random_side, tied
from castline.curation.wrong_labels import judge
from castline.errors import DataError
from castline.faces.quality import Quality
from castline.labels.gather import FirstSaid
from castline.labels.said import Said
from castline.photos.batches import Label, label_of

__all__ = ["DatasetRow", "FaceRow", "Known", "assemble"]

AGAIN, TWO_NAMES = "the same file again", "the same photo under two names"
BESIDE, UNLABELLED = "another face in the photo", "unlabelled: it lies in no person's folder"


@dataclass(frozen=True)
class FaceRow:
    """What curation needs of a row of the faces table."""

    batch: str
    photo: str
    face: int
    photo_sha256: str
    chip_hash: bytes
    quality: Quality


@dataclass(frozen=True)
class DatasetRow:
    """A row of the dataset table: see castline.files.tables.DATASET."""

    batch: str
    photo: str
    face: int
    photo_sha256: str
    chip_hash: bytes
    person: str | None = None
    stranger: bool = False
    group: str = ""
    split: str | None = None
    kept: bool = False
    reason: str = ""
    score: float | None = None
    doubt: str = ""
    random_split: str | None = None


@dataclass(frozen=True)
class Known:
    """What is known beside faces and folders.

    seen: what a version remembers of earlier batches, of which nothing else is here; faces are then judged as if those
    batches were. alike: (M, 2) int64, pairs of faces that were found to be of the same photo. decisions: by a person,
    on faces, by sha256 and number: see castline.curation.decisions. sources: of photos, by batch and path. said: by
    labellers, of faces, by sha256 and number; a decision stands against it, and it stands against the folder. first:
    what was first said of a photo, by sha256.
    """

    seen: Sequence[DatasetRow] = ()
    alike: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    decisions: Mapping[tuple[str, int], Decision] = field(default_factory=dict)
    sources: Mapping[tuple[str, str], str] = field(default_factory=dict)
    said: Mapping[tuple[str, int], Said] = field(default_factory=dict)
    first: Mapping[str, FirstSaid] = field(default_factory=dict)


def assemble(
    faces: Sequence[FaceRow],
    embeddings: NDArray[np.float32],
    batches: Sequence[str],
    curation: CurationSettings,
    split: SplitSettings,
    known: Known | None = None,
) -> list[DatasetRow]:
    """The dataset: faces in the order given, each with its person, group, side and fate.

    embeddings: (N, D) float32, of the reference model, a row a face. batches: oldest first.

    Raises: DataError when fewer than two people are left.
    """
    known = known or Known()
    # Those that have a side come last, so that the others can be cut off where sides are given.
    earlier = sorted((row for row in known.seen if row.kept), key=lambda row: row.split is not None)
    sideless = sum(row.split is None for row in earlier)
    rows, decided = _labelled(faces, centred(embeddings), curation, known)
    rows = _judged(rows, faces, embeddings, decided, curation)
    every = [*earlier, *rows]
    hashes = np.frombuffer(b"".join(row.chip_hash for row in every), np.uint8).reshape(len(every), -1)
    # Earlier faces are where they are, whatever they look like.
    near = [*near_pairs(hashes, curation.duplicate_bits, len(earlier)), *(known.alike + len(earlier))]
    pairs = sorted({(int(a), int(b)) for a, b in near})
    rows = _without_conflicts(every, pairs, len(earlier), decided, curation.max_rival_lead)[len(earlier) :]
    pairs = [(a - sideless, b - sideless) for a, b in pairs if a >= sideless]
    rows = _placed(rows, earlier[sideless:], pairs, batches, split, known)
    rows = _without_the_few(rows, earlier, curation.min_faces)
    people = {row.person for row in [*earlier, *rows] if row.kept and not row.stranger}
    if len(people) < 2:
        reasons = Counter(row.reason for row in rows if row.reason)
        nameless = Counter(row.batch for row in rows if row.reason == UNLABELLED)
        raise DataError(
            f"of {len(faces)} faces, those of {len(people)} people are usable, and telling people apart takes two"
            + "".join(f"\n    {count} × {reason}" for reason, count in reasons.most_common(5)),
            f"label them: castline label push --batch {max(nameless, key=lambda batch: nameless[batch])}"
            if nameless
            else "look into build/faces/*.rejects.parquet for photos without a face, and add photos",
        )
    return [_with_random_split(row, people, split) for row in rows]


def _labelled(
    faces: Sequence[FaceRow], embeddings: NDArray[np.float32], settings: CurationSettings, known: Known
) -> tuple[list[DatasetRow], set[int]]:
    """Each photo's label given to one of its faces; and which faces a person has decided about."""
    rows: list[DatasetRow] = []
    decided: set[int] = set()
    named: set[int] = set()
    photos: dict[Label, dict[tuple[str, str], list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, face in enumerate(faces):
        label, of_face = label_of(face.photo), (face.photo_sha256, face.face)
        row = DatasetRow(face.batch, face.photo, face.face, face.photo_sha256, face.chip_hash)
        decision, said = known.decisions.get(of_face), known.said.get(of_face)
        if decision and decision.kind == LEAVE_OUT:
            stranger = said.stranger if said else label is not None and label.stranger
            rows.append(replace(row, stranger=stranger, reason="left out by review"))
            continue
        if decision and decision.kind == IT_IS:
            label = Label(decision.person, False)
        elif said and said.stranger:  # each may be somebody else
            label = Label(f"{face.photo}, face {face.face}", True)
        elif said and said.person:
            label = Label(said.person, False)
        elif said and not decision:
            rows.append(replace(row, reason=said.problem or BESIDE))
            continue
        if label is None:
            rows.append(replace(row, reason=UNLABELLED))
            continue
        if decision:
            decided.add(i)
        if decision or said:
            named.add(i)
        rows.append(replace(row, stranger=label.stranger))
        photos[label][face.batch, face.photo].append(i)
    for label, of_person in photos.items():
        if label.stranger:  # whoever is in a stranger's photo is a stranger
            for i in (i for photo in of_person.values() for i in photo):
                rows[i] = replace(rows[i], person=label.person, kept=True)
            continue
        members: list[list[int]] = []
        for photo in of_person.values():
            own = [i for i in photo if i in named]
            members += [[i] for i in own] or [photo]
            for i in photo if own else ():
                rows[i] = replace(rows[i], reason=BESIDE)
        for photo, choice in zip(
            members, choose(members, embeddings, settings.min_agreement, settings.min_lead), strict=True
        ):
            for i in photo:
                if i == choice.face:
                    rows[i] = replace(rows[i], person=label.person, kept=True, reason="")
                else:
                    rows[i] = replace(rows[i], reason=choice.reason or BESIDE)
    return rows, decided


def _judged(
    rows: list[DatasetRow],
    faces: Sequence[FaceRow],
    embeddings: NDArray[np.float32],
    decided: set[int],
    settings: CurationSettings,
) -> list[DatasetRow]:
    """Poor faces left out, and those that do not belong to their name; what a person decided stands."""
    for i, row in enumerate(rows):
        if row.kept and i not in decided and (why := too_poor(faces[i].quality, settings)):
            rows[i] = replace(row, kept=False, reason=why)
    named = [None if row.stranger else row.person for row in rows]
    judged = []
    for i, (row, said) in enumerate(
        zip(rows, judge(embeddings, named, [row.kept for row in rows], settings), strict=True)
    ):
        if i in decided or not row.kept:
            judged.append(replace(row, score=said.score))
        else:
            judged.append(replace(row, score=said.score, kept=not said.reason, reason=said.reason, doubt=said.doubt))
    return judged


def _without_conflicts(
    rows: Sequence[DatasetRow], pairs: Sequence[tuple[int, int]], settled: int, decided: set[int], lead: float
) -> list[DatasetRow]:
    """The same photo twice: under two names, it is whose it clearly is, or else nobody's; the same file counts once.

    pairs: rows of near-duplicates. settled: the first so many rows stay as they are. decided: those of the others that
    a person decided about. lead: in similarity, that makes it clear.
    """
    rows = list(rows)
    same: dict[tuple[str, int], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if row.kept:
            same[row.photo_sha256, row.face].append(i)
    stands = {*range(settled), *(settled + i for i in decided)}
    lost: dict[int, str] = {}
    for a, b in [*pairs, *(pair for twins in same.values() for pair in _of_two_names(rows, twins))]:
        one, other = rows[a], rows[b]
        if not (one.kept and other.kept) or one.person == other.person or (one.stranger and other.stranger):
            continue
        why = f"{TWO_NAMES}: {' and '.join(sorted((str(one.person), str(other.person))))}"
        ahead = 0.0 if one.score is None or other.score is None else one.score - other.score
        losers = {a: why, b: why}
        if (a in stands) != (b in stands):
            del losers[a if a in stands else b]
        elif abs(ahead) > lead:
            losers = (
                {b: f"{TWO_NAMES}: more like {one.person}"}
                if ahead > 0
                else {a: f"{TWO_NAMES}: more like {other.person}"}
            )
        lost |= {i: why for i, why in losers.items() if i >= settled}
    for i, why in lost.items():
        rows[i] = replace(rows[i], kept=False, reason=why, doubt="")
    for twins in same.values():
        left = sorted((i for i in twins if rows[i].kept), key=lambda i: (i >= settled, i not in stands, i))
        for i in left[1:]:
            rows[i] = replace(rows[i], kept=False, reason=AGAIN, doubt="")
    return rows


def _of_two_names(rows: Sequence[DatasetRow], twins: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs of differently named rows, each row in one at least."""
    for i in twins:
        if (j := next((j for j in twins if rows[j].person != rows[i].person), None)) is not None:
            yield i, j


def _placed(
    rows: list[DatasetRow],
    earlier: list[DatasetRow],
    pairs: Sequence[tuple[int, int]],
    batches: Sequence[str],
    split: SplitSettings,
    known: Known,
) -> list[DatasetRow]:
    """Groups and sides. Groups are of photos, so a photo's faces are never on two sides.

    pairs: near-duplicates, as rows of `earlier` and `rows` one after the other.
    """
    photo_of: dict[tuple[str, str], int] = {}
    every = [*earlier, *rows]
    of_face = [photo_of.setdefault((row.batch, row.photo), len(photo_of)) for row in every]
    first_row = {photo: i for i, photo in reversed(list(enumerate(of_face)))}
    shown = [every[first_row[photo]] for photo in range(len(photo_of))]
    turns = [_turn(row, batches, known.first) for row in shown]
    number = {turn: i for i, turn in enumerate(sorted(set(turns)))}
    order = [number[turn] for turn in turns]
    of_source: dict[str, list[int]] = defaultdict(list)
    for key, photo in sorted(photo_of.items(), key=lambda item: (order[item[1]], item[1])):
        if key in known.sources:
            of_source[known.sources[key]].append(photo)
    placed = place(
        [PhotoToPlace(order[i], row.photo_sha256, _people_of(row, known.first)) for i, row in enumerate(shown)],
        [
            *((of_face[a], of_face[b]) for a, b in pairs if of_face[a] != of_face[b]),
            *(pair for photos in of_source.values() for pair in tied(photos)),
        ],
        split.test,
        split.val,
        split.salt,
        {of_face[i]: Placed(row.group, row.split) for i, row in enumerate(earlier)},
    )
    found = []
    for i, row in enumerate(rows, start=len(earlier)):
        group, side = placed[of_face[i]].group, placed[of_face[i]].side
        if row.kept and not row.stranger and side is None:
            found.append(replace(row, group=group, kept=False, reason=BRIDGE, doubt=""))
        else:
            found.append(replace(row, group=group, split=side if row.kept and not row.stranger else None))
    return found


def _turn(row: DatasetRow, batches: Sequence[str], first: Mapping[str, FirstSaid]) -> tuple[int, int, str]:
    """When a photo is placed: batch by batch; those of a folder together, then those without one as they were labelled,
    then the rest. So what is labelled later moves nothing of its batch.
    """
    batch = batches.index(row.batch) if row.batch in batches else -1
    if batch < 0 or label_of(row.photo):
        return batch, 0, ""
    said = first.get(row.photo_sha256)
    return (batch, 1, said.at) if said else (batch, 2, "")


def _people_of(row: DatasetRow, first: Mapping[str, FirstSaid]) -> frozenset[str]:
    """Whom a photo's folder names, or else what was first said of it: nothing that is found out later moves it to
    another side. Of a photo that is not here any more, whose face it was.
    """
    if label := label_of(row.photo):
        return frozenset() if label.stranger else frozenset({label.person})
    if said := first.get(row.photo_sha256):
        return said.people
    return frozenset({row.person}) if row.split and row.person else frozenset()


def _without_the_few(rows: list[DatasetRow], earlier: list[DatasetRow], min_faces: int) -> list[DatasetRow]:
    """People of whom too little is left, or nothing to learn from, are left out."""
    every = [*earlier, *rows]
    count = Counter(row.person for row in every if row.kept and not row.stranger)
    learned = Counter(row.person for row in every if row.kept and row.split == "train")
    for i, row in enumerate(rows):
        if row.kept and not row.stranger and (count[row.person] < min_faces or not learned[row.person]):
            why = f"too few faces of this person: {count[row.person]}, {learned[row.person]} of them to train on"
            rows[i] = replace(row, split=None, kept=False, reason=why, doubt="")
    return rows


def _with_random_split(row: DatasetRow, people: set[str | None], split: SplitSettings) -> DatasetRow:
    """With the side that a split without groups would give, where nothing but being a copy speaks against the face."""
    if row.stranger or row.person not in people or not (row.kept or row.reason in (AGAIN, BRIDGE)):
        return row
    return replace(row, random_split=random_side(f"{row.batch}/{row.photo}", split.test, split.val, split.salt))

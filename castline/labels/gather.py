"""All that was said of a project's faces, in one mapping; and how it came to that, counted.

labels/batches/BATCH.json     photos, each face boxed and named
labels/clusters/BATCH.json    clusters of faces, each named at once
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castline.faces.boxes import iou
from castline.labels.agreement import cohens_kappa, krippendorffs_alpha, specific_agreement
from castline.labels.export import Annotation, Box, Task, read_export
from castline.labels.form import STRANGER
from castline.labels.matching import Unit, units
from castline.labels.rules import DISAGREE, resolve
from castline.labels.said import Said
from castline.labels.settings import LabelsSettings

__all__ = ["COLUMNS", "FirstSaid", "Heard", "hear"]

COLUMNS = ("batch", "photo", "face", "photo_sha256", "photo_width", "photo_height", "box")
"""What is needed of the faces table."""

# Proportions that differ by less are those of a picture that was scaled, and rounded.
_SAME_SHAPE = 0.02

_ELSE = "_somebody_else"  # which is no person's name: none begins so


@dataclass(frozen=True)
class FirstSaid:
    """What a photo's first finished answer says, whatever comes later: when, as text that sorts, and of whom."""

    at: str
    people: frozenset[str]


@dataclass(frozen=True)
class _Labelled:
    """A photo and what was said of it: who finished it, each labeller's newest answer, and its faces."""

    batch: str
    photo: str
    answers: Mapping[int, Annotation]
    faces: Sequence[Unit]
    said: Mapping[int, Said]


@dataclass(frozen=True)
class Heard:
    """said: of faces, by the photo's sha256 and the face's number; a photo that somebody finished has all its faces
    here, an empty Said for those that nobody boxed. first: by photo. photos: what was said of each. problems: what was
    not used, counted by castline.labels.export.PROBLEMS.
    """

    said: Mapping[tuple[str, int], Said] = field(default_factory=dict)
    first: Mapping[str, FirstSaid] = field(default_factory=dict)
    photos: Sequence[_Labelled] = ()
    clusters: int = 0
    problems: Counter[str] = field(default_factory=Counter)

    def to_label_again(self, batch: str) -> list[str]:
        """The batch's photos, by their paths below it, that hold a face of which labellers disagree."""
        return sorted(
            {
                photo.photo
                for photo in self.photos
                if photo.batch == batch and any(said.problem.startswith(DISAGREE) for said in photo.said.values())
            }
        )

    @cached_property
    def _shared(self) -> list[tuple[_Labelled, Unit]]:
        """Faces of photos that two labellers or more have finished, boxed by one of them at least."""
        return [(photo, unit) for photo in self.photos if len(photo.answers) > 1 for unit in photo.faces if unit.drawn]

    def metrics(self, settings: LabelsSettings) -> dict[str, Any]:
        """What reports/labels.json holds. Labellers are numbers. What is not defined is absent."""
        if not (self.photos or self.clusters or self.problems):
            return {"photos": 0}
        boxed = [unit for photo in self.photos for unit in photo.faces if unit.drawn]
        named = [_names(unit) for _, unit in self._shared]
        pairs = [pair for names in named for pair in combinations([names[who] for who in sorted(names)], 2)]
        people = sorted({name for pair in pairs for name in pair})
        labellers = sorted({who for photo in self.photos for who in photo.answers})
        return {
            "rule": settings.rule,
            "photos": len(self.photos),
            "clusters": self.clusters,
            "photos_of_several": sum(len(photo.answers) > 1 for photo in self.photos),
            "faces": {
                "boxed": len(boxed),
                "missed_by_detector": sum(unit.face is None for unit in boxed),
                "named": sum(bool(said.person) for said in self.said.values()),
                "strangers": sum(said.stranger for said in self.said.values()),
                "disagreed": sum(said.problem.startswith(DISAGREE) for said in self.said.values()),
            },
            "not_used": dict(sorted(self.problems.items())),
            "agreement": _known(
                faces=sum(len(names) > 1 for names in named),
                alpha=krippendorffs_alpha(named),
                same_name=_share(sum(a == b for a, b in pairs), len(pairs)),
                mean_iou=_mean(_overlaps(unit.drawn.values()) for _, unit in self._shared),
            ),
            "labellers": {str(who): self._labeller(who) for who in labellers},
            "pairs": {
                f"{one} and {other}": pair
                for one, other in combinations(labellers, 2)
                if (pair := self._pair(one, other))
            },
            "people": {
                name: {"same": same, "said": said}
                for name in people
                for same, said in [specific_agreement(pairs, name)]
            },
        }

    def _labeller(self, who: int) -> dict[str, Any]:
        """Against each other labeller of the same face."""
        others = [
            (mine, name)
            for _, unit in self._shared
            if (names := _names(unit)) and (mine := names.pop(who, ""))
            for name in names.values()
        ]
        same = sum(mine == name for mine, name in others)
        return _known(
            photos=sum(who in photo.answers for photo in self.photos),
            compared=len(others),
            same_name=_share(same, len(others)),
        )

    def _pair(self, one: int, other: int) -> dict[str, Any]:
        """Two labellers on the photos that both have finished; empty where there is none."""
        shared = [unit.drawn for photo, unit in self._shared if {one, other} <= photo.answers.keys()]
        drawn = [boxes for boxes in shared if one in boxes or other in boxes]
        both = [(boxes[one], boxes[other]) for boxes in drawn if one in boxes and other in boxes]
        names = [(a.name, b.name) for a, b in both if a.name and b.name]
        if not drawn:
            return {}
        return _known(
            faces=len(drawn),
            boxed_by_both=len(both),
            mean_iou=_mean(_overlaps(pair) for pair in both),
            named_by_both=len(names),
            same_name=_share(sum(a == b for a, b in names), len(names)),
            kappa=cohens_kappa(names),
        )


def hear(
    batches: Sequence[str],
    faces: Iterable[Mapping[str, Any]],
    rejects: Iterable[Mapping[str, Any]],
    settings: LabelsSettings,
    folder: Path = Path("labels"),
) -> Heard:
    """Read what was said of `batches`. A batch without a file has no labels.

    faces: rows of the faces tables, with COLUMNS. rejects: of the rejects tables.

    Raises: DataError when a file is no export.
    """
    known = _Photos(faces, rejects)
    problems: Counter[str] = Counter()
    said: dict[tuple[str, int], Said] = {}
    first: dict[str, FirstSaid] = {}
    photos: list[_Labelled] = []
    for batch in batches:
        answers: dict[tuple[str, str], list[Annotation]] = defaultdict(list)
        for task in _tasks(folder / "batches" / f"{batch}.json", problems):
            if key := known.find(batch, task, problems):
                problems["second task"] += key in answers
                answers[key] += task.annotations
        for key, given in answers.items():
            photo = known.labelled(key, given, settings, problems)
            if not photo.answers:
                continue
            photos.append(photo)
            if sha256 := known.sha256.get(key):
                said |= {(sha256, number): one for number, one in photo.said.items()}
                begun = min(given, key=lambda answer: (answer.at, answer.number))
                _earliest(first, sha256, begun.at, {box.name for box in begun.boxes})

    votes: dict[tuple[str, int], dict[int, Annotation]] = defaultdict(dict)
    names: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    clusters = 0
    for batch in batches:
        for task in _tasks(folder / "clusters" / f"{batch}.json", problems):
            members = [(number, face) for number, face in enumerate(task.faces or (), 1) if face in known.faces]
            if not members:
                problems["unknown photo"] += 1
                continue
            clusters += 1
            for answer in _newest(task.annotations, problems).values():
                for number, face in members:
                    votes[face][answer.labeller] = answer
                    names[face][answer.labeller] = _ELSE if number in answer.others else answer.name
                    if number not in answer.others:
                        _earliest(first, face[0], answer.at, {answer.name})
    for face, by in votes.items():
        heard = resolve(names[face], by, _deciding(by, settings), settings.rule)
        # Who boxed a face has looked at it; and that it is not the cluster's person says nothing of whose it is.
        if said.get(face, Said()) == Said() and heard.person != _ELSE:
            said[face] = heard
    return Heard(said, first, photos, clusters, +problems)


class _Photos:
    """The photos of the batches: by path, and where a path says nothing, by content."""

    def __init__(self, faces: Iterable[Mapping[str, Any]], rejects: Iterable[Mapping[str, Any]]) -> None:
        self.sha256: dict[tuple[str, str], str] = {}
        self.size: dict[tuple[str, str], tuple[int, int]] = {}
        self.boxes: dict[tuple[str, str], dict[int, Sequence[float]]] = defaultdict(dict)
        self.faces: set[tuple[str, int]] = set()
        for row in faces:
            key = row["batch"], row["photo"]
            self.sha256[key] = row["photo_sha256"]
            self.size[key] = row["photo_width"], row["photo_height"]
            self.boxes[key][row["face"]] = row["box"]
            self.faces.add((row["photo_sha256"], row["face"]))
        self.by_content = {sha256: key for key, sha256 in reversed(self.sha256.items())}
        self.faceless = {(row["batch"], row["photo"]) for row in rejects}

    def find(self, batch: str, task: Task, problems: Counter[str]) -> tuple[str, str] | None:
        """The photo of a task, by content if the task says it, else by path below `batch`."""
        if task.sha256 in self.by_content:
            return self.by_content[task.sha256]
        path = task.photo.removeprefix("data/")
        head, _, tail = path.partition("/")
        key = (head, tail) if (head, tail) in self.sha256 or (head, tail) in self.faceless else (batch, path)
        if key in self.sha256 and task.sha256:
            problems["changed photo"] += 1
        elif key in self.sha256 or key in self.faceless:
            return key
        else:
            problems["unknown photo"] += 1
        return None

    def labelled(
        self, key: tuple[str, str], given: Sequence[Annotation], settings: LabelsSettings, problems: Counter[str]
    ) -> _Labelled:
        answers = {
            who: fitting
            for who, answer in _newest(given, problems).items()
            if (fitting := self._fitting(key, answer, problems)).boxes or not answer.boxes
        }
        width, height = self.size.get(key, (1, 1))
        numbers = sorted(self.boxes.get(key, ()))
        shares = [np.divide(self.boxes[key][number], [width, height, width, height]) for number in numbers]
        found, twice = units(
            np.array(shares, np.float32).reshape(-1, 4),
            {who: answer.boxes for who, answer in answers.items()},
            settings.min_iou,
        )
        problems["boxed twice"] += twice
        deciding = _deciding(answers, settings)
        said = {
            numbers[unit.face]: resolve(
                {who: box.name for who, box in unit.drawn.items()}, answers.keys(), deciding, settings.rule
            )
            for unit in found
            if unit.face is not None
        }
        return _Labelled(*key, answers, found, said)

    def _fitting(self, key: tuple[str, str], answer: Annotation, problems: Counter[str]) -> Annotation:
        """An answer without the boxes that were drawn on a picture of another shape than the photo."""
        width, height = self.size.get(key, (0, 0))

        def fits(box: Box) -> bool:
            across, down = box.size
            if min(across, down, width, height) <= 0 or _alike(across * height, down * width):
                return True
            swapped = _alike(across * width, down * height)
            problems["photo not upright" if swapped else "picture of another size"] += 1
            return False

        return replace(answer, boxes=tuple(box for box in answer.boxes if fits(box)))


def _tasks(path: Path, problems: Counter[str]) -> list[Task]:
    if not path.is_file():
        return []
    tasks, found = read_export(path)
    problems.update(found)
    return tasks


def _newest(given: Iterable[Annotation], problems: Counter[str]) -> dict[int, Annotation]:
    """Each labeller's newest answer."""
    newest: dict[int, Annotation] = {}
    for answer in sorted(given, key=lambda answer: (answer.changed or answer.at, answer.number)):
        problems["answered again"] += answer.labeller in newest
        newest[answer.labeller] = answer
    return newest


def _deciding(answers: Mapping[int, Annotation], settings: LabelsSettings) -> set[int]:
    return {who for who, answer in answers.items() if answer.truth or who in settings.reviewers}


def _earliest(first: dict[str, FirstSaid], sha256: str, at: str, names: set[str]) -> None:
    if sha256 not in first or at < first[sha256].at:
        first[sha256] = FirstSaid(at, frozenset(names - {"", STRANGER}))


def _names(unit: Unit) -> dict[int, str]:
    return {who: box.name for who, box in unit.drawn.items() if box.name}


def _overlaps(boxes: Iterable[Box]) -> Iterator[float]:
    """Of each with each."""
    bounds: NDArray[np.float32] = np.array([box.bounds for box in boxes], np.float32).reshape(-1, 4)
    yield from iou(bounds, bounds)[np.triu_indices(len(bounds), 1)].tolist()


def _mean(values: Iterable[Iterable[float]]) -> float | None:
    every = [value for some in values for value in some]
    return round(sum(every) / len(every), 4) if every else None


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _known(**values: float | None) -> dict[str, Any]:
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in values.items()
        if value is not None
    }


def _alike(one: float, other: float) -> bool:
    return abs(one - other) <= _SAME_SHAPE * max(one, other)

"""Tasks of Label Studio in, predictions out: the faces of each task's photo, found and named by a released model."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from castline.label_studio.local_files import Refused, local_photo
from castline.label_studio.tasks import first_label, rectangle
from castline.labels.form import PERSON, STRANGER, UNNAMED
from castline.photos.decode import Rejected, decode, read
from castline.runtime import Recognizer

__all__ = ["Prelabeller", "Prelabels"]


@dataclass(frozen=True)
class _Face:
    """box: x1 y1 x2 y2 in pixels of the upright photo. person: empty for nobody of the cast."""

    box: tuple[float, ...]
    person: str
    confidence: float


@dataclass(frozen=True)
class _Seen:
    """What is in a photo: width and height of it upright, in pixels, and its faces, the detector's best first."""

    size: tuple[int, int]
    faces: tuple[_Face, ...]


@dataclass
class Prelabels:
    """The answer to a request, and what there is to say of it.

    results: one for each task, in order: a prediction, or an empty list for a task that time did not suffice for.
    remembered: how many photos had been seen before. refused: places of tasks in the request, and why each has a
    prediction of no faces. left: how many tasks time did not suffice for.
    """

    results: list[Any] = field(default_factory=list)
    remembered: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)
    left: int = 0


class Prelabeller:
    """A released model that answers Label Studio's tasks, one request at a time; others wait."""

    def __init__(
        self,
        recognizer: Recognizer,
        version: str,
        root: Path = Path(),
        also: Collection[Path] = (),
        remember: int = 10_000,
    ) -> None:
        """version: what Label Studio calls the predictions. root, also: as in `local_photo`. remember: of how many
        photos, those asked for last, it is kept in memory what is in them.
        """
        self.version = version
        self._recognizer, self._root, self._also, self._remember = recognizer, root, also, remember
        self._seen: OrderedDict[str, _Seen] = OrderedDict()  # by sha256; the model stays the same
        self._one = threading.Lock()
        self._closing = False

    def __call__(self, tasks: Sequence[object], until: float = float("inf")) -> Prelabels:
        """A result for each task, in order. What cannot be answered has a prediction of no faces.

        until: on the clock of time.monotonic; what is not done then is left. Label Studio throws a late answer away as
        a whole, but of an empty list it keeps nothing and asks for that task again. One task at least is answered.
        """
        answer = Prelabels()
        with self._one:
            for number, task in enumerate(tasks):
                if self._closing or (number and time.monotonic() > until):
                    answer.left = len(tasks) - number
                    answer.results += [[] for _ in range(answer.left)]
                    break
                answer.results.append(self._prediction(number, task, answer))
        return answer

    def close(self) -> None:
        """Come to an end: return once the photo that is being looked at is done. No task is answered after it."""
        self._closing = True
        with self._one:
            pass

    def _prediction(self, number: int, task: object, answer: Prelabels) -> dict[str, Any]:
        regions, scores = [], []
        try:
            data = task.get("data") if isinstance(task, dict) else None
            if not isinstance(data, dict):
                raise Refused("it has no data")
            photo, seen = self._look(data, answer)
            offered = _offered(data.get("people"))
            for i, face in enumerate(seen.faces):
                label, word = first_label(photo, face.person, alone=len(seen.faces) == 1)
                if offered is not None and label not in offered:
                    label, word = UNNAMED, "nobody"  # such as somebody who asked to be forgotten
                score = face.confidence if word == "model" else None
                regions.append(rectangle(i, PERSON, label, face.box, seen.size, score))
                scores.append(score or 0.0)
        except Refused as refused:
            answer.refused.append((number, str(refused)))
        return {"result": regions, "score": round(min(scores, default=0.0), 3), "model_version": self.version}

    def _look(self, data: dict[str, Any], answer: Prelabels) -> tuple[str, _Seen]:
        """The path of a task's photo below its batch, and what is in it.

        Raises: Refused.
        """
        path, name = local_photo(data.get("image"), self._root, self._also)
        try:
            content = read(path, self._recognizer.photos)
            sha256 = hashlib.sha256(content).hexdigest()
            if data.get("sha256") not in (None, "", sha256):
                raise Refused("the photo is another one than when the task was made")
            if sha256 in self._seen:
                answer.remembered += 1
            else:
                self._seen[sha256] = self._found(content)
        except Rejected as rejected:
            raise Refused(f"the photo cannot be used: {rejected.reason.replace('_', ' ')}") from rejected
        self._seen.move_to_end(sha256)
        seen = self._seen[sha256]
        while len(self._seen) > self._remember:
            self._seen.popitem(last=False)
        return name, seen

    def _found(self, content: bytes) -> _Seen:
        """What is in a photo's bytes.

        Raises: Rejected when they cannot be decoded.
        """
        photo = decode(content, self._recognizer.photos)
        found = self._recognizer.find(photo)
        faces = []
        for box, landmarks in zip(found.moved(photo.scale).boxes, found.landmarks, strict=True):
            name = self._recognizer.name(self._recognizer.embed(photo, landmarks))
            faces.append(_Face(tuple(map(float, box)), name.nearest if name.known else "", name.confidence))
        return _Seen((photo.width, photo.height), tuple(faces))


def _offered(people: object) -> set[str] | None:
    """The labels that a task offers to choose from; None where it has no list."""
    if not isinstance(people, list):
        return None
    values = (one.get("value") if isinstance(one, dict) else None for one in people)
    return {value for value in values if isinstance(value, str)} | {STRANGER, UNNAMED}

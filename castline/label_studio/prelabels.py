"""Tasks of Label Studio in, predictions out: the faces of each task's photo, found and named by a released model."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from castline.label_studio.local_files import Refused, photo_path
from castline.labels.form import PERSON, STRANGER
from castline.photos.decode import Rejected, decode, read
from castline.runtime import Recognizer

__all__ = ["Prelabeller", "Prelabels"]


@dataclass(frozen=True)
class _Face:
    """box: x, y, width, height in percent of the upright photo. person: empty for nobody of the cast."""

    box: tuple[float, float, float, float]
    person: str
    confidence: float


@dataclass(frozen=True)
class _Seen:
    """What is in a photo: its size upright, in pixels, and its faces, the detector's best first."""

    width: int
    height: int
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
        """version: what Label Studio calls the predictions. root, also: as in `photo_path`. remember: of so many photos
        it is kept in memory what is in them; those asked for last.
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
        try:
            data = task.get("data") if isinstance(task, dict) else None
            if not isinstance(data, dict):
                raise Refused("it has no data")
            seen = self._look(data, answer)
        except Refused as refused:
            answer.refused.append((number, str(refused)))
            seen = _Seen(0, 0, ())
        offered = _offered(data.get("people")) if isinstance(data, dict) else None
        return {
            "result": [_rectangle(i, face, seen, offered) for i, face in enumerate(seen.faces)],
            "score": min((face.confidence for face in seen.faces), default=0.0),
            "model_version": self.version,
        }

    def _look(self, data: dict[str, Any], answer: Prelabels) -> _Seen:
        """What is in a task's photo.

        Raises: Refused.
        """
        path = photo_path(data.get("image"), self._root, self._also)
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
        return seen

    def _found(self, content: bytes) -> _Seen:
        """What is in a photo's bytes.

        Raises: Rejected when they cannot be decoded.
        """
        photo = decode(content, self._recognizer.photos)
        found = self._recognizer.find(photo)
        size = np.array([photo.width, photo.height] * 2)
        edges = np.clip(100 * found.moved(photo.scale).boxes / size, 0, 100)  # (N, 4): x1 y1 x2 y2
        faces = []
        for (x1, y1, x2, y2), landmarks in zip(edges.tolist(), found.landmarks, strict=True):
            if x2 > x1 and y2 > y1:  # not in the border that a detector may add
                name = self._recognizer.name(self._recognizer.embed(photo, landmarks))
                box = (round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3))
                faces.append(_Face(box, name.nearest if name.known else "", round(name.confidence, 4)))
        return _Seen(photo.width, photo.height, tuple(faces))


def _offered(people: object) -> set[str] | None:
    """The names that a task offers to choose from; None where it has no list."""
    if not isinstance(people, list):
        return None
    values = (one.get("value") if isinstance(one, dict) else None for one in people)
    return {value for value in values if isinstance(value, str)}


def _rectangle(number: int, face: _Face, seen: _Seen, offered: set[str] | None) -> dict[str, Any]:
    """Of a person whom the task does not offer, such as one who asked to be forgotten, nothing is said."""
    named = face.person and (offered is None or face.person in offered)
    x, y, width, height = face.box
    return {
        "id": f"face{number}",
        "type": "rectanglelabels",
        "from_name": PERSON,
        "to_name": "image",
        "original_width": seen.width,
        "original_height": seen.height,
        "image_rotation": 0,
        "score": face.confidence,
        "value": {
            "x": x,
            "y": y,
            "width": width,
            "height": height,
            "rotation": 0,
            "rectanglelabels": [face.person if named else STRANGER],
        },
    }

"""A Label Studio export, read with distrust: its server checks neither names nor boxes, and files are edited by hand.

What cannot be used is counted by one of the few words in PROBLEMS, never guessed at and never a crash.

Geometry, as Label Studio has it: x, y, width and height in percent of the picture as the browser shows it, EXIF
orientation applied; x, y is the corner that a rotated rectangle turns about, clockwise. `image_rotation` is how the
labeller turned the view; coordinates stay those of the picture that was not turned.
Source: Label Studio 1.23, web/libs/editor/src/regions/RectRegion.jsx.
"""

import json
import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from castline.errors import DataError
from castline.labels.clusters import OTHERS
from castline.labels.form import NAME, NO_FACE, PERSON, QUALITY, SCENE, STRANGER, UNNAMED
from castline.text import shown

__all__ = ["PROBLEMS", "Annotation", "Box", "Task", "name_of", "read_export"]

PROBLEMS = {
    # tasks
    "not a task": "an entry without data or annotations",
    "no annotation": "a task that nobody has answered",
    "only a draft": "a task that somebody began and did not submit",
    "unknown photo": "a task of a photo that is not in the batch",
    "changed photo": "a task of a photo whose file is another one now",
    "second task": "one more task of a photo that has one; what people said in both counts",
    # annotations
    "not an annotation": "an answer without a labeller or a result",
    "skipped": "the labeller skipped the photo",
    "nothing said": "neither a box nor “no face”: it counts as not labelled",
    "answered again": "an older answer of the same labeller on the same photo; the newest counts",
    "no face, but boxes": "the boxes count",
    # boxes
    "not read": "a region that is no rectangle, or another entry that the form does not have",
    "bad numbers": "coordinates that are absent, not numbers, or not finite",
    "no area": "a box without width or height",
    "outside the picture": "a box whose centre is not in the picture",
    "photo not upright": "a browser that did not apply the EXIF orientation: width and height are swapped",
    "picture of another size": "a box drawn on a picture of other proportions than the photo",
    "too many boxes": "boxes beyond the thousandth of one answer",
    "boxed twice": "a second box of the same labeller on the same face",
    # names
    "no name": "a box without a name, or left as not_named_yet",
    "several names": "a box with more than one",
    "bad name": "a name that no folder could have: blank, too long, with / or invisible characters, or _ in front",
    "no such number": "a number that no face of the sheet has",
    "not in the list": "a name that was neither offered nor typed",
}
"""Why something was not used, and what it means."""

LONGEST = 100
"""Characters of a name."""

MOST_BOXES = 1000
"""That are read of one answer: more faces than a photo shows are a mistake, or meant ill."""

_HOW = "docs/labelling_agreement.md says what is read; castline label pull fetches it anew"


@dataclass(frozen=True)
class Box:
    """bounds: x1, y1, x2, y2 of the upright box around the rectangle, as shares of the picture, 0 to 1. name: empty
    where there is none to use. size: width and height of the picture as it was drawn on, in pixels; (0, 0) unknown.
    """

    bounds: tuple[float, float, float, float]
    name: str
    size: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Annotation:
    """A finished answer. number: in Label Studio. labeller: the user's number. at, changed: when it was given and last
    changed, UTC, as text that sorts; empty where unknown. truth: marked as ground truth. name: said of the whole task,
    as of a cluster of faces; else empty. others: of a cluster, the numbers, from 1, of faces that are somebody else's.
    """

    number: int
    labeller: int
    at: str
    changed: str
    truth: bool
    boxes: tuple[Box, ...] = ()
    name: str = ""
    others: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Task:
    """number: in Label Studio. photo: BATCH/PATH, or what the image's address says. sha256: of the photo's file, or
    empty. faces: of a cluster, by sha256 and number; None where the task is a photo.
    """

    number: int
    photo: str
    sha256: str
    annotations: tuple[Annotation, ...]
    faces: tuple[tuple[str, int], ...] | None = None


def read_export(path: Path) -> tuple[list[Task], Counter[str]]:
    """The tasks of an export ("JSON", not JSON_MIN), in the order of their numbers, and what was not used, by PROBLEMS.

    Tasks that nobody finished are left out.

    Raises: DataError when the file is no export.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}", _HOW) from error
    if not isinstance(content, list) or (content and not any(_is_task(entry) for entry in content)):
        raise DataError(f"{path}: not what Label Studio exports as JSON, a list of tasks with annotations", _HOW)
    found, problems = [], Counter[str]()
    for entry in content:
        if not _is_task(entry):
            problems["not a task"] += 1
        elif task := _task(entry, problems):
            found.append(task)
    return sorted(found, key=lambda task: task.number), problems


def name_of(text: object) -> str | None:
    """A person's name as a folder would have it, NFC and without blanks around it; None where no folder could.

    >>> name_of(" alma "), name_of("../etc"), name_of("_strangers")
    ('alma', None, None)
    """
    if not isinstance(text, str) or len(text) > 4 * LONGEST:
        return None
    name = unicodedata.normalize("NFC", text).strip()
    usable = 0 < len(name) <= LONGEST and not name.startswith("_") and "/" not in name and shown(name) == name
    return name if usable and name not in (".", "..") else None


def _is_task(entry: Any) -> bool:
    return (
        isinstance(entry, dict) and isinstance(entry.get("data"), dict) and isinstance(entry.get("annotations"), list)
    )


def _task(entry: Mapping[str, Any], problems: Counter[str]) -> Task | None:
    data = entry["data"]
    offered = None
    if isinstance(data.get("people"), list):
        people = (one.get("value") if isinstance(one, dict) else one for one in data["people"])
        offered = {name for one in people if (name := name_of(one))} | {STRANGER}
    size = (_number(data.get("width")) or 0.0, _number(data.get("height")) or 0.0)
    faces = _cluster(data["faces"]) if "faces" in data else None
    annotations = [one for raw in entry["annotations"] if (one := _annotation(raw, faces, offered, size, problems))]
    if not entry["annotations"]:
        problems["only a draft" if entry.get("drafts") else "no annotation"] += 1
    if not annotations:
        return None
    photo, sha256 = data.get("photo"), data.get("sha256")
    return Task(
        _whole(entry.get("id")) or 0,
        photo if isinstance(photo, str) and photo else _address(data.get("image")),
        sha256.lower() if isinstance(sha256, str) and _is_sha256(sha256) else "",
        tuple(sorted(annotations, key=lambda one: (one.at, one.number))),
        faces,
    )


def _cluster(faces: Any) -> tuple[tuple[str, int], ...]:
    """Each face in its place; ("", 0) for what is none."""
    faces = faces if isinstance(faces, list) else []
    pairs = [face if isinstance(face, list) and len(face) == 2 else ("", 0) for face in faces]
    return tuple(
        (sha256.lower(), face)
        if isinstance(sha256, str) and _is_sha256(sha256) and _whole(face) is not None
        else ("", 0)
        for sha256, face in pairs
    )


def _annotation(
    raw: Any,
    faces: Sequence[tuple[str, int]] | None,
    offered: set[str] | None,
    size: tuple[float, float],
    problems: Counter[str],
) -> Annotation | None:
    """faces: of a cluster, which is named as a whole; None where the task is a photo. offered: names to choose from,
    None where the task has no list. size: of the photo, where the task has it.
    """
    result = raw.get("result") if isinstance(raw, dict) else None
    by = raw.get("completed_by") if isinstance(raw, dict) else None
    labeller = _whole(by.get("id") if isinstance(by, dict) else by)
    if not isinstance(result, list) or labeller is None:
        problems["not an annotation"] += 1
        return None
    if raw.get("was_cancelled"):
        problems["skipped"] += 1
        return None
    typed: dict[Any, list[Any]] = {}
    rectangles, chosen, others, scene = [], [], [], None
    whole = faces is not None
    for region in result:
        region = region if isinstance(region, dict) else {}
        value = region["value"] if isinstance(region.get("value"), dict) else {}
        kind, control, key = region.get("type"), region.get("from_name"), region.get("id")
        key = key if isinstance(key, str | int) else None
        if kind in ("rectanglelabels", "rectangle"):
            rectangles.append((key, region, value))
        elif kind == "textarea" and control == NAME:
            typed[key] = _texts(value.get("text"))
        elif kind == "choices" and control == SCENE:
            scene = value.get("choices")
        elif kind == "choices" and control == PERSON and whole:
            chosen = _texts(value.get("choices"))
        elif kind == "choices" and control == OTHERS and whole:
            others = _texts(value.get("choices"))
        elif control != QUALITY:
            problems["not read"] += 1

    boxes = []
    if len(rectangles) > MOST_BOXES:
        problems["too many boxes"] += len(rectangles) - MOST_BOXES
    for key, region, value in rectangles[:MOST_BOXES]:
        bounds, drawn = _bounds(region, value, size, problems)
        if bounds:
            name = _named(typed.pop(key, []), _texts(value.get("rectanglelabels")), offered, problems)
            boxes.append(Box(bounds, name, drawn))
        else:
            typed.pop(key, None)
    said = next(iter(typed.values()), []) if whole else []
    name = _named(said, chosen, offered, problems) if said or chosen else ""
    no_face = isinstance(scene, list) and NO_FACE in scene
    if no_face and boxes:
        problems["no face, but boxes"] += 1
    if not (boxes or name or (no_face and not rectangles)):
        problems["nothing said"] += 1
        return None
    return Annotation(
        number=_whole(raw.get("id")) or 0,
        labeller=labeller,
        at=_moment(raw.get("created_at")),
        changed=_moment(raw.get("updated_at")),
        truth=raw.get("ground_truth") is True,
        boxes=tuple(boxes),
        name=name,
        others=_numbers(others, len(faces or ()), problems),
    )


def _named(typed: list[Any], chosen: list[Any], offered: set[str] | None, problems: Counter[str]) -> str:
    """The name that was typed, or else the one that was chosen; empty, and counted, where it cannot be used."""
    names = typed or [name for name in chosen if name != UNNAMED]
    if len(names) != 1:
        problems["several names" if names else "no name"] += 1
        return ""
    name = name_of(names[0])
    if name is None:
        problems["bad name"] += 1
    elif not typed and offered is not None and name not in offered:
        problems["not in the list"] += 1
        return ""
    return name or ""


def _numbers(chosen: list[Any], most: int, problems: Counter[str]) -> frozenset[int]:
    """Those of `chosen` that are numbers from 1 to `most`; others are counted."""
    known = {str(number): number for number in range(1, most + 1)}
    problems.update("no such number" for one in chosen if str(one) not in known)
    return frozenset(known[str(one)] for one in chosen if str(one) in known)


def _texts(value: Any) -> list[Any]:
    """What was typed or chosen, without blanks."""
    return [one for one in (value if isinstance(value, list) else [value]) if one is not None and str(one).strip()]


def _bounds(
    region: Mapping[str, Any], value: Mapping[str, Any], size: tuple[float, float], problems: Counter[str]
) -> tuple[tuple[float, float, float, float] | None, tuple[float, float]]:
    """The upright box around a rectangle, clipped to the picture, and the picture's size; None, and counted, where it
    is no box.
    """
    drawn = (_number(region.get("original_width")) or 0.0, _number(region.get("original_height")) or 0.0)
    across, down = drawn if min(drawn) > 0 else size
    x, y, width, height = (_number(value.get(key)) for key in ("x", "y", "width", "height"))
    angle = _number(value.get("rotation", 0))
    # Turning needs the picture's proportions: percents of width and of height are not of one length.
    if x is None or y is None or width is None or height is None or angle is None or (angle and min(across, down) <= 0):
        problems["bad numbers"] += 1
        return None, drawn
    if width <= 0 or height <= 0:
        problems["no area"] += 1
        return None, drawn
    ratio = down / across if angle else 1.0  # pixels of one percent of height, in those of width
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    corners = [
        (x + w * cosine - h * ratio * sine, y + (w * sine + h * ratio * cosine) / ratio)
        for w in (0, width)
        for h in (0, height)
    ]
    x1, y1 = (min(corner[axis] for corner in corners) / 100 for axis in (0, 1))
    x2, y2 = (max(corner[axis] for corner in corners) / 100 for axis in (0, 1))
    if not (0 <= (x1 + x2) / 2 <= 1 and 0 <= (y1 + y2) / 2 <= 1):
        problems["outside the picture"] += 1
        return None, drawn
    return (max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0)), drawn


def _number(value: Any) -> float | None:
    """A finite number of a size that arithmetic bears."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e9 else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and not set(text.lower()) - set("0123456789abcdef")


def _moment(text: Any) -> str:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (TypeError, ValueError, OverflowError):
        return ""


def _address(image: Any) -> str:
    """Where the picture lies below the folder that Label Studio serves; empty where it lies elsewhere."""
    from urllib.parse import parse_qs, urlsplit

    try:
        return parse_qs(urlsplit(image).query).get("d", [""])[0] if isinstance(image, str) else ""
    except ValueError:
        return ""

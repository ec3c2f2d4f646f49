"""Files of labels without a person: JSON (decisions, Label Studio exports) and CSV, whatever they are for.

What is looked for is the name as a value of its own, and their photos, by path or by sha256. A name within a longer
text, such as a comment, is not found: `castline forget` lists the files in which it still occurs.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from castline.errors import DataError
from castline.forgetting.register import FORGOTTEN, Face, normal
from castline.photos.batches import label_of

__all__ = ["AUDIT", "Edited", "Mention", "Theirs", "edited", "label_files", "mentions", "names_in"]

AUDIT = FORGOTTEN.with_name("audit.csv")


@dataclass(frozen=True)
class Theirs:
    """A person as files of labels speak of them.

    photos: sha256 of those that are forgotten as a whole. faces: in photos of other people.
    """

    name: str
    photos: Set[str] = frozenset()
    faces: Set[Face] = frozenset()

    def named(self, value: object) -> bool:
        """Whether a value is the name, or a list with it."""
        if isinstance(value, list):
            return any(map(self.named, value))
        return isinstance(value, str) and normal(value) == self.name

    def has_folder_of(self, path: object) -> bool:
        """Whether a photo, BATCH/path or a path below a batch, lies in a folder of that name."""
        parts = [path, path.partition("/")[2]] if isinstance(path, str) else []
        return any(label is not None and label.person == self.name for label in map(label_of, parts))


@dataclass(frozen=True)
class Mention:
    """A face that a file calls theirs: by number, or by x1 y1 x2 y2, fractions of the upright photo.

    photo: BATCH/path, or "" where the file does not say.
    """

    sha256: str
    photo: str = ""
    face: int | None = None
    box: tuple[float, ...] = ()


@dataclass
class Edited:
    """A file without them. entries: how many were taken out. tasks: ids of Label Studio's that were about them."""

    text: str
    entries: int = 0
    tasks: list[int] = field(default_factory=list)


def label_files(folder: Path = FORGOTTEN.parent) -> list[Path]:
    """The files that may speak of people."""
    found = [path for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".csv") and path.is_file()]
    return [path for path in found if path.name not in (FORGOTTEN.name, AUDIT.name)]


def names_in(path: Path) -> set[str]:
    """The names that a file gives to faces, to say whom else a mistyped name could have meant."""
    if path.suffix == ".csv":
        return {row[0] for row in csv.reader(io.StringIO(_text(path))) if row} if path.name == "people.csv" else set()
    names = set()
    for entry in _entries(_content(path)):
        names |= {entry.get("person")} if isinstance(entry.get("person"), str) else set()
        for result in _results(entry):
            names |= {value for value in _texts(result) if result.get("type") in ("rectanglelabels", "textarea")}
    return {normal(name) for name in names if name}


def mentions(path: Path, name: str) -> list[Mention]:
    """The faces that a file calls by that name; a CSV speaks of none.

    Raises: DataError when it cannot be read.
    """
    theirs, found = Theirs(name), []
    for entry in _entries(_content(path)) if path.suffix == ".json" else ():
        data = _mapping(entry.get("data", entry))
        photo = data["photo"] if isinstance(data.get("photo"), str) else ""
        calling = [result for result in _results(entry) if any(map(theirs.named, _values(result)))]
        if not (calling or theirs.named(entry.get("person"))):
            continue
        if isinstance(members := data.get("faces"), list):  # a cluster: whoever names it names them all
            faces = [_face(*member) for member in members if isinstance(member, list) and len(member) == 2]
            found += [Mention(sha256, "", face) for sha256, face in faces]
        elif isinstance(data.get("face"), int):
            found.append(Mention(_face(data.get("sha256"))[0], photo, data["face"]))
        else:
            boxes = {box for result in calling if (box := _box(result))}
            found += [Mention(_face(data.get("sha256"))[0], photo, None, box) for box in sorted(boxes)]
    return [mention for mention in found if mention.sha256]


def edited(path: Path, theirs: Theirs) -> Edited:
    """The file as it is without them; what is not about them stays as it is written.

    Raises: DataError when it cannot be read.
    """
    return _csv_without(_text(path), theirs) if path.suffix == ".csv" else _json_without(path, theirs)


def _csv_without(text: str, theirs: Theirs) -> Edited:
    lines = list(io.StringIO(text, newline=""))
    reader, kept, start, gone = csv.reader(iter(lines)), [], 0, 0
    for number, row in enumerate(reader):
        about = number > 0 and any(
            theirs.named(cell) or cell.strip().lower() in theirs.photos or theirs.has_folder_of(cell) for cell in row
        )
        gone += about
        kept += [] if about else lines[start : reader.line_num]
        start = reader.line_num
    return Edited("".join(kept), gone)


def _json_without(path: Path, theirs: Theirs) -> Edited:
    content, done = _content(path), Edited("")
    left = [entry for entry in (_entry_without(entry, theirs, done) for entry in _entries(content)) if entry]
    body = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in left)
    if isinstance(content, dict):
        body = json.dumps({**content, "decisions": left}, ensure_ascii=False, indent=1) + "\n"
    else:
        body = f"[\n{body}\n]\n" if left else "[]\n"
    done.text = body if done.entries else _text(path)
    return done


def _entry_without(entry: dict[str, Any], theirs: Theirs, done: Edited) -> dict[str, Any] | None:
    """A decision or a task without them; None when nothing of it is left. Counts in `done`."""
    data = _mapping(entry.get("data", entry))
    offered = data.get("people")
    if isinstance(offered, list):
        data["people"] = [choice for choice in offered if not theirs.named(_mapping(choice).get("value"))]
    before = json.dumps(entry)
    sha256, face = _face(data.get("sha256"), data.get("face"))
    gone = (
        theirs.named(entry.get("person"))
        or theirs.named(data.get("name"))
        or theirs.has_folder_of(data.get("photo"))
        or sha256 in theirs.photos
        or (sha256, face) in theirs.faces
    )
    if not gone and "data" not in entry:
        # Who else it might be, in a decision about somebody else's face.
        entry = {key: "" if key == "why" and theirs.name in str(value) else value for key, value in entry.items()}
    elif not gone:
        gone = not _clear(entry, data, theirs)
    about = gone or json.dumps(entry) != before
    done.entries += about or data.get("people") != offered
    done.tasks += [entry["id"]] if about and isinstance(entry.get("id"), int) else []
    return None if gone else entry


def _clear(task: dict[str, Any], data: dict[str, Any], theirs: Theirs) -> bool:
    """Take them out of a task about others; whether anything is left of it."""
    if theirs.name in str(data.get("question", "")):
        data["question"] = ""
    if isinstance(members := data.get("faces"), list):
        data["faces"] = [
            member
            for member in members
            if not (isinstance(member, list) and (_face(*member) in theirs.faces or _face(*member)[0] in theirs.photos))
        ]
        if not data["faces"]:
            return False
    for kind in ("annotations", "predictions", "drafts"):
        some = task.get(kind)
        if not isinstance(some, list):
            continue
        left = []
        for one in some:
            results = _mapping(one).get("result")
            if not isinstance(results, list):
                left.append(one)
                continue
            regions = {result.get("id") for result in map(_mapping, results) if any(map(theirs.named, _values(result)))}
            rest = [result for result in results if _mapping(result).get("id") not in regions]
            # What named nobody else would say, without this, that there is no face.
            if len(rest) == len(results) or any("x" in _mapping(_mapping(r).get("value")) for r in rest):
                left.append({**one, "result": rest})
        if some and not left and kind == "annotations":
            return False
        task[kind] = left
    return True


def _entries(content: object) -> Iterator[dict[str, Any]]:
    """Decisions of castline's own format, or tasks of an export; what is neither is passed over."""
    entries = content.get("decisions") if isinstance(content, dict) else content
    yield from (entry for entry in entries if isinstance(entry, dict)) if isinstance(entries, list) else ()


def _results(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every region and choice of every annotation, prediction and draft."""
    ones = [one for kind in ("annotations", "drafts") for one in _list(task.get(kind))]
    return [_mapping(result) for one in ones for result in _list(_mapping(one).get("result"))]


def _values(result: Mapping[str, Any]) -> Iterable[object]:
    return _mapping(result.get("value")).values()


def _texts(result: Mapping[str, Any]) -> Iterator[str]:
    for value in _values(result):
        yield from (text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str))


def _box(result: Mapping[str, Any]) -> tuple[float, ...]:
    """The upright rectangle around a region that may be turned, clockwise about its top left corner; () of none."""
    value = _mapping(result.get("value"))
    try:
        x, y, width, height = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
        turn = np.radians(float(value.get("rotation") or 0))
        size = np.array([float(result.get(f"original_{side}") or 1) for side in ("width", "height")])
    except (KeyError, TypeError, ValueError):
        return ()
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) * size
    turned = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) / size + [x, y]
    found = np.clip([*turned.min(0), *turned.max(0)], 0, 1)
    return tuple(round(float(edge), 4) for edge in found) if np.isfinite(found).all() else ()


def _face(sha256: object = "", face: object = -1, *_: object) -> Face:
    """As the register has it; ("", ...) where there is no photo."""
    known = sha256.lower() if isinstance(sha256, str) and len(sha256) == 64 else ""
    return known, face if isinstance(face, int) else -1


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _content(path: Path) -> object:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}", "mend it or move it out of labels/") from error


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable: {error}", "mend it or move it out of labels/") from error

"""What was seen, in words for the page and as files to take away. Words are text, not Markdown."""

import csv
import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from castline.app.seen import Footage, Picture
from castline.curation.quality_gate import too_poor
from castline.curation.settings import CurationSettings
from castline.faces.quality import Quality
from castline.runtime import Appearance, Cast, Face, Name, Person
from castline.runtime.appearances import described_video
from castline.runtime.draw import draw
from castline.text import certainty, clock, csv_cell, short, shown

__all__ = [
    "archive",
    "described",
    "drawn",
    "file_name",
    "label",
    "margin",
    "nearest",
    "people_of",
    "pictures_csv",
    "poor",
    "quality_words",
    "rows",
    "span",
    "verdict",
]

Looked = tuple[str, Picture, Sequence[Person]]
"""A picture: what its file is called, what was seen, and who it is."""


def people_of(picture: Picture, cast: Cast) -> list[Person]:
    """The faces of a picture, left to right, named."""
    return [Person(Face(face.box, face.landmarks, face.score, face.raw), cast.name(face.raw)) for face in picture.faces]


def label(name: Name) -> str:
    """Who it is, with the confidence that it is.

    >>> label(Name(True, "alma", 0.984, 0.7, np.ones(1, np.float32), np.ones(1, np.float32)))
    'alma, 98%'
    """
    return f"{short(name.nearest)}, {certainty(name.confidence)}" if name.known else name.shown


def verdict(name: Name, cast: Cast) -> str:
    """Why a face is known, or unknown: what it was held against."""
    if cast.threshold is None:
        return "This model has no threshold: it calls everybody by a name."
    by_confidence = cast.by == "confidence"
    value = name.confidence if by_confidence else name.similarity
    what = "The confidence" if by_confidence else "The similarity to the most similar person"
    side = "at or above" if name.known else "below"
    return (
        f"{what} is {value:.2f}, {side} the threshold of {cast.threshold:.2f}: {'known' if name.known else 'unknown'}."
    )


def nearest(name: Name, people: Sequence[str], count: int = 5) -> list[tuple[str, float]]:
    """The likeliest people and their confidences, 0 to 1, best first."""
    best = np.argsort(-name.scores, kind="stable")[:count]
    return [(people[i], float(name.scores[i])) for i in best]


def margin(name: Name, people: Sequence[str]) -> str:
    """By how much the first is ahead of the second."""
    best = nearest(name, people, 2)
    if len(best) < 2:
        return "The model knows nobody else."
    (first, most), (second, less) = best
    return f"{short(first)} is ahead of {short(second)} by {(most - less) * 100:.0f} percentage points."


def poor(quality: Quality) -> str:
    """Why a face is poor, as the pipeline judges those that it learns from; or nothing."""
    return too_poor(quality, CurationSettings())


def quality_words(quality: Quality) -> str:
    """The measures of a face.

    >>> quality_words(Quality(43.2, 0.81, 120.0, 40.0, -12.0, 3.0))
    'Eyes 43 pixels apart. Sharpness 0.81. Brightness 120 of 255, contrast 40. Turned 12° to the left, tilted 3°.'
    """
    side = "right" if quality.yaw > 0 else "left"
    turned = f"Turned {abs(quality.yaw):.0f}° to the {side}" if abs(quality.yaw) >= 0.5 else "Not turned"
    return (
        f"Eyes {quality.eye_distance:.0f} pixels apart. Sharpness {quality.sharpness:.2f}. "
        f"Brightness {quality.brightness:.0f} of 255, contrast {quality.contrast:.0f}. "
        f"{turned}, tilted {abs(quality.roll):.0f}°."
    )


def rows(footage: Footage) -> list[tuple[str, bool, bytes, list[Appearance]]]:
    """Who is in a video: label, whether known, a still, and the appearances. The known first, by name."""
    found: dict[str, tuple[str, bool, bytes, list[Appearance]]] = {}
    for seen, still in zip(footage.appearances, footage.stills, strict=True):
        found.setdefault(seen.label, (seen.label, seen.known, still, []))[3].append(seen)
    return sorted(found.values(), key=lambda row: (not row[1], row[3][0].number or 0, row[0].casefold(), row[0]))


def described(name: str, seen: Picture | Footage, people: Sequence[Person] = ()) -> dict[str, Any]:
    """What goes into JSON, as `castline identify --json` has it. name: of the file. people: of a picture."""
    if isinstance(seen, Picture):
        return {"image": name, "people": [person.described() for person in people]}
    size = (seen.width, seen.height)
    return described_video(name, size, seen.length, seen.frames, seen.warning, seen.appearances)


def pictures_csv(pictures: Iterable[Looked]) -> str:
    """A row a face; names pass `csv_cell`. Boxes are in pixels of the upright picture."""
    out = io.StringIO()
    columns = ["image", "face", "known", "name", "nearest", "confidence", "similarity", "x1", "y1", "x2", "y2"]
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for name, _, people in pictures:
        for number, person in enumerate(people, 1):
            told = person.described()
            cells = {"image": csv_cell(name), "face": number, **dict(zip(columns[-4:], told["box"], strict=True))}
            cells |= {key: csv_cell(told[key]) for key in ("name", "nearest")}
            writer.writerow(told | cells)
    return out.getvalue()


def drawn(picture: Picture, people: Sequence[Person]) -> bytes:
    """The picture as JPEG with the names on it, its longest side at most 1600 pixels.

    Only what a worker encoded is decoded here, never the upload.
    """
    out = io.BytesIO()
    with Image.open(io.BytesIO(picture.shown), formats=["JPEG"]) as image:
        rgb = image.convert("RGB")
    draw(rgb, people, max(picture.width, picture.height) / max(rgb.size)).save(out, "JPEG", quality=92)
    return out.getvalue()


def archive(pictures: Iterable[Looked]) -> bytes:
    """A ZIP of the drawn pictures; no two have the same name in it."""
    out = io.BytesIO()
    taken: set[str] = set()
    with zipfile.ZipFile(out, "w") as file:  # JPEG is compressed already
        for name, picture, people in pictures:
            number, entry = 1, file_name(name, ".named.jpg")
            while entry.casefold() in taken:
                number += 1
                entry = file_name(name, f"-{number}.named.jpg")
            taken.add(entry.casefold())
            file.writestr(entry, drawn(picture, people))
    return out.getvalue()


def file_name(name: str, ending: str) -> str:
    """A name to save something by that is made of the file `name`: safe on every system.

    >>> file_name("../../Anna & Bruno?.jpg", ".csv")
    'Anna_Bruno.csv'
    """
    stem = re.split(r"[/\\]", name)[-1].rsplit(".", 1)[0]
    stem = re.sub(r"[^\w-]+", "_", shown(stem).replace("\ufffd", "_"))[:60].strip("_-")
    if not stem or re.fullmatch(r"con|prn|aux|nul|(com|lpt)[\d¹²³]", stem, re.IGNORECASE):
        stem = f"castline_{stem}".rstrip("_")
    return f"{stem}{ending}"


def span(seen: Appearance) -> str:
    """When somebody is on screen, in words."""
    return f"{clock(seen.start)} to {clock(seen.end)}"

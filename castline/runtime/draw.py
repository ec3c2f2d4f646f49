"""Names and confidences drawn on a picture."""

import unicodedata
from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw, ImageFont

from castline.runtime.recognizer import Person
from castline.text import certainty

__all__ = ["Box", "draw", "draw_labels", "printable"]

Box = tuple[float, float, float, float]

_INK = (255, 255, 255)
# Blue and vermilion of the Okabe-Ito palette, told apart by every kind of colour vision.
_KNOWN, _UNKNOWN = (0, 114, 178), (213, 94, 0)


def draw(image: Image.Image, people: Sequence[Person], scale: float = 1.0) -> Image.Image:
    """A copy of `image` (RGB) with a frame and a label for each person.

    scale: pixels of the people's boxes per pixel of `image`.
    """
    labels = []
    for person in people:
        x1, y1, x2, y2 = (edge / scale for edge in person.face.box)
        sure = f"  {certainty(person.name.confidence)}" if person.name.known else ""
        labels.append(((x1, y1, x2, y2), printable(person.name.shown) + sure, person.name.known))
    return draw_labels(image, labels)


def draw_labels(image: Image.Image, labels: Iterable[tuple[Box, str, bool]]) -> Image.Image:
    """A copy of `image` (RGB) with frames and what is said of them.

    labels: x1 y1 x2 y2 in pixels of `image`, what to write, and whether it is somebody known.
    """
    picture = image.copy()
    pen = ImageDraw.Draw(picture)
    unit = max(picture.size) / 1000
    font = ImageFont.load_default(size=max(11.0, 20 * unit))
    margin, line = max(2, round(4 * unit)), max(2, round(3 * unit))
    for (x1, y1, x2, y2), text, known in labels:
        colour = _KNOWN if known else _UNKNOWN
        pen.rectangle((x1, y1, x2, y2), outline=colour, width=line)
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        width, height = right - left + 2 * margin, bottom - top + 2 * margin
        x = min(max(0.0, x1), max(0.0, picture.width - width))
        y = y1 - height if y1 >= height else min(y2, picture.height - height)
        pen.rectangle((x, y, x + width, y + height), fill=colour)
        pen.text((x + margin - left, y + margin - top), text, fill=_INK, font=font)
    return picture


def printable(name: str, limit: int = 40) -> str:
    """A name on one line, without control or text-direction characters, which come from file names as they are.

    >>> printable("Ann\\nMarie")
    'Ann Marie'
    """
    kept = "".join(" " if c.isspace() else c for c in name if c.isspace() or unicodedata.category(c)[0] != "C")
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"

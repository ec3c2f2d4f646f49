"""Names and confidences drawn on a picture."""

import unicodedata
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from castline.runtime.recognizer import Person

__all__ = ["draw"]

_INK = (255, 255, 255)
# Blue and vermilion of the Okabe-Ito palette, told apart by every kind of colour vision.
_KNOWN, _UNKNOWN = (0, 114, 178), (213, 94, 0)


def draw(image: Image.Image, people: Sequence[Person], scale: float = 1.0) -> Image.Image:
    """A copy of `image` (RGB) with a frame and a label for each person.

    scale: pixels of the people's boxes per pixel of `image`.
    """
    picture = image.copy()
    pen = ImageDraw.Draw(picture)
    unit = max(picture.size) / 1000
    font = ImageFont.load_default(size=max(11.0, 20 * unit))
    margin, line = max(2, round(4 * unit)), max(2, round(3 * unit))
    for person in people:
        x1, y1, x2, y2 = (edge / scale for edge in person.face.box)
        colour = _KNOWN if person.name.known else _UNKNOWN
        pen.rectangle((x1, y1, x2, y2), outline=colour, width=line)
        text = printable(person.name.shown) + (f"  {person.name.confidence:.0%}" if person.name.known else "")
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

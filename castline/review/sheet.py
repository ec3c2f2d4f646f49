"""The contact sheet: one HTML page that opens anywhere, offline; names in it are escaped and made visible."""

import base64
import io
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from PIL import Image

from castline.review.cases import Person
from castline.text import short

__all__ = ["render_sheet"]

SIDE = 160  # pixels of a face on the page


def render_sheet(people: Sequence[Person], left: int = 0) -> str:
    """The page as HTML; equal content gives equal bytes. left: cases that there was no room for."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"short": short, "picture": _picture}
    template = files(__package__).joinpath("review.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        people=people, left=left, side=SIDE, count=sum(len(person.cases) for person in people)
    )


def _picture(chip: bytes) -> str:
    with Image.open(io.BytesIO(chip)) as image:
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"

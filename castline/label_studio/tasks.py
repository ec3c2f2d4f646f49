"""What Label Studio's tasks are made of: the address of a photo that stays where it lies, and rectangles on it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from castline.errors import ConfigError
from castline.labels.form import STRANGER, UNNAMED
from castline.photos.batches import label_of

__all__ = ["below", "first_label", "photo_address", "rectangle"]


def photo_address(path: str) -> str:
    """Where the server has the photo at `path`, `/` between its parts, below its document root.

    >>> photo_address("data/first/what?.jpg")
    '/data/local-files/?d=data/first/what%3F.jpg'
    """
    return f"/data/local-files/?d={quote(path, safe='/')}"


def below(root: Path, path: Path) -> str:
    """The path of `path` below `root`: as it is written, or else as links lead.

    Raises: ConfigError when it does not lie there.
    """
    for top, inner in ((root, path), (root.absolute(), path.absolute()), (root.resolve(), path.resolve())):
        if inner.is_relative_to(top):
            return inner.relative_to(top).as_posix()
    raise ConfigError(f"{path.resolve()} does not lie below {root}", "--root FOLDER: the one that Label Studio serves")


def first_label(photo: str, person: str, alone: bool) -> tuple[str, str]:
    """What a face's box says before anybody has looked, and on whose word: folder, model, nobody.

    photo: its path below the batch. person: whom the model names, or empty. alone: whether it is the photo's only face.
    Nobody's word makes it a stranger: who confirms without looking would.
    """
    folder = label_of(photo)
    if folder and alone:
        return STRANGER if folder.stranger else folder.person, "folder"
    return (person, "model") if person else (UNNAMED, "nobody")


def rectangle(
    number: int, control: str, label: str, box: Sequence[float], size: tuple[int, int], score: float | None = None
) -> dict[str, Any]:
    """Face `number` as a region of a prediction.

    control: the name of the rectangles in the form. box: x1 y1 x2 y2 in pixels of the upright photo, cut off at its
    edges. size: width and height of that. score: 0 to 1, shown with it.
    """
    width, height = size
    x1, x2 = (min(max(float(x) / width, 0.0), 1.0) * 100 for x in (box[0], box[2]))
    y1, y2 = (min(max(float(y) / height, 0.0), 1.0) * 100 for y in (box[1], box[3]))
    place = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
    return {
        "id": f"face{number}",
        "type": "rectanglelabels",
        "from_name": control,
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**{key: round(value, 3) for key, value in place.items()}, "rotation": 0, "rectanglelabels": [label]},
        **({} if score is None else {"score": round(score, 3)}),
    }

"""Chips of the sample cast, cut by the boxes that are known of it: no detector is needed to test what comes after."""

import io
import json
from pathlib import Path

from PIL import Image

from castline.faces.align import CHIP_SIZE


def sample_chips(sample: Path, each: int) -> tuple[list[bytes], list[str]]:
    """The first `each` faces of every person of the first delivery: chips in JPEG, and names."""
    chips, names = [], []
    for path, known in json.loads((sample / "photos.json").read_text()).items():
        _, delivery, person, *_ = path.split("/")
        if delivery == "first" and person != "_strangers" and names.count(person) < each:
            left, top, width, height = known["box"]
            # On a chip, a face is about 150 pixels wide and its centre a little below the middle.
            side = width * CHIP_SIZE / 150
            x, y = left + width / 2 - 0.5 * side, top + height / 2 - 0.56 * side
            with Image.open(sample / path) as photo:
                chip = photo.convert("RGB").transform(
                    (CHIP_SIZE, CHIP_SIZE),
                    Image.Transform.EXTENT,
                    (x, y, x + side, y + side),
                    Image.Resampling.BICUBIC,
                )
            file = io.BytesIO()
            chip.save(file, "JPEG", quality=95)
            chips.append(file.getvalue())
            names.append(person)
    return chips, names

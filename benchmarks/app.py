"""How quick the app is.

    python benchmarks/app.py models/recognizer
    python benchmarks/app.py models/recognizer --only video

picture: a group photo of 12 megapixels, made of the sample's scenes. From its bytes to the names of everybody in it:
cold, in the first process that is started; then warm, the median of some others of the size.
video: the sample's clip, likewise from its bytes.

Rows are appended to a CSV beside this file.
"""

import argparse
import io
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image, ImageOps
from record import command_line, record

from castline.app.limits import Limits
from castline.app.models import Model, open_model
from castline.app.work import Job, Workers
from castline.text import table

ROOT = Path(__file__).parents[1]
REPEATS = 5
SIZE = (4000, 3000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a released model")
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "app.csv", help="rows are appended")
    options = parser.parse_args()
    model = open_model("workspace", options.bundle)
    rows: list[tuple[str, str, str, object]] = []
    for part in options.only:
        rows += [("app", part, measure, value) for measure, value in PARTS[part](model)]
    print(table([("", "measure", "value"), *((name, measure, str(value)) for _, name, measure, value in rows)], {2}))
    record(options.csv, command_line(options.bundle), rows)


def picture(model: Model) -> Iterator[tuple[str, object]]:
    """Bytes to names."""
    photos = [group_photo(number) for number in range(REPEATS + 1)]
    took, inside, faces = [], [], []
    with closing(Workers(Limits())) as workers:
        for data in photos:
            start = time.perf_counter()
            seen = ended(workers.picture(data, model))
            names = [model.cast.name(face.raw) for face in seen.faces]
            took.append(time.perf_counter() - start)
            inside.append(seen.seconds)
            faces.append(len(names))
    yield "megapixels", SIZE[0] * SIZE[1] / 1e6
    yield "file_mb", round(median(len(data) for data in photos) / 1e6, 1)
    yield "faces", median(faces[1:])
    yield "cold_s", round(took[0], 2)
    yield "warm_s", round(median(took[1:]), 2)
    yield "of_which_looking_s", round(median(inside[1:]), 2)


def video(model: Model) -> Iterator[tuple[str, object]]:
    """Bytes to appearances."""
    data = (ROOT / "sample/clip.mp4").read_bytes()
    took = []
    with closing(Workers(Limits())) as workers:
        for number in range(REPEATS + 1):
            start = time.perf_counter()
            seen = ended(workers.video(data + bytes([number]), model, model.cast))  # what follows its end is no matter
            took.append(time.perf_counter() - start)
    yield "seconds", seen.length
    yield "appearances", len(seen.appearances)
    yield "cold_s", round(took[0], 2)
    yield "warm_s", round(median(took[1:]), 2)
    yield "times_real_time", round(seen.length / median(took[1:]), 1)


PARTS = {"picture": picture, "video": video}


def group_photo(first: int) -> bytes:
    """Four of the sample's scenes side by side, as JPEG."""
    scenes = sorted((ROOT / "sample" / "scenes").glob("*.jpg"))
    quarter = SIZE[0] // 2, SIZE[1] // 2
    photo, file = Image.new("RGB", SIZE), io.BytesIO()
    for place in range(4):
        with Image.open(scenes[(first + place) % len(scenes)]) as scene:
            photo.paste(ImageOps.fit(scene, quarter), (place % 2 * quarter[0], place // 2 * quarter[1]))
    photo.save(file, "JPEG", quality=90)
    return file.getvalue()


def ended(job: Job) -> Any:
    """What was seen."""
    job.wait()
    if job.result is None:
        raise SystemExit(job.error)
    return job.result


if __name__ == "__main__":
    main()

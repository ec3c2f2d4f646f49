"""Many unknown faces named at once: those that are alike on one sheet, which is a task of Label Studio.

Sheets are pictures of faces, and so biometric data. They lie in the project's build/, which git leaves alone, are named
by the faces on them, and go when their cluster is no longer asked about.
"""

import hashlib
import io
import json
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont

from castline.curation.settings import CurationSettings
from castline.errors import ConfigError
from castline.files import tables
from castline.label_studio.faces import SAME_PERSON, read_faces
from castline.label_studio.linkage import linked
from castline.labels.form import STRANGER
from castline.photos.batches import check_name
from castline.runtime import Name

__all__ = ["SHEETS", "cluster_tasks", "parted", "sheet"]

SHEETS = Path("build/label/clusters")
"""Where sheets lie, below the project's folder, which Label Studio serves."""

_FACE, _STRIP, _ACROSS = 128, 22, 10  # pixels of a face and of the number below it; faces in a row


def cluster_tasks(
    batch: str,
    batches: Sequence[str],
    people: Sequence[str],
    labelled: Collection[str] = (),
    named: Sequence[Name] | None = None,
    project: Path = Path(),
    settings: CurationSettings | None = None,
    said: Collection[tuple[str, int]] = (),
    min_faces: int = 3,
    least: float = SAME_PERSON,
    most: int = 60,
) -> list[dict[str, Any]]:
    """A task for each cluster of faces of `batch` that nobody has named, the largest first; and their sheets, written.

    people: names to choose from. batches, labelled, named, settings, said: see castline.label_studio.faces.read_faces;
    faces that the model names are left out. min_faces: smaller clusters are left out. least: the mean cosine between
    two clusters from which they are one. most: faces on a sheet; a larger cluster has several, its most typical faces
    on the first. project: its folder.

    The same faces give the same tasks and sheets. Sheets of the batch that were written before and are not among
    these are removed: pull what was said of them first.

    Raises: ConfigError for numbers that cannot be; DataError when a table is absent.
    """
    if min_faces < 2 or most < min_faces or not 0 < least < 1:
        raise ConfigError(
            f"clusters of {min_faces} to {most} faces with a similarity of {least:g}",
            "wanted are 2 faces or more, at least as many on a sheet, and a similarity above 0 and below 1",
        )
    faces = read_faces(batch, batches, labelled, named, project / "build", settings, said)
    # A file that lies in the batch twice is asked about once.
    asked = list({_key(faces.rows[i]): i for i in reversed(faces.open) if not faces.known([i])[0]}.values())[::-1]
    vectors = faces.vectors[asked]
    sheets = [
        [asked[row] for row in part]
        for cluster in linked(vectors, least)
        if len(cluster) >= min_faces
        for part in parted(sorted(cluster, key=lambda row: -float(vectors[row] @ vectors[cluster].mean(0))), most)
    ]
    folder = project / SHEETS / check_name(batch)
    folder.mkdir(parents=True, exist_ok=True)
    chips = tables.read(project / "build" / "faces" / f"{batch}.parquet", ["chip"]).column("chip")
    choices = [{"value": name} for name in [*people, STRANGER]]
    tasks, written = [], set[str]()
    for part in sheets:
        members = [list(_key(faces.rows[i])) for i in part]
        cluster = hashlib.sha256(json.dumps(members).encode()).hexdigest()[:16]
        path = folder / f"{cluster}.jpg"
        if not path.exists():
            rows = pa.array([faces.rows[i]["row"] for i in part], pa.int64())
            unfinished = path.with_suffix(".part")
            unfinished.write_bytes(sheet(chips.take(rows).to_pylist()))
            unfinished.replace(path)
        tasks.append(
            {
                "data": {
                    "image": f"/data/local-files/?d={quote((SHEETS / batch / path.name).as_posix(), safe='/')}",
                    "question": f"{len(part)} faces that are alike",
                    "cluster": cluster,
                    "faces": members,
                    "people": choices,
                    "numbers": [{"value": str(number)} for number in range(1, len(part) + 1)],
                },
                "predictions": [],
            }
        )
        written.add(path.name)
    for old in folder.iterdir():
        if old.name not in written:
            old.unlink()
    return tasks


def _key(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["photo_sha256"], row["face"]


def parted(rows: Sequence[int], most: int) -> list[list[int]]:
    """`rows` in parts of nearly equal length, `most` at most.

    >>> parted(range(7), 3)
    [[0, 1, 2], [3, 4], [5, 6]]
    """
    count = max(1, math.ceil(len(rows) / most))
    size, longer = divmod(len(rows), count)
    starts = [part * size + min(part, longer) for part in range(count + 1)]
    return [list(rows[start:stop]) for start, stop in pairwise(starts)]


def sheet(chips: Sequence[bytes]) -> bytes:
    """The JPEG of a sheet of faces, ten in a row, each above its number.

    chips: JPEGs of any size. The same chips give the same bytes.
    """
    across = min(_ACROSS, len(chips))
    picture = Image.new("RGB", (across * _FACE, math.ceil(len(chips) / across) * (_FACE + _STRIP)), (255, 255, 255))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=16)
    for i, chip in enumerate(chips):
        x, y = i % across * _FACE, i // across * (_FACE + _STRIP)
        with Image.open(io.BytesIO(chip)) as face:
            picture.paste(face.convert("RGB").resize((_FACE, _FACE), Image.Resampling.LANCZOS), (x, y))
        pen.text((x + _FACE / 2, y + _FACE + _STRIP / 2), str(i + 1), fill=(0, 0, 0), font=font, anchor="mm")
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()

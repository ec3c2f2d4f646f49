"""A batch of photos becomes rows: one for each face, one for each photo that has none to offer.

Photos are independent of each other, so they are spread over processes; rows come back in the photos' order.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Any

from PIL import Image

from castline.errors import CastlineError
from castline.faces.align import align
from castline.faces.detection import Detector
from castline.faces.detectors import build
from castline.faces.find import find_faces
from castline.faces.hashing import hash_of
from castline.faces.quality import quality_of
from castline.faces.settings import DetectorSettings
from castline.photos.batches import Entry
from castline.photos.decode import Rejected, decode, read
from castline.photos.settings import PhotoSettings

__all__ = ["Extracted", "extract", "extract_photo"]

# Nearly lossless, at about 20 kB a chip: base models see what the detector cut, not what a codec left of it.
_JPEG: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0}


@dataclass(frozen=True)
class Extracted:
    """What one file gave: rows of the faces table, or one row of the rejects table (without the batch's name)."""

    faces: list[dict[str, Any]] = field(default_factory=list)
    reject: dict[str, Any] | None = None


def extract_photo(entry: Entry, detector: Detector, photos: PhotoSettings, settings: DetectorSettings) -> Extracted:
    """Decode one photo, find its faces, align and measure each. Never raises for what is in the file."""
    try:
        if entry.problem:
            raise Rejected(entry.problem, entry.detail)
        photo = decode(read(entry.path, photos), photos)
        found = find_faces(photo.image, detector, settings)
        if not len(found):
            raise Rejected("no_face", f"{photo.width}×{photo.height}, {settings.name}")
    except Rejected as rejected:
        return Extracted(reject={"photo": entry.name, "reason": rejected.reason, "detail": rejected.detail})
    upright = found.moved(photo.scale)
    faces = []
    for face in range(len(found)):
        chip = align(photo.image, found.landmarks[face])
        quality = quality_of(chip, upright.landmarks[face])
        faces.append(
            {
                "photo": entry.name,
                "face": face,
                "photo_sha256": photo.sha256,
                "photo_width": photo.width,
                "photo_height": photo.height,
                "box": upright.boxes[face],
                "landmarks": upright.landmarks[face].ravel(),
                "score": float(upright.scores[face]),
                **vars(quality),
                "chip_hash": hash_of(chip),
                "chip": _jpeg(chip),
            }
        )
    return Extracted(faces=faces)


def extract(
    entries: Sequence[Entry], photos: PhotoSettings, settings: DetectorSettings, workers: int
) -> Iterator[Extracted]:
    """`extract_photo` over many photos, in their order, on `workers` processes.

    Raises: CastlineError before any work when the detector cannot be built, and when a process is killed (as the
    system does when memory runs out).
    """
    detector = build(settings)
    if workers == 1 or len(entries) < 2 * workers:
        yield from (extract_photo(entry, detector, photos, settings) for entry in entries)
        return
    # Spawned, not forked: LiteRT and OpenCV hold threads, which a fork would copy in the middle of their work.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(photos, settings)) as pool:
        try:
            yield from pool.map(_extract_here, entries, chunksize=4)
        except BrokenProcessPool as error:
            raise CastlineError(
                "a worker process was killed, most likely because memory ran out",
                f"use fewer workers (now {workers}): CASTLINE_WORKERS={max(1, workers // 2)}",
            ) from error
        except GeneratorExit:
            pool.shutdown(cancel_futures=True)
            raise


_work: partial[Extracted] | None = None


def _start(photos: PhotoSettings, settings: DetectorSettings) -> None:
    """Build a worker's detector, once."""
    global _work
    _work = partial(extract_photo, detector=build(settings), photos=photos, settings=settings)


def _extract_here(entry: Entry) -> Extracted:
    if _work is None:
        raise RuntimeError("a worker was not started by _start")
    return _work(entry)


def _jpeg(chip: Image.Image) -> bytes:
    buffer = BytesIO()
    chip.save(buffer, **_JPEG)
    return buffer.getvalue()

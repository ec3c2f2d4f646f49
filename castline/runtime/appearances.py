"""Who is on screen when: the faces of a video, followed, and each track named once, so that nobody is twice in a frame.

>>> from castline.runtime import Recognizer, watch
>>> timeline = watch(Recognizer("models/recognizer"), "clip.mp4")    # doctest: +SKIP
>>> [(seen.name, seen.start, seen.end) for seen in timeline.appearances]    # doctest: +SKIP
[('alma', 0.0, 3.4), ('kamal', 1.6, 5.4), ('haruto', 4.0, 7.0)]
"""

import csv
import io
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from castline.faces.detection import Detections
from castline.photos.decode import Photo
from castline.runtime.cast import Name
from castline.runtime.draw import draw_labels, printable
from castline.runtime.recognizer import Recognizer
from castline.runtime.tracking import Track, Tracker, TrackingSettings
from castline.runtime.video import Video
from castline.text import csv_cell

__all__ = ["FPS", "Appearance", "Timeline", "appearances_csv", "described_video", "name_tracks", "watch"]

T = TypeVar("T")
# Frames looked at in a second, unless the video has fewer: a walking face still overlaps itself from one to the next.
FPS = 12.0


@dataclass(frozen=True)
class Appearance:
    """Somebody is on screen from `start` until just before `end`, seconds from the first frame.

    name: of the person, or "unknown". number: counts the unknown from 1; None for a known person. known, nearest,
    confidence, similarity: as of a face (`Name`), of all that was seen of the face meanwhile.
    """

    name: str
    number: int | None
    known: bool
    start: float
    end: float
    nearest: str
    confidence: float
    similarity: float

    @property
    def label(self) -> str:
        """What to write next to the face.

        >>> Appearance("unknown", 2, False, 0.0, 1.0, "anna", 0.4, 0.1).label
        'unknown 2'
        """
        return self.name if self.number is None else f"{self.name} {self.number}"


@dataclass(frozen=True, eq=False)
class Timeline:
    """What was found in a video.

    video: the file. width, height: of its upright frames, pixels. seconds: its length. frames: how many were looked at.
    warning: what could not be read, or "". appearances: by start, then end. tracks: the appearance that a track is part
    of. boxes: row, track, x1, y1, x2, y2 of each face that was found, flat, if they were to be kept; row counts the
    frames that were looked at, from 0.
    """

    video: Video
    appearances: tuple[Appearance, ...]
    tracks: Mapping[int, Appearance]
    boxes: "array[float] | None"

    def described(self) -> dict[str, Any]:
        """What goes into JSON: see docs/video.md."""
        video = self.video
        return described_video(
            video.name, (video.width, video.height), video.seconds, video.frames, video.warning, self.appearances
        )

    def csv(self) -> str:
        """The appearances, a row each; names pass `csv_cell`."""
        return appearances_csv(self.appearances)

    def drawn(self) -> Iterator[tuple[float, Image.Image]]:
        """The frames that were looked at, read again, with the names; each with its time in seconds."""
        boxes = np.array(self.boxes if self.boxes is not None else [], np.float64).reshape(-1, 6)
        first = np.searchsorted(boxes[:, 0], np.arange(self.video.frames + 1))
        for row, (time, photo) in enumerate(self.video):
            rows = boxes[first[row] : first[row + 1]]
            labels = []
            for _, track, *box in rows.tolist():
                if (seen := self.tracks.get(int(track))) is not None:
                    x1, y1, x2, y2 = (edge / photo.scale for edge in box)
                    labels.append(((x1, y1, x2, y2), printable(seen.label), seen.known))
            yield time, draw_labels(photo.image, labels)


class Namer(Protocol):
    """What of a `Recognizer` names tracks."""

    @property
    def people(self) -> tuple[str, ...]:
        """Everybody there is."""
        ...

    def name(
        self, raw: NDArray[np.float32], similarities: NDArray[np.float32] | None = None, but: Collection[str] = ()
    ) -> Name:
        """Whose a raw embedding (D,) is, if it is none of `but`. similarities: (P,), to hold against the threshold."""
        ...


def watch(
    recognizer: Recognizer,
    source: str | Path | bytes,
    fps: float = FPS,
    settings: TrackingSettings | None = None,
    keep_boxes: bool = False,
    told: Callable[[Video], None] | None = None,
    seen: Callable[[Photo, Detections, NDArray[np.int32]], None] | None = None,
) -> Timeline:
    """Who is on screen when in a video. Of a damaged one, who is in what can be read; `Timeline.video.warning` says so.

    source: the file, or its bytes. fps: frames looked at in a second, at most. keep_boxes: to draw the names
    afterwards. told: called after each frame, with how far it is; what it raises ends the matter. seen: called with
    each frame, its faces in pixels of `Photo.image`, and the numbers of their tracks, (N,).

    Raises: DataError when nothing of the file can be read as a video; MissingExtra without PyAV.
    """
    video = Video(source if isinstance(source, bytes) else Path(source), fps, recognizer.photos)
    settings = settings or TrackingSettings()
    tracker = Tracker(settings, recognizer.centred, recognizer.similarities)
    boxes = array("d") if keep_boxes else None
    # Finding is one model and embedding another, so each may have a thread.
    for row, (time, photo, found) in enumerate(_ahead((time, photo, recognizer.find(photo)) for time, photo in video)):
        numbers = tracker.update(time, found.boxes, found.scores, partial(_embed, recognizer, photo, found))
        if boxes is not None:
            for number, box in zip(numbers, found.moved(photo.scale).boxes, strict=True):
                boxes.extend((row, number, *box))
        if seen is not None:
            seen(photo, found, numbers)
        if told is not None:
            told(video)
    names = name_tracks(tracks := tracker.finish(video.seconds), recognizer)
    appearances = _appearances(tracks, names, settings.gap)
    by_start = sorted(appearances, key=lambda seen: (seen[0].start, seen[0].end, seen[0].name))
    return Timeline(
        video,
        tuple(appearance for appearance, _ in by_start),
        {number: appearance for appearance, numbers in by_start for number in numbers},
        boxes,
    )


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; while one is worked on, another thread makes the next."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _embed(recognizer: Recognizer, photo: Photo, found: Detections, row: int) -> NDArray[np.float32]:
    return recognizer.embed(photo, found.landmarks[row])


def name_tracks(tracks: Sequence[Track], namer: Namer) -> dict[int, Name]:
    """A name for each track's number, such that no two tracks that share a moment share a person.

    Of two that do, the one with more evidence has the name: similarity, which counts for less where few faces were
    looked at. The other is taken for the next likeliest person, if it is known as that one, too; otherwise it is
    unknown. In which order the tracks come is no matter, as long as no two have the same evidence.
    """
    likeliest = {track.number: namer.name(track.pooled, track.similar) for track in tracks}

    def evidence(track: Track) -> float:
        return likeliest[track.number].similarity * track.faces / (track.faces + 1)

    taken: dict[str, list[Track]] = {}
    names = {}
    for track in sorted(tracks, key=lambda track: (-evidence(track), track.number)):
        name = likeliest[track.number]
        if name.known and any(_overlap(track, other) for other in taken.get(name.nearest, ())):
            present = {person for person, others in taken.items() if any(_overlap(track, other) for other in others)}
            left = len(present) < len(namer.people)
            name = namer.name(track.pooled, track.similar, present) if left else replace(name, known=False)
        if name.known:
            taken.setdefault(name.nearest, []).append(track)
        names[track.number] = name
    return names


def _overlap(one: Track, other: Track) -> bool:
    return one.start < other.end and other.start < one.end


def _appearances(tracks: Sequence[Track], names: Mapping[int, Name], gap: float) -> list[tuple[Appearance, list[int]]]:
    """The tracks of each person put together where less than `gap` seconds lie between; the unknown one by one."""
    found: list[tuple[Appearance, list[int]]] = []
    last: dict[str, int] = {}
    unknown = 0
    for track in sorted(tracks, key=lambda track: (track.start, track.number)):
        name = names[track.number]
        unknown += not name.known
        this = Appearance(
            name.shown,
            None if name.known else unknown,
            name.known,
            track.start,
            track.end,
            name.nearest,
            name.confidence,
            name.similarity,
        )
        place = last.get(name.nearest) if name.known else None
        if place is not None and track.start - found[place][0].end <= gap:
            before, numbers = found[place]
            surer = max(before, this, key=lambda seen: seen.similarity)
            found[place] = replace(surer, start=before.start, end=max(before.end, this.end)), [*numbers, track.number]
            continue
        if name.known:
            last[name.nearest] = len(found)
        found.append((this, [track.number]))
    return found


def described_video(
    name: str,
    size: tuple[int, int],
    seconds: float,
    frames: int,
    warning: str,
    appearances: Sequence[Appearance],
) -> dict[str, Any]:
    """What goes into JSON of a video: see docs/video.md. name: of the file. size: width and height."""
    return {
        "video": name,
        "width": size[0],
        "height": size[1],
        "seconds": round(seconds, 3),
        "frames": frames,
        "warning": warning,
        "appearances": [_rounded(appearance) for appearance in appearances],
    }


def appearances_csv(appearances: Sequence[Appearance]) -> str:
    """A row each; names pass `csv_cell`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [field.name for field in fields(Appearance)], lineterminator="\n")
    writer.writeheader()
    for appearance in appearances:
        row = _rounded(appearance)
        writer.writerow(row | {key: csv_cell(row[key]) for key in ("name", "nearest")})
    return out.getvalue()


def _rounded(appearance: Appearance) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(appearance).items()}

"""The process in which uploads are decoded: a picture or a video in, what is seen in it out.

    python -m castline.app.worker DESCRIPTOR

Started by castline.app.work, which holds the other end of the socket. Pixels of any origin are decoded here and nowhere
else, so whatever they do to a decoder, they do to this process.
"""

import gc
import io
import os
import resource
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from castline.app.models import open_model
from castline.app.seen import Footage, Message, Picture, SeenFace, receive, send
from castline.errors import BundleError, DataError, MissingExtra
from castline.faces.align import align, four_points
from castline.faces.detection import Detections
from castline.faces.quality import quality_of
from castline.photos.decode import Photo, Rejected, decode
from castline.runtime import Appearance, Cast, Recognizer, watch
from castline.runtime.video import Video
from castline.scoring import Scorer

__all__ = ["SHOWN_SIDE", "main"]

SHOWN_SIDE = 1600
_CHIP_SIDE = 128
_MODELS = 4  # kept open
_TELL_EVERY = 0.2  # seconds
# Memory of its own that it may take. A PNG of 80 megapixels with transparency takes 1.7 GB on its way. It is
# not the address space that is limited, of which LiteRT and FFmpeg map far more than they use.
_MEMORY = 4 << 30
_LONGEST = 2**31 - 1  # of a message: the asker is trusted, and has limits of its own


class Refused(Exception):
    """What to tell the visitor. again: whether it may go better another time."""

    def __init__(self, words: str, again: bool = False) -> None:
        super().__init__(words)
        self.words, self.again = words, again


def main() -> None:
    """Answer one message after another."""
    _hardened()
    connection = Connection(int(sys.argv[1]))
    asked: SimpleQueue[Message] = SimpleQueue()
    Thread(target=_read, args=(connection, asked), daemon=True).start()
    models = Models()
    gc.freeze()
    send(connection, Message({"ready": True}))
    while True:
        send(connection, _answer(connection, models, asked.get()))
        gc.collect()  # an error and the frames that it came through hold each other, and in these is the upload


def _hardened() -> None:
    """No dump of memory, which holds uploads, on disk; and where memory is short, this goes rather than the server."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")


def _read(connection: Connection, asked: "SimpleQueue[Message]") -> None:
    """Take in what is asked; when nobody asks any more, end, whatever is under way."""
    try:
        while True:
            asked.put(receive(connection, _LONGEST))
    finally:
        os._exit(0)


def _answer(connection: Connection, models: "Models", message: Message) -> Message:
    said, blobs = message
    try:
        recognizer = models.open(said["folder"], said["file"], said["key"], said["megapixels"])
        if said["do"] == "picture":
            done = _picture(recognizer, blobs[0]).message()
        else:
            done = _video(recognizer, blobs[0], blobs[1], said, connection).message()
        return Message({"done": done.said}, done.blobs)
    except Refused as refused:
        return Message({"failed": refused.words, "again": refused.again})
    except MemoryError:
        return Message({"failed": "It takes more memory than there is for one file. Make it smaller.", "again": False})
    except Exception:
        traceback.print_exc()
        return Message({"failed": "It could not be looked at; the server's log says more.", "again": True})


class Models:
    """Those that were used last, open."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str, str], Recognizer] = {}

    def open(self, folder: str, file: str, key: str, megapixels: float) -> Recognizer:
        """A model as the app knows it by its key. Raises: Refused when it is not there any more."""
        which = folder, file, key
        recognizer = self._open.pop(which, None)
        if recognizer is None:
            try:
                recognizer = Recognizer(folder, file)
                found = open_model("", Path(folder), file).key
            except BundleError as error:
                print(error, file=sys.stderr)
                raise Refused("The model cannot be opened any more. Choose it again.", again=True) from error
            if found != key:
                raise Refused("The model was changed in the meantime. Load the page again.", again=True)
            photos = recognizer.photos
            recognizer.photos = replace(photos, max_megapixels=min(photos.max_megapixels, megapixels))
        self._open[which] = recognizer
        while len(self._open) > _MODELS:
            del self._open[next(iter(self._open))]
        return recognizer


def _picture(recognizer: Recognizer, data: bytes) -> Picture:
    start = time.perf_counter()
    try:
        photo = decode(data, recognizer.photos)
    except Rejected as rejected:
        raise Refused(_in_words(rejected, recognizer)) from rejected
    faces = []
    for face in recognizer.faces(photo):
        chip = align(photo.image, face.landmarks / np.float32(photo.scale))
        quality = quality_of(chip, face.landmarks)
        faces.append(SeenFace(face.box, face.landmarks, face.score, face.raw, quality, _jpeg(chip, _CHIP_SIDE)))
    shown = _jpeg(photo.image, SHOWN_SIDE)
    return Picture("", photo.width, photo.height, shown, tuple(faces), time.perf_counter() - start)


def _in_words(rejected: Rejected, recognizer: Recognizer) -> str:
    """What to tell of a picture, and what to do."""
    match rejected.reason:
        case "empty_file":
            return "The file is empty. Choose it again."
        case "not_a_picture":
            return f"This is not a picture: {rejected.detail}. Choose a JPEG, PNG or WebP file."
        case "too_many_pixels":
            return f"The picture has more than {recognizer.photos.max_megapixels:g} megapixels. Make it smaller."
        case "too_small":
            return (
                f"The picture is too small: it takes {recognizer.photos.min_side} pixels a side, and more for a face."
            )
        case "truncated":
            return "The picture is cut off. Copy or download it again."
    return "The picture is damaged, or of a kind that cannot be read. Save it again as JPEG."


def _video(recognizer: Recognizer, data: bytes, head: bytes, said: Any, connection: Connection) -> Footage:
    start = told = time.perf_counter()
    longest = 60 * said["minutes"]
    stills: dict[int, tuple[float, bytes]] = {}

    def tell(video: Video) -> None:
        nonlocal told
        length = max(video.stated or 0.0, video.seconds)
        if length > longest + 1:
            words = (
                f"The video takes {length / 60:.1f} minutes; the limit is {said['minutes']:g}. Cut it, and try that."
            )
            raise Refused(words)
        if time.perf_counter() - told > _TELL_EVERY:
            told = time.perf_counter()
            share = min(video.seconds / video.stated, 1.0) if video.stated else None
            send(connection, Message({"share": share, "length": length}))

    def keep(photo: Photo, found: Detections, tracks: NDArray[np.int32]) -> None:
        """Of each track the face whose eyes are furthest apart: near, and turned to the camera."""
        for landmarks, track in zip(found.landmarks, tracks.tolist(), strict=True):
            left, right, *_ = four_points(landmarks)
            apart = float(np.hypot(*(right - left)))
            if track not in stills or apart > 1.1 * stills[track][0]:
                stills[track] = apart, _jpeg(align(photo.image, landmarks), _CHIP_SIDE)

    before = recognizer.cast
    named = (said["temperature"], said["threshold"], said["by"], said["newcomers"])
    recognizer.cast = Cast(Scorer.from_bytes(head), *named)
    try:
        timeline = watch(recognizer, data, told=tell, seen=keep)
    except MissingExtra as error:
        raise Refused(f"Videos cannot be read here: {error.next} would mend that.") from error
    except DataError as error:
        what = error.what.removeprefix("these bytes: ")
        raise Refused(f"{what[:1].upper()}{what[1:]}. Save it anew as MP4, or choose another file.") from error
    finally:
        recognizer.cast = before
    best: dict[Appearance, tuple[float, bytes]] = {}
    for track, appearance in timeline.tracks.items():
        best[appearance] = max(best.get(appearance, (0.0, b"")), stills[track])
    video = timeline.video
    return Footage(
        "",
        video.width,
        video.height,
        video.seconds,
        video.frames,
        video.warning,
        timeline.appearances,
        tuple(best[appearance][1] for appearance in timeline.appearances),
        time.perf_counter() - start,
    )


def _jpeg(image: Image.Image, side: int) -> bytes:
    """A picture, its longest side at most `side` pixels, and nothing else of the file: no EXIF, comment or profile."""
    scale = min(1.0, side / max(image.size))
    size = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    reduced = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)
    reduced.info = {}
    file = io.BytesIO()
    reduced.save(file, "JPEG", quality=85)
    return file.getvalue()


if __name__ == "__main__":
    main()

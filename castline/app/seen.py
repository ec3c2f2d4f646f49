"""What was seen in a picture or a video, before anybody is named; and as messages between processes.

Pixels that somebody uploaded are decoded in a process of their own (castline.app.worker). What leaves it is here:
numbers, and pictures that were encoded anew. A message is JSON and some blobs; nothing in it is ever run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from castline.faces.quality import Quality
from castline.runtime import Appearance

__all__ = ["Footage", "Message", "Picture", "SeenFace", "receive", "send"]

_LONGEST_JSON = 64_000_000  # a hundred thousand appearances


class Message(NamedTuple):
    """said: what JSON holds. blobs: what it does not."""

    said: Mapping[str, Any]
    blobs: Sequence[bytes] = ()


def send(connection: Connection, message: Message) -> None:
    """Send a message. Blobs are not copied. Raises: OSError when nobody is at the other end."""
    connection.send_bytes(json.dumps([message.said, len(message.blobs)]).encode())
    for blob in message.blobs:
        connection.send_bytes(blob)


def receive(connection: Connection, longest: int) -> Message:
    """The next message, blobs of `longest` bytes together at most.

    Raises: EOFError or OSError when nobody is at the other end, or the message is too long; ValueError when it is none.
    """
    said, count = json.loads(connection.recv_bytes(_LONGEST_JSON))
    blobs: list[bytes] = []
    for _ in range(count):
        blobs.append(connection.recv_bytes(longest))
        longest -= len(blobs[-1])
    return Message(said, blobs)


@dataclass(frozen=True, eq=False)
class SeenFace:
    """A face in a picture.

    box: x1 y1 x2 y2; landmarks: (5, 2) float32; both in pixels of the upright picture as it was uploaded. score: of the
    detector, 0 to 1. raw: (D,) float32, its raw embedding. chip: the aligned face as JPEG, 128 × 128.
    """

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]
    score: float
    raw: NDArray[np.float32]
    quality: Quality
    chip: bytes


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that was looked at.

    sha256: of the file, hex. width, height: of the upright picture, pixels. shown: it as JPEG, upright, its longest
    side at most 1600 pixels. faces: left to right. seconds: that looking took.
    """

    sha256: str
    width: int
    height: int
    shown: bytes
    faces: tuple[SeenFace, ...]
    seconds: float

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return len(self.shown) + sum(len(face.chip) + face.raw.nbytes + 500 for face in self.faces)

    def message(self) -> Message:
        """It, to be sent; without its sha256, which the other end knows."""
        faces = [
            {
                "box": face.box,
                "landmarks": face.landmarks.tolist(),
                "score": face.score,
                "quality": asdict(face.quality),
            }
            for face in self.faces
        ]
        raw = b"".join(face.raw.astype("<f4").tobytes() for face in self.faces)
        said = {"width": self.width, "height": self.height, "seconds": self.seconds, "faces": faces}
        return Message(said, [self.shown, raw, *(face.chip for face in self.faces)])

    @classmethod
    def of_message(cls, message: Message, sha256: str) -> "Picture":
        """What `message` made. Raises: ValueError, KeyError or TypeError when it is not that."""
        said, (shown, raws, *chips) = message
        faces = said["faces"]
        rows = np.frombuffer(raws, "<f4").astype(np.float32).reshape(len(faces), -1) if faces else ()
        seen = []
        for face, raw, chip in zip(faces, rows, chips, strict=True):
            x1, y1, x2, y2 = map(float, face["box"])
            landmarks = np.array(face["landmarks"], np.float32).reshape(5, 2)
            quality = Quality(**{name: float(value) for name, value in face["quality"].items()})
            seen.append(SeenFace((x1, y1, x2, y2), landmarks, float(face["score"]), raw, quality, chip))
        return cls(sha256, int(said["width"]), int(said["height"]), shown, tuple(seen), float(said["seconds"]))


@dataclass(frozen=True, eq=False)
class Footage:
    """A video that was looked at.

    sha256: of the file, hex. width, height: of its upright frames, pixels. length: seconds. frames: how many were
    looked at. warning: what could not be read, or "". appearances: by start, then end. stills: of each appearance a
    face as JPEG, 128 × 128. seconds: that looking took.
    """

    sha256: str
    width: int
    height: int
    length: float
    frames: int
    warning: str
    appearances: tuple[Appearance, ...]
    stills: tuple[bytes, ...]
    seconds: float

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return sum(len(still) + 500 for still in self.stills)

    def message(self) -> Message:
        """It, to be sent; without its sha256, which the other end knows."""
        said = {name: getattr(self, name) for name in ("width", "height", "length", "frames", "warning", "seconds")}
        return Message(said | {"appearances": [asdict(seen) for seen in self.appearances]}, self.stills)

    @classmethod
    def of_message(cls, message: Message, sha256: str) -> "Footage":
        """What `message` made. Raises: ValueError, KeyError or TypeError when it is not that."""
        said, stills = message
        appearances = tuple(
            Appearance(
                str(seen["name"]),
                None if seen["number"] is None else int(seen["number"]),
                bool(seen["known"]),
                float(seen["start"]),
                float(seen["end"]),
                str(seen["nearest"]),
                float(seen["confidence"]),
                float(seen["similarity"]),
            )
            for seen in said["appearances"]
        )
        if len(stills) != len(appearances):
            raise ValueError(f"{len(stills)} stills of {len(appearances)} appearances")
        return cls(
            sha256,
            int(said["width"]),
            int(said["height"]),
            float(said["length"]),
            int(said["frames"]),
            str(said["warning"]),
            appearances,
            tuple(stills),
            float(said["seconds"]),
        )

"""What was seen in a picture or a video, before anybody is named; and as messages between processes.

Pixels that somebody uploaded are decoded in a process of their own (castline.app.worker). What leaves it is here:
numbers, and pictures that were encoded anew.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castline.faces.quality import Quality
from castline.runtime import Appearance

__all__ = ["Footage", "Picture", "SeenFace"]


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

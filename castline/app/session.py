"""What the app keeps of one visitor: in memory, for as long as the page is open, and seen by nobody else."""

import hashlib
import secrets
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Correction", "Enrolled", "Session", "Upload", "session"]

_KEY = "castline"


@dataclass(frozen=True, eq=False)
class Upload:
    """A file that somebody gave. name: as it was called, which anybody may have chosen. sha256: of `data`, hex."""

    name: str
    data: bytes
    sha256: str

    @classmethod
    def of(cls, name: str, data: bytes) -> "Upload":
        return cls(name, data, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, eq=False)
class Enrolled:
    """A person added for this visit only. raw: (N, D) float32, raw embeddings of N faces by the model of `key`.
    pictures: where the faces are from. chips: the faces as JPEG.
    """

    name: str
    key: str
    raw: NDArray[np.float32]
    pictures: tuple[Upload, ...]
    chips: tuple[bytes, ...]


@dataclass(frozen=True, eq=False)
class Correction:
    """What a visitor said of a face. person: who it is; empty where it is nobody of the cast. face: its number in the
    picture, left to right, and its box, x1 y1 x2 y2 in pixels of the upright picture, of width × height. said: what the
    model had said, empty where it knew nobody. version: of the model, as Label Studio's predictions have it. others:
    boxes of the other faces in the picture.
    """

    upload: Upload
    face: int
    box: tuple[float, float, float, float]
    width: int
    height: int
    person: str
    said: str
    version: str
    chip: bytes
    others: tuple[tuple[float, float, float, float], ...] = ()


@dataclass
class Session:
    """uploads: what Identify shows, in the order in which it came. enrolled: people for this visit. corrections: not
    written yet, by the picture's sha256 and the face's number. visitor: tells one visitor from another.
    """

    uploads: list[Upload] = field(default_factory=list)
    enrolled: list[Enrolled] = field(default_factory=list)
    corrections: dict[tuple[str, int], Correction] = field(default_factory=dict)
    visitor: str = field(default_factory=lambda: secrets.token_hex(8))


def session() -> Session:
    """This visitor's."""
    import streamlit as st

    if _KEY not in st.session_state:
        st.session_state[_KEY] = Session()
    found: Session = st.session_state[_KEY]
    return found

"""The model of a device: a release or a bundle, opened, and how long each step of looking took."""

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from castline.edge.message import SeenFace
from castline.edge.settings import Settings
from castline.errors import BundleError
from castline.files.bundle import read_bundle
from castline.files.weights import sha256_of
from castline.photos.decode import Photo
from castline.photos.settings import PhotoSettings
from castline.runtime import Recognizer

__all__ = ["Model", "Released", "folder_of", "open_model"]

_FORMATS = ("float16", "int8", "float32")


class Model(Protocol):
    """What the program asks of a model. version: said in each message. photos: how pictures are to be decoded."""

    version: str
    photos: PhotoSettings

    def look(self, photo: Photo) -> tuple[tuple[SeenFace, ...], dict[str, float]]:
        """The faces, left to right, and milliseconds by step."""


def folder_of(settings: Settings) -> Path:
    """Where the model is: the store's current release, by its own name, or the folder that is configured."""
    return Path(settings.store_path, "current").resolve() if settings.store_path else Path(settings.model)


def open_model(settings: Settings) -> "Released":
    """The model of `settings`, loaded.

    Raises: BundleError when it cannot be used.
    """
    folder = folder_of(settings)
    version, file = "", ""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        version, file = str(manifest["version"]), str(manifest["model"])
    except FileNotFoundError:
        pass  # a bundle, not packed
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder}: its manifest cannot be read ({error})", "install the release again") from error
    if not version:
        files = read_bundle(folder).files
        version = f"0.0.0+{sha256_of(folder / 'bundle.json')[:8]}"
        file = next((name for name in _FORMATS if name in files), "float32")
    return Released(Recognizer(folder, file, threads=settings.threads, threshold=settings.threshold), version)


class Released:
    """A `Recognizer` under its version. Not to be shared between threads."""

    def __init__(self, recognizer: Recognizer, version: str) -> None:
        self.version, self.photos = version, recognizer.photos
        self._recognizer = recognizer

    def look(self, photo: Photo) -> tuple[tuple[SeenFace, ...], dict[str, float]]:
        """The faces, left to right, and milliseconds: detect, align, and embed, naming included."""
        times = [time.perf_counter()]
        found = self._recognizer.find(photo)
        times.append(time.perf_counter())
        crops = self._recognizer.crops(photo, found)
        times.append(time.perf_counter())
        seen = []
        for face in self._recognizer.faces(photo, found, crops):
            name = self._recognizer.name(face.raw)
            seen.append(SeenFace(face.box, name.shown, name.known, name.confidence, name.similarity))
        times.append(time.perf_counter())
        took = (1000 * (after - before) for before, after in pairwise(times))
        return tuple(seen), dict(zip(("detect", "align", "embed"), took, strict=True))

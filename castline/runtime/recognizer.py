"""A photo in, named people out: the code that prepared the training photos, and a TFLite file from the bundle."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from castline.errors import BundleError, DataError
from castline.faces.align import align, crop
from castline.faces.detection import Detections
from castline.faces.detectors import build
from castline.faces.find import find_faces
from castline.faces.settings import DetectorSettings
from castline.files.bundle import HEAD, checked, read_bundle
from castline.photos.decode import Photo, Rejected, decode, read
from castline.photos.settings import PhotoSettings
from castline.runtime.cast import Cast, Name, measured
from castline.runtime.tflite import TFLiteModel

__all__ = ["Face", "Person", "Recognizer"]


@dataclass(frozen=True, eq=False)
class Face:
    """A face that was found, not named yet.

    box: x1 y1 x2 y2; landmarks: (5, 2) float32, eyes, nose, mouth corners; both in pixels of the upright photo. score:
    of the detector, 0 to 1. raw: (D,) float32, its raw embedding.
    """

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]
    score: float
    raw: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Person:
    """A face and whose it most likely is."""

    face: Face
    name: Name

    def described(self) -> dict[str, Any]:
        """What goes into JSON."""
        return {
            "known": self.name.known,
            "name": self.name.shown,
            "nearest": self.name.nearest,
            "confidence": round(self.name.confidence, 4),
            "similarity": round(self.name.similarity, 4),
            "box": [round(edge, 1) for edge in self.face.box],
            "landmarks": [[round(float(x), 1), round(float(y), 1)] for x, y in self.face.landmarks],
        }


class Recognizer:
    """A released model, loaded once and asked often. Not to be shared between threads: make one for each.

    cast: who names what it sees; may be replaced by one that knows more people.
    """

    def __init__(
        self,
        bundle: str | Path = "models/recognizer",
        file: str = "float32",
        threads: int = 1,
        tiles: int | None = None,
        threshold: float | None = None,
    ) -> None:
        """bundle: the folder. file: float32, float16 or int8, of those that the bundle has. threads: of LiteRT. tiles:
        look again in so many tiles along the longer side, for the small faces of group photos (4 is a good number);
        None does as the pipeline did. threshold: below it a face is unknown; None takes the one that was fitted to the
        file, and where the bundle has none, everybody is named.

        Raises: BundleError when the folder, or the file in it, is absent, was changed, or is of another format.
        """
        folder = Path(bundle)
        self.bundle = read_bundle(folder)
        chosen = measured(folder, self.bundle, file)
        self.cast = Cast.read(folder, self.bundle, file, threshold)
        if self.people != self.bundle.people:
            raise BundleError(f"{folder}: bundle.json lists other people than {HEAD} knows", "dvc repro export")
        self.photos = PhotoSettings(**self.bundle.photos)
        self._detection = DetectorSettings(**self.bundle.detector)
        if tiles is not None:
            self._detection = replace(self._detection, tiles=tiles)
        if self._detection.file:
            path = checked(folder, self._detection.file, self._detection.sha256)
            self._detection = replace(self._detection, file=str(path))
        self._detector = build(self._detection)
        self._model = TFLiteModel(checked(folder, chosen.file, chosen.sha256), threads)

    @property
    def people(self) -> tuple[str, ...]:
        """Whom it knows, in the order of scores."""
        return self.cast.people

    @property
    def threshold(self) -> float | None:
        """Below it a face is unknown; None names everybody."""
        return self.cast.threshold

    def identify(self, image: str | Path | bytes | Image.Image | NDArray[np.uint8]) -> list[Person]:
        """The people in a photo, left to right; an empty list when no face is found.

        image: a file, its bytes, a Pillow picture, or an array (H, W, 3) uint8, RGB, upright.

        Raises: DataError when it cannot be decoded.
        """
        return self.identify_photo(self.open(image))

    def identify_photo(self, photo: Photo) -> list[Person]:
        """The people in a photo that `open` decoded, left to right."""
        return [Person(face, self.name(face.raw)) for face in self.faces(photo)]

    def faces(
        self, photo: Photo, found: Detections | None = None, crops: Sequence[NDArray[np.uint8]] | None = None
    ) -> list[Face]:
        """The faces in a photo that `open` decoded, left to right; found, crops: what `find` and `crops` say of it, if
        they were asked."""
        found = self.find(photo) if found is None else found
        crops = self.crops(photo, found) if crops is None else crops
        upright = found.moved(photo.scale)
        faces = []
        for i in np.argsort(found.boxes[:, 0], kind="stable"):
            x1, y1, x2, y2 = (float(edge) for edge in upright.boxes[i])
            raw = self._model(crops[i])
            faces.append(Face((x1, y1, x2, y2), upright.landmarks[i], float(found.scores[i]), raw))
        return faces

    def find(self, photo: Photo) -> Detections:
        """Where the faces in a photo are, best score first, in pixels of `photo.image`."""
        return find_faces(photo.image, self._detector, self._detection)

    def crops(self, photo: Photo, found: Detections) -> list[NDArray[np.uint8]]:
        """What the base model sees of each face of `found`: (S, S, 3), RGB, aligned."""
        return [self._crop(align(photo.image, landmarks)) for landmarks in found.landmarks]

    def embed(self, photo: Photo, landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """The raw embedding (D,) of the face at `landmarks` (5, 2), in pixels of `photo.image`."""
        return self.embed_chip(align(photo.image, landmarks))

    def embed_chip(self, chip: Image.Image) -> NDArray[np.float32]:
        """The raw embedding (D,) of a face on a chip: RGB, 256 × 256, as `castline.faces.align.align` cuts it."""
        return self._model(self._crop(chip))

    def _crop(self, chip: Image.Image) -> NDArray[np.uint8]:
        return crop(chip, self.bundle.template, self.bundle.input_size)

    def centred(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw embeddings (N, D) as two faces are compared by: without the mean, of length 1."""
        return self.cast.centred(raw)

    def similarities(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """(P,) float32: how alike a raw embedding (D,) and each of the cast are, 1 at most."""
        return self.cast.similarities(raw)

    def name(
        self, raw: NDArray[np.float32], similarities: NDArray[np.float32] | None = None, but: Collection[str] = ()
    ) -> Name:
        """Whose a raw embedding (D,) is: see `Cast.name`."""
        return self.cast.name(raw, similarities, but)

    def open(self, image: str | Path | bytes | Image.Image | NDArray[np.uint8]) -> Photo:
        """Decode a photo as `identify` does: upright, RGB, perhaps reduced.

        Raises: DataError when it cannot be decoded.
        """
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise DataError(f"an array {image.shape} {image.dtype}: wanted is (H, W, 3) uint8, RGB")
            image = Image.fromarray(image)
        if isinstance(image, Image.Image):
            rgb = image.convert("RGB")
            return Photo(rgb, rgb.width, rgb.height, "")
        try:
            return decode(image if isinstance(image, bytes) else read(Path(image), self.photos), self.photos)
        except Rejected as rejected:
            where = "these bytes" if isinstance(image, bytes) else str(image)
            raise DataError(f"{where}: {rejected.reason.replace('_', ' ')} ({rejected.detail})") from rejected

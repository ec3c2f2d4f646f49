"""Whose the faces of a table most likely are: a released model run on their chips."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]

from castline import machine
from castline.errors import DataError
from castline.files.bundle import read_bundle
from castline.files.weights import sha256_of
from castline.runtime import Name, Recognizer

__all__ = ["model_version", "names", "raw_embeddings"]


def model_version(bundle: Path) -> str:
    """What Label Studio calls the predictions of a released model: it changes when anything in the bundle does.

    bundle.json holds the sha256 of every other file, so its own is the bundle's.

    Raises: BundleError when there is no usable model in `bundle`.

    >>> model_version(Path("models/recognizer"))    # doctest: +SKIP
    'castline-7f3c2a90d1be'
    """
    read_bundle(bundle)
    return f"castline-{sha256_of(bundle / 'bundle.json')[:12]}"


def names(faces: pa.Table, bundle: Path) -> list[Name]:
    """What a released model says of each row of a faces table (castline.files.tables.FACES).

    A `Name` holds the confidence, the similarity, the scores of all of the cast and the embedding of length 1.

    Raises: BundleError when there is no usable model in `bundle`, DataError when a chip cannot be decoded.
    """
    recognizer = Recognizer(bundle, threads=machine.threads())
    return [recognizer.name(raw) for raw in raw_embeddings(faces, recognizer)]


def raw_embeddings(faces: pa.Table, recognizer: Recognizer) -> NDArray[np.float32]:
    """(N, D) float32: a raw embedding for each row of a faces table, (0, 0) where there is none.

    What compares them is the recognizer's: `centred` two faces with each other, `similarities` a face with the cast.

    Raises: DataError when a chip cannot be decoded.
    """
    chips = tqdm(faces.column("chip"), total=len(faces), desc="names", unit="face", disable=None)
    rows = [_embedded(chip.as_py(), recognizer) for chip in chips]
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32)


def _embedded(chip: bytes, recognizer: Recognizer) -> NDArray[np.float32]:
    try:
        with Image.open(io.BytesIO(chip), formats=["JPEG"]) as image:
            return recognizer.embed_chip(image.convert("RGB"))
    except OSError as error:
        raise DataError(f"a chip cannot be decoded: {error}", "dvc repro --force faces") from error

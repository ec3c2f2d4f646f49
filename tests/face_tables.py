"""Tables of faces that nobody has: vectors by person, and what else a row needs."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from castline.files import tables


def faces_of(people: list[int], seed: int = 0, spread: float = 0.05) -> NDArray[np.float32]:
    """(N, 16) of unit length: faces of one person lie close together, those of two are at right angles, nearly."""
    noise = np.random.default_rng(seed).normal(size=(len(people), 16)) * spread
    vectors = np.eye(16)[people] + noise
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def write_batch(
    build: Path,
    batch: str,
    photos: list[str],
    vectors: NDArray[np.float32],
    order: list[int] | None = None,
    **changes: Any,
) -> None:
    """The tables of a batch whose photos show a face each."""
    rng = np.random.default_rng(7)
    rows = [
        {
            "batch": batch, "photo": photo, "face": 0, "photo_sha256": sha_of(photo), "photo_width": 100,
            "photo_height": 100, "box": [0, 0, 50, 50], "landmarks": [0] * 10, "score": 1.0, "eye_distance": 60.0,
            "sharpness": 1.0, "brightness": 120.0, "contrast": 40.0, "yaw": 0.0, "roll": 0.0,
            "chip_hash": rng.bytes(32), "chip": b"",
        }
        for photo in photos
    ]  # fmt: skip
    for name, values in changes.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    order = order or list(range(len(photos)))
    tables.write(build / "faces" / f"{batch}.parquet", tables.FACES, [rows[i] for i in order])
    key = {name: [rows[i][name] for i in order] for name in ("batch", "photo", "face")}
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors[order].ravel()), vectors.shape[1])
    tables.write(
        build / "embeddings" / f"{batch}.parquet",
        tables.features_schema(vectors.shape[1]),
        {**key, "view": [0] * len(photos), "feature": flat},
    )


def sha_of(photo: str) -> str:
    return f"{sum(photo.encode()) * 7919 % 1000:03d}{photo.encode().hex()}".ljust(64, "0")[:64]

"""The faces of a batch that nobody has labelled, beside those of the whole project that somebody has."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castline.curation.choose import centred
from castline.curation.quality_gate import too_poor
from castline.curation.settings import CurationSettings
from castline.errors import DataError
from castline.faces.quality import Quality
from castline.files import tables
from castline.photos.batches import label_of
from castline.runtime import Name

__all__ = ["SAME_PERSON", "Faces", "read_faces"]

SAME_PERSON = 0.45
"""The cosine of centred reference embeddings from which two faces are taken for one person's: docs/labelling_pick.md
has what was measured."""

_QUALITY = ("eye_distance", "sharpness", "brightness", "contrast", "yaw", "roll")


@dataclass(frozen=True)
class Faces:
    """Every face of the project, in an order that follows from what the photos hold.

    rows: of the face tables, without chips; `row` is its place in the table of its batch. vectors: (N, D) float32,
    reference embeddings, centred, of unit length. open: those of the batch that are to be labelled, and good enough to
    learn from. done: those that have a label, of any batch, and are good enough. named: what the model says of each
    of the batch's rows, by `row`; None without a model.
    """

    rows: list[dict[str, Any]]
    vectors: NDArray[np.float32]
    open: list[int]
    done: list[int]
    named: Sequence[Name] | None

    def known(self, faces: Sequence[int]) -> NDArray[np.bool_]:
        """(N,) whether the model names each of `faces`, of the batch; nobody without a model."""
        return np.array([self.named is not None and self.named[self.rows[i]["row"]].known for i in faces], np.bool_)


def read_faces(
    batch: str,
    batches: Sequence[str],
    labelled: Collection[str] = (),
    named: Sequence[Name] | None = None,
    build: Path = Path("build"),
    settings: CurationSettings | None = None,
    said: Collection[tuple[str, int]] = (),
) -> Faces:
    """The faces of `batches`, all of the project; those of `batch` may be to be labelled.

    labelled: sha256 of photos of any batch that need no label, because they have one or were given to labellers;
    photos in a person's folder have one. named: what the model says of each row of the batch's face table
    (castline.label_studio.naming.names), None without a model. settings: which faces are too poor to learn from. said:
    faces that have a label of their own, by the photo's sha256 and the face's number in it, as of a cluster.

    Raises: DataError when a table is absent, or others were made from other faces.
    """
    settings = settings or CurationSettings()
    rows, embeddings = [], []
    columns = ["batch", "photo", "face", "photo_sha256", "chip_hash", *_QUALITY]
    for name in batches:
        faces = tables.read(build / "faces" / f"{name}.parquet", columns)
        embedded = tables.read(build / "embeddings" / f"{name}.parquet")
        tables.check_same_rows(faces, embedded)
        rows += [{**row, "row": i} for i, row in enumerate(faces.to_pylist())]
        embeddings.append(tables.matrix(embedded, "feature"))
    if batch not in batches:
        raise DataError(
            f"{batch}: no such batch; there are {', '.join(batches)}", f"castline data add PATH --batch {batch}"
        )
    if named is not None and len(named) != sum(row["batch"] == batch for row in rows):
        raise DataError(f"the model was asked about {len(named)} faces, {batch} has others", "dvc repro")
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["photo_sha256"], rows[i]["photo"], rows[i]["face"]))
    rows, vectors = [rows[i] for i in order], centred(np.concatenate(embeddings)[order])

    usable = [not too_poor(Quality(*(row[name] for name in _QUALITY)), settings) for row in rows]
    labels = [
        row["photo_sha256"] in labelled
        or (row["photo_sha256"], row["face"]) in said
        or label_of(row["photo"]) is not None
        for row in rows
    ]
    done = [i for i in range(len(rows)) if usable[i] and labels[i]]
    open_ = [i for i, row in enumerate(rows) if row["batch"] == batch and usable[i] and not labels[i]]
    return Faces(rows, vectors, open_, done, named)

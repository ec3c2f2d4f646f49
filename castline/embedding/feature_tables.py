"""Feature tables: what a base model makes of a batch's faces. The same model on the same faces is never run twice."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from castline.embedding.augment_settings import AugmentationSettings
from castline.embedding.base_settings import ONNX, BaseModelSettings
from castline.embedding.onnx_model import OnnxModel
from castline.errors import DataError, WeightsError
from castline.files import tables
from castline.files.weights import sha256_of

__all__ = ["check_made_by", "fingerprint", "write_features"]


def fingerprint(base: Path) -> str:
    """What decides a base model's features, as one hash: its weights, and how it is fed. Reads no network.

    base: the folder that `base_models.save` wrote.

    Raises: WeightsError when there is none.
    """
    try:
        settings = json.loads((base / "base.json").read_text(encoding="utf-8"))
        weights = sha256_of(base / "base.safetensors")
    except (OSError, ValueError) as error:
        raise WeightsError(f"{base}: no base model: {error}", "dvc repro base") from error
    fed = {key: settings.get(key) for key in ("architecture", "input_size", "mean", "std", "template")}
    return hashlib.sha256(json.dumps([weights, fed], sort_keys=True).encode()).hexdigest()


def check_made_by(base: Path, features: Iterable[Path]) -> None:
    """See that feature tables are a base model's own.

    Raises: DataError when one is another's; WeightsError when there is no base model.
    """
    made_by = fingerprint(base).encode()
    for path in features:
        if (pq.read_schema(path).metadata or {}).get(b"base") != made_by:
            raise DataError(
                f"{path} has the features of another network than {base}, though both are set up alike",
                "have them computed: castline compose features.folder=features, and what else it is composed with",
            )


def write_features(
    path: Path,
    base: Path,
    faces: Path,
    known: Path | None = None,
    augmentation: AugmentationSettings | None = None,
) -> str:
    """Write the features of a faces table, of as many views of each face as `augmentation` asks for; say in a few words
    how they came about.

    known: a table made earlier, by another stage. If the same base model made it, its plain views are taken over.

    Raises: DataError, WeightsError.
    """
    augmentation = augmentation or AugmentationSettings()
    made_by = fingerprint(base)
    rows = tables.read(faces, ["batch", "photo", "face"])
    plain = _taken_over(known, rows, made_by)
    if plain is not None and augmentation.views == 1:
        _write(path, rows, plain[:, None], made_by)
        return "taken over"
    from castline.embedding.features import embed

    settings = BaseModelSettings(**json.loads((base / "base.json").read_text(encoding="utf-8")))
    model = OnnxModel(base / ONNX)
    chips = tables.read(faces, ["chip"]).column("chip").to_pylist()
    views = [embed(model, settings, chips, title=f"features of {path.stem}") if plain is None else plain]
    for view in range(1, augmentation.views):
        from castline.embedding.augment import augment

        def change(picture: NDArray[np.uint8], chip: bytes, view: int = view) -> NDArray[np.uint8]:
            # By the face's own bytes: it has the same views in whatever batch and order it comes, and no seed changes
            # them, so that other seeds are tried without computing features again.
            return augment(picture, augmentation, view, *hashlib.sha256(chip).digest())

        title = f"view {view + 1} of {path.stem}"
        views.append(embed(model, settings, chips, title=title, change=change))
    _write(path, rows, np.stack(views, axis=1), made_by)
    seen = f", {augmentation.views} views of each face" if augmentation.views > 1 else ""
    return f"{'computed' if plain is None else 'taken over and completed'} by {settings.name}{seen}"


def _taken_over(known: Path | None, rows: pa.Table, made_by: str) -> NDArray[np.float32] | None:
    """The features (N, D) in a table that the same base model made of the same faces, if this is one."""
    if known is None or not known.is_file():
        return None
    table = tables.read(known)
    metadata = table.schema.metadata or {}
    if metadata.get(b"base") != made_by.encode() or not table.select(rows.column_names).equals(rows):
        return None
    return tables.matrix(table, "feature")


def _write(path: Path, rows: pa.Table, features: NDArray[np.float32], made_by: str) -> None:
    """features: (N, K, D), of K views of each of N faces."""
    faces, views, size = features.shape
    if views > 1:
        rows = rows.take(np.repeat(np.arange(faces), views))
    columns = {name: rows.column(name) for name in rows.column_names}
    columns["view"] = pa.array(np.tile(np.arange(views), faces), pa.int8())
    columns["feature"] = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), size)
    tables.write(path, tables.features_schema(size), columns, {"base": made_by})

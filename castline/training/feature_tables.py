"""Feature tables: what a base model makes of a batch's faces. The same model on the same faces is never run twice."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa

from castline import tables
from castline.errors import WeightsError

__all__ = ["fingerprint", "write_features"]


def fingerprint(base: Path) -> str:
    """What decides a base model's features, as one hash: its weights, and how it is fed. Reads no network.

    base: the folder that `base_models.save` wrote.

    Raises: WeightsError when there is none.
    """
    try:
        settings = json.loads((base / "base.json").read_text(encoding="utf-8"))
        weights = hashlib.sha256((base / "base.safetensors").read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise WeightsError(f"{base}: no base model: {error}", "dvc repro base") from error
    fed = {key: settings.get(key) for key in ("architecture", "input_size", "mean", "std", "template")}
    return hashlib.sha256(json.dumps([weights, fed], sort_keys=True).encode()).hexdigest()


def write_features(path: Path, base: Path, faces: Path, known: Path | None = None) -> str:
    """Write the features of a faces table; say in a few words how they came about.

    known: a table made earlier, by another stage. If the same base model made it, its rows are taken over.

    Raises: DataError, WeightsError.
    """
    made_by = fingerprint(base)
    rows = tables.read(faces, ["batch", "photo", "face"])
    if known is not None and known.is_file():
        table = tables.read(known)
        metadata = table.schema.metadata or {}
        if metadata.get(b"base") == made_by.encode() and table.select(rows.column_names).equals(rows):
            _write(path, table.column("feature").type.list_size, rows, table.column("feature"), made_by)
            return "taken over"
    from castline.training.base_models import load
    from castline.training.features import embed

    model, settings = load(base)
    chips = tables.read(faces, ["chip"]).column("chip").to_pylist()
    features = embed(model, settings, chips, title=f"features of {path.stem}")
    column = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), settings.embedding_size)
    _write(path, settings.embedding_size, rows, column, made_by)
    return f"computed by {settings.name}"


def _write(path: Path, size: int, rows: pa.Table, features: pa.Array | pa.ChunkedArray, made_by: str) -> None:
    columns = {name: rows.column(name) for name in rows.column_names} | {"feature": features}
    tables.write(path, tables.features_schema(size), columns, {"base": made_by})

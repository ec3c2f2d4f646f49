"""The tables that stages hand to each other: Parquet, one schema each, the same rows giving the same bytes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from castline.errors import DataError

__all__ = [
    "DATASET",
    "FACES",
    "REJECTS",
    "SEEN",
    "check_same_rows",
    "features_schema",
    "matrix",
    "probes_schema",
    "read",
    "read_many",
    "sparse_column",
    "write",
]

# A face row. Pixels are those of the EXIF-upright photo; hashes are 256 bits; the chip is a JPEG of 256 × 256.
FACES = pa.schema(
    [
        ("batch", pa.string()),
        ("photo", pa.string()),  # path below the batch
        ("face", pa.int16()),  # 0 is the detector's best
        ("photo_sha256", pa.string()),
        ("photo_width", pa.int32()),
        ("photo_height", pa.int32()),
        ("box", pa.list_(pa.float32(), 4)),  # x1 y1 x2 y2
        ("landmarks", pa.list_(pa.float32(), 10)),  # eyes, nose, mouth corners: x y x y ...
        ("score", pa.float32()),
        ("eye_distance", pa.float32()),  # pixels
        ("sharpness", pa.float32()),
        ("brightness", pa.float32()),
        ("contrast", pa.float32()),
        ("yaw", pa.float32()),  # degrees, estimated
        ("roll", pa.float32()),  # degrees
        ("chip_hash", pa.binary(32)),
        ("chip", pa.binary()),
    ]
)
REJECTS = pa.schema([("batch", pa.string()), ("photo", pa.string()), ("reason", pa.string()), ("detail", pa.string())])
DATASET = pa.schema(
    [
        ("batch", pa.string()),
        ("photo", pa.string()),
        ("face", pa.int16()),
        ("photo_sha256", pa.string()),
        ("chip_hash", pa.binary(32)),
        ("person", pa.string()),  # null where nobody is named
        ("stranger", pa.bool_()),
        ("group", pa.string()),  # near-duplicates share it
        ("split", pa.string()),  # train, val, test; null where not kept, and for strangers
        ("kept", pa.bool_()),
        ("reason", pa.string()),  # why not kept, or empty
        ("score", pa.float32()),  # cosine to the person's other faces, -1 to 1; null where there is none
        ("doubt", pa.string()),  # why to look at it although it is kept, or empty
        ("random_split", pa.string()),  # the side in a split by photo without groups, for comparison; null elsewhere
    ]
)
# What the dataset of new batches needs to know of earlier ones.
SEEN = pa.schema([field for field in DATASET if field.name not in ("score", "doubt", "random_split")])


def features_schema(size: int) -> pa.Schema:
    """A feature row: the face, which picture of it, and what the frozen base model makes of that, `size` numbers."""
    return pa.schema(
        [
            ("batch", pa.string()),
            ("photo", pa.string()),
            ("face", pa.int16()),
            ("view", pa.int8()),  # 0 is the face as it is, others are changed; a face's views follow each other
            ("feature", pa.list_(pa.float32(), size)),
        ]
    )


def probes_schema(size: int, files: Sequence[str]) -> pa.Schema:
    """A test face, and what each of `files`, formats of exported models, makes of it: `size` numbers."""
    numbers = pa.list_(pa.float32(), size)
    return pa.schema([*(DATASET.field(name) for name in ("batch", "photo", "face")), *((n, numbers) for n in files)])


def write(
    path: Path,
    schema: pa.Schema,
    rows: pa.Table | Iterable[Mapping[str, Any]] | Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a table, rows, or columns (given as a mapping) to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if metadata:
        schema = schema.with_metadata(dict(metadata))
    if isinstance(rows, pa.Table):
        table = rows if rows.schema.equals(schema, check_metadata=True) else rows.cast(schema)
    elif isinstance(rows, Mapping):
        table = pa.table(dict(rows), schema=schema)
    else:
        table = pa.Table.from_pylist(list(rows), schema=schema)
    unfinished = path.with_suffix(".part")
    pq.write_table(table, unfinished, compression="zstd", row_group_size=4096)
    unfinished.replace(path)


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A table, or some of its columns.

    Raises: DataError when it is absent or no Parquet file.
    """
    try:
        # Not pq.read_table, which imports what it takes to read many files as one.
        with pq.ParquetFile(path) as file:
            return file.read(columns).select(columns) if columns else file.read()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such table", "dvc repro makes it") from error
    except (pa.ArrowInvalid, KeyError) as error:
        raise DataError(f"{path}: not a readable table ({error})", f"rm {path}; dvc repro makes it anew") from error


def read_many(paths: Sequence[Path], columns: Sequence[str] | None = None) -> pa.Table:
    """Several tables of one schema, one below the other.

    Raises: DataError, also when there are none.
    """
    if not paths:
        raise DataError("there are no batches", "castline data use PATH")
    return pa.concat_tables([read(path, columns) for path in paths])


def matrix(table: pa.Table, column: str) -> NDArray[np.float32]:
    """A column of number lists, all of one length, as (N, D) float32; (0, 0) where no row tells what D is."""
    lists = table.column(column).combine_chunks()
    # Not lists.flatten(), which imports pyarrow.compute: more work than what nearly every stage needs it for.
    if isinstance(lists, pa.FixedSizeListArray):
        size = lists.type.list_size
        start, end = lists.offset * size, (lists.offset + len(lists)) * size
    else:
        start, end = (lists.offsets[0].as_py(), lists.offsets[-1].as_py()) if len(lists) else (0, 0)
        size = (end - start) // max(1, len(lists))
    flat = lists.values[start:end].to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(lists), size)


def sparse_column(rows: NDArray[np.float32], where: NDArray[np.bool_]) -> pa.ListArray:
    """(N, D) float32 as a column of number lists, null where `where`, (N,), is false.

    Of any length: pyarrow cannot read a column of fixed length with nulls back (apache/arrow#35692).
    """
    lengths = np.where(where, rows.shape[1], 0)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    flat = pa.array(np.ascontiguousarray(rows[where], np.float32).ravel())
    return pa.ListArray.from_arrays(offsets, flat, mask=pa.array(~where))


def check_same_rows(a: pa.Table, b: pa.Table) -> None:
    """Two tables made from the same faces list them in the same order.

    Raises: DataError when they do not, which takes a table that was edited or copied by hand.
    """
    key = ["batch", "photo", "face"]
    if not a.select(key).equals(b.select(key)):
        raise DataError("build/ holds tables that were made from different faces", "rm -r build; dvc repro")

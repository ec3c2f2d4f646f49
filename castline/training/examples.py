"""The dataset's kept faces with their features: what heads are trained and measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castline.errors import DataError
from castline.files import tables

__all__ = ["Examples", "Part", "read_examples"]


@dataclass(frozen=True)
class Part:
    """One side of the split.

    features: (N, D) float32. people: (N,) int64, indices into the list of people. rows: (N,) int64, where in the
    face tables, one after the other, each face is; a face of which there are several views is there several times.
    """

    features: NDArray[np.float32]
    people: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.people)


@dataclass(frozen=True)
class Examples:
    """All faces of all batches with their features (N, D), and the dataset's word on each.

    views: (N, K, D) float32, features of all views of each face, where there is more than the plain one.
    """

    people: tuple[str, ...]
    features: NDArray[np.float32]
    dataset: list[dict[str, Any]]
    views: NDArray[np.float32] | None = None

    def part(self, split: str, plain: bool = False) -> Part:
        """The kept faces of train, val or test, in the tables' order; of train with all views, unless `plain`."""
        number = {person: i for i, person in enumerate(self.people)}
        rows = np.array([i for i, row in enumerate(self.dataset) if row["kept"] and row["split"] == split], np.int64)
        features = self.features[rows]
        if split == "train" and not plain and self.views is not None:
            features = self.views[rows].reshape(-1, features.shape[1])
            rows = rows.repeat(self.views.shape[1])
        return Part(features, np.array([number[self.dataset[i]["person"]] for i in rows], np.int64), rows)

    def strangers(self) -> Part:
        """The kept faces of people outside the cast; they have no number, so all have 0."""
        rows = np.array([i for i, row in enumerate(self.dataset) if row["kept"] and row["stranger"]], np.int64)
        return Part(self.features[rows], np.zeros(len(rows), np.int64), rows)


def read_examples(dataset: Path, features: Sequence[Path]) -> Examples:
    """Read the dataset, and the feature tables of its batches.

    Raises: DataError when a table is absent or does not belong to the others.
    """
    table, found = tables.read(dataset), tables.read_many(features)
    view = found.column("view").to_numpy()
    plain = found.filter(view == 0) if view.any() else found
    tables.check_same_rows(table, plain)
    count = len(view) // max(1, len(plain))
    if not np.array_equal(view, np.tile(np.arange(count), len(plain))):
        raise DataError(
            f"{features[0].parent} holds tables with different numbers of views",
            f"rm -r {features[0].parent}; dvc repro",
        )
    rows = table.to_pylist()
    people = sorted({row["person"] for row in rows if row["kept"] and not row["stranger"]})
    matrix = tables.matrix(found, "feature")
    views = matrix.reshape(len(plain), count, -1) if count > 1 else None
    return Examples(tuple(people), matrix[view == 0], rows, views)

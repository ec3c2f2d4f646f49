"""The dataset's kept faces with their features: what heads are trained and measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castline import tables

__all__ = ["Examples", "Part", "read_examples"]


@dataclass(frozen=True)
class Part:
    """One side of the split.

    features: (N, D) float32. people: (N,) int64, indices into the list of people. rows: (N,) int64, where in the
    face tables, one after the other, each face is.
    """

    features: NDArray[np.float32]
    people: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.people)


@dataclass(frozen=True)
class Examples:
    """All faces of all batches with their features (N, D), and the dataset's word on each."""

    people: tuple[str, ...]
    features: NDArray[np.float32]
    dataset: list[dict[str, Any]]

    def part(self, split: str) -> Part:
        """The kept faces of train, val or test, in the tables' order."""
        number = {person: i for i, person in enumerate(self.people)}
        rows = np.array([i for i, row in enumerate(self.dataset) if row["kept"] and row["split"] == split], np.int64)
        return Part(self.features[rows], np.array([number[self.dataset[i]["person"]] for i in rows], np.int64), rows)


def read_examples(build: Path, batches: Sequence[str]) -> Examples:
    """Read dataset.parquet and the features of `batches` from the folder `build`.

    Raises: DataError when a table is absent or does not belong to the others.
    """
    dataset = tables.read(build / "dataset.parquet")
    features = tables.read_many([build / "features" / f"{batch}.parquet" for batch in batches])
    tables.check_same_rows(dataset, features)
    rows = dataset.to_pylist()
    people = sorted({row["person"] for row in rows if row["kept"] and not row["stranger"]})
    return Examples(tuple(people), tables.matrix(features, "feature"), rows)

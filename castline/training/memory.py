"""What a released model remembers of the faces it was made from, to be trained on and tested again without the photos.

A row a face: whose it was, on which side of the split, its hashes, so that the same photo is known again, and for some
what the base model made of it: all faces that were stopped by and tested on, strangers', and a few of each person's
that were trained on. No picture is kept; but features are biometric data all the same, so a memory stays with the team.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from castline.files import tables
from castline.training.examples import Part

__all__ = ["herd", "join", "memory_of", "part_of", "probed", "to_probe", "trained_on"]


def memory_of(dataset: pa.Table, train: Part, others: Sequence[Part], exemplars: int) -> pa.Table:
    """The memory of a dataset: its rows, and the features of some.

    train: of each person, `exemplars` features are kept at most. others: all features are kept. Their `rows` are rows
    of `dataset`.
    """
    size = train.features.shape[1]
    features = np.zeros((len(dataset), size), np.float32)
    known = np.zeros(len(dataset), bool)
    for person in np.unique(train.people):
        own = np.flatnonzero(train.people == person)
        chosen = own[herd(train.features[own], exemplars)]
        features[train.rows[chosen]], known[train.rows[chosen]] = train.features[chosen], True
    for part in others:
        features[part.rows], known[part.rows] = part.features, True
    return dataset.append_column("feature", tables.sparse_column(features, known))


def join(earlier: pa.Table, later: pa.Table) -> pa.Table:
    """Two memories as one, the earlier first; columns that one of them lacks are null there."""
    return pa.concat_tables([earlier, later], promote_options="default")


def probed(memory: pa.Table, probes: pa.Table, same_files: bool) -> pa.Table:
    """A memory with what exported files make of the test faces: a column for each of their formats.

    probes: a row a face, and a column a format: see castline.files.tables.probes_schema. same_files: they are those
    that an earlier version had, so what it remembers of them still holds.
    """
    key = ["batch", "photo", "face"]
    formats = [name for name in probes.column_names if name not in key]
    place = {tuple(row.values()): i for i, row in enumerate(memory.select(key).to_pylist())}
    rows = np.array([place[tuple(row.values())] for row in probes.select(key).to_pylist()], np.int64)
    dropped = [name for name in memory.column_names if name not in (*tables.DATASET.names, "feature", *formats)]
    memory = memory.drop_columns(dropped)
    for name in formats:
        size = probes.schema.field(name).type.list_size
        features = np.zeros((len(memory), size), np.float32)
        known: NDArray[np.bool_] = np.zeros(len(memory), np.bool_)
        if name in memory.column_names:
            earlier = memory.column(name).combine_chunks()
            if same_files:
                known = np.asarray(earlier.is_valid())
                features[known] = tables.matrix(memory.filter(pa.array(known)), name)
            memory = memory.drop_columns([name])
        features[rows], known[rows] = tables.matrix(probes, name), True
        memory = memory.append_column(name, tables.sparse_column(features, known))
    return memory


def to_probe(memory: pa.Table, batches: Sequence[str], least: int) -> NDArray[np.int64]:
    """Which faces of `batches` exported files are to be measured on, as rows of the memory.

    Those that have a feature and are tested on, stopped by, or strangers'; and where a memory holds fewer than `least`
    of them, some that were trained on, which serve as people whom the others do not know. Chosen by a hash, so adding
    batches takes none away.
    """
    rows = memory.select([*_WHO, "batch", "photo_sha256"]).to_pylist()
    there = memory.column("feature").is_valid().to_pylist()
    known = [i for i, row in enumerate(rows) if there[i] and row["kept"]]
    measured = [i for i in known if rows[i]["stranger"] or rows[i]["split"] in ("val", "test")]
    spare = sorted(set(known) - set(measured), key=lambda i: (rows[i]["photo_sha256"], i))
    chosen = [*measured, *spare[: max(0, least - len(measured))]]
    return np.array(sorted(i for i in chosen if rows[i]["batch"] in batches), np.int64)


def trained_on(memory: pa.Table) -> dict[str, int]:
    """How many faces of each person were trained on, remembered or not."""
    counts: dict[str, int] = {}
    for row in memory.select(_WHO).to_pylist():
        if row["kept"] and row["split"] == "train":
            counts[row["person"]] = counts.get(row["person"], 0) + 1
    return counts


def part_of(memory: pa.Table, split: str, people: Sequence[str], column: str = "feature") -> Part:
    """The faces of one side of the split that are remembered with a feature; `rows` are rows of `memory`.

    people: names, in the order that the part shall number them.
    """
    number = {person: i for i, person in enumerate(people)}
    there = memory.column(column).is_valid().to_pylist()
    rows = [
        i for i, row in enumerate(memory.select(_WHO).to_pylist()) if there[i] and row["kept"] and row["split"] == split
    ]
    chosen = memory.take(pa.array(rows, pa.int64()))
    named = np.array([number[person] for person in chosen.column("person").to_pylist()], np.int64)
    return Part(tables.matrix(chosen, column), named, np.array(rows, np.int64))


def herd(features: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Which `count` of (N, D) features to keep, so that their mean comes closest to the mean of all: in this order.

    Source: herding, as iCaRL (Rebuffi et al., 2017) chooses its exemplars.
    """
    mean = features.mean(0, dtype=np.float64)
    chosen: list[int] = []
    total = np.zeros(features.shape[1])
    for k in range(1, min(count, len(features)) + 1):
        distance = np.square(mean - (total + features) / k).sum(1)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
        total += features[chosen[-1]]
    return np.array(chosen, np.int64)


_WHO = ["person", "stranger", "split", "kept"]

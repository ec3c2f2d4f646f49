"""A released version without the people who are forgotten: what training goes on from no longer has them.

Taken out are their rows of the head and of its gallery, their names, and what is remembered of their faces. What the
rest of the weights owe to having seen them stays: of a base model that was tuned on their faces, too.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from castline.files import tables
from castline.files.bundle import HEAD, MEMORY, read_bundle, write_bundle
from castline.files.weights import sha256_of
from castline.forgetting.register import Register
from castline.scoring import Scorer

__all__ = ["unlearn"]


def unlearn(folder: Path, register: Register) -> tuple[int, int]:
    """Take forgotten people out of the bundle in `folder`; how many names went, and how many faces.

    Raises: BundleError, DataError when it cannot be read.
    """
    if not register.spots:
        return 0, 0
    scorer, memory = Scorer.read(folder / HEAD), tables.read(folder / MEMORY)
    kept = [i for i, person in enumerate(scorer.people) if not register.knows(person)]
    rows = memory.select(["photo", "photo_sha256", "face", "person"]).to_pylist()
    left = [
        i
        for i, row in enumerate(rows)
        if not (
            register.knows(row["person"])
            or register.knows_path(row["photo"])
            or register.has(row["photo_sha256"], row["face"])
        )
    ]
    without_rows(scorer, kept).write(folder / HEAD)
    remembered = _unnamed(memory.take(pa.array(left, pa.int64())), register)
    tables.write(folder / MEMORY, remembered.schema, remembered)
    bundle = read_bundle(folder)
    people = tuple(person for person in bundle.people if not register.knows(person))
    write_bundle(replace(bundle, people=people, head_sha256=sha256_of(folder / HEAD)), folder)
    return len(scorer.people) - len(kept), len(memory) - len(left)


def without_rows(scorer: Scorer, kept: list[int]) -> Scorer:
    """A head that knows only those of its people, by number, in that order."""
    rows = np.array(kept, np.int64)
    return replace(
        scorer,
        people=tuple(scorer.people[i] for i in kept),
        weight=scorer.weight[rows],
        bias=scorer.bias[rows],
        gallery=None if scorer.gallery is None else scorer.gallery[rows],
    )


def _unnamed(memory: pa.Table, register: Register) -> pa.Table:
    """Other people's rows, without what they say of the forgotten: rivals in reasons, the photo that names a group.

    A group of another name is as good: what counts is who shares it.
    """
    for column in ("reason", "doubt"):
        short = [text and text.split(":")[0] for text in memory.column(column).to_pylist()]
        place = memory.schema.get_field_index(column)
        memory = memory.set_column(place, memory.schema.field(place), pa.array(short, pa.string()))
    groups = [_renamed(group) if register.has_photo(group) else group for group in memory.column("group").to_pylist()]
    place = memory.schema.get_field_index("group")
    return memory.set_column(place, memory.schema.field(place), pa.array(groups, pa.string()))


def _renamed(group: str) -> str:
    return hashlib.sha256(f"forgotten:{group}".encode()).hexdigest()

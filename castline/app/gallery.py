"""Whom a model knows: how many faces of each it was trained and tested on, how it fared, and what they look like.

Counts and results are what the bundle's memory says; pictures are cut from the chips in build/faces, where they are.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from castline.app.models import WORKSPACE, Model
from castline.errors import CastlineError, DataError
from castline.evaluation.measures import PersonResult, confusion_matrix, per_person
from castline.evaluation.words import in_plain_words
from castline.files import tables
from castline.files.bundle import MEMORY
from castline.forgetting.register import FORGOTTEN, Register, read_register
from castline.runtime import Cast
from castline.text import csv_cell, short
from castline.training.examples import Part
from castline.training.memory import part_of
from castline.versions.facts import facts_here

__all__ = ["Known", "exemplars", "in_words", "people_of", "remembered", "worries"]

SIDE = 96
"""Of an exemplar, pixels."""
MOST = 4
"""Exemplars that are kept of each person."""

FEW = 5
"""With fewer faces to train on, one photo is more than a fifth of what a model knows of a person; with fewer to test
on, the result is an anecdote: at 5 of 5 the interval still reaches down to 57 %."""
LOW = 0.8
"""A share of test faces that is to be looked at."""

_BUILD = Path("build")
_KEY = ["batch", "photo", "face", "chip_hash"]  # a face that was found anew is another
_WHO = ["person", "stranger", "kept", "split", "reason", "score", "group", "photo_sha256"]
_one_at_a_time = Lock()


@dataclass(frozen=True)
class Known:
    """Somebody whom a model knows.

    trained: faces that it was trained on, None where nothing says. result: of the faces it was tested on when everybody
    is named, None where nothing says. named: how many of those are named right and not called unknown, None without a
    threshold. left_out: faces under this name that were not used, by reason. eye_distance: median of the faces that
    were, in pixels; None where the tables of faces are not here.
    """

    name: str
    trained: int | None = None
    result: PersonResult | None = None
    named: int | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    eye_distance: float | None = None


def people_of(model: Model) -> list[Known]:
    """A row a person, in the order of the model's scores; without those who are forgotten.

    Raises: DataError when a table, or the register of the forgotten, cannot be read.
    """
    with _one_at_a_time:
        return list(_people(_Asked.now(model)))


def exemplars(model: Model, person: str, count: int = 3) -> list[bytes]:
    """Up to `count` JPEGs, 96 × 96, of a person's most typical faces; none where the tables of faces are not here.

    Most typical is who is most similar to the person's other photos, as curation has it; one face of each group of
    near-duplicates. At most four are kept of each person.
    """
    try:
        if read_register().knows(person):
            return []
        with _one_at_a_time:
            return _exemplars(_Asked.now(model)).get(person, [])[:count]
    except CastlineError:
        return []


def in_words(person: Known) -> list[str]:
    """What is known of a person, as sentences; names in it are `short`, and otherwise as they are."""
    found = []
    if person.trained is not None:
        tested = f", {person.result.n} tested on" if person.result is not None else ""
        found.append(f"{_faces(person.trained)} trained on{tested}.")
    result = person.result
    if result is not None and result.n:
        said = in_plain_words(result.correct, result.n)
        if result.confused_with:
            said += f" Most often taken for {short(result.confused_with)}: {result.confused}."
        if person.named is not None and person.named < result.correct:
            said += f" Of those named right, {result.correct - person.named} would be called unknown."
        found.append(said)
    details = []
    if person.eye_distance is not None:
        details.append(f"{person.eye_distance:.0f} pixels between the eyes (median)")
    if person.left_out:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(person.left_out.items()))
        details.append(f"left out: {reasons}")
    if details:
        said = "; ".join(details)
        found.append(f"{said[0].upper()}{said[1:]}.")
    return found


def worries(person: Known) -> list[str]:
    """What is to be looked at, as sentences."""
    found = []
    if person.trained is not None and person.trained < FEW:
        found.append("Few photos: more would help.")
    if person.result is None or not person.result.n:
        return found
    share = person.result.correct / person.result.n
    if person.result.n < FEW:
        found.append("Too few test faces to say how well this person is recognised.")
    elif share < LOW:
        found.append("Often named wrong.")
    elif person.named is not None and person.named / person.result.n < LOW:
        found.append("Often called unknown.")
    return found


def _faces(count: int) -> str:
    return "1 face" if count == 1 else f"{count:,} faces"


@dataclass(frozen=True)
class _Asked:
    """A model, and the state of the tables: what is worked out is kept for as long as both are the same."""

    key: str
    state: tuple[tuple[str, int, int], ...]
    model: Model = field(compare=False)

    @classmethod
    def now(cls, model: Model) -> "_Asked":
        paths = [model.folder / MEMORY, _BUILD / "dataset.parquet", FORGOTTEN, *_face_tables().values()]
        stats = [(str(path), path.stat()) for path in paths if path.is_file()]
        return cls(model.key, tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in stats), model)


@lru_cache(maxsize=4)
def _people(asked: _Asked) -> Sequence[Known]:
    model, register = asked.model, read_register()
    rows = _rows(model, register)
    trained = Counter(row["person"] for row in rows if row["kept"] and row["split"] == "train")
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if not row["kept"]:
            left_out[row["person"]][row["reason"].partition(":")[0]] += 1
    eyes = _eye_distances(rows)
    results, named = _tested(model)
    return [
        Known(
            name,
            trained[name] if rows else None,
            results.get(name),
            named.get(name),
            left_out.get(name, {}),
            median(eyes[name]) if name in eyes else None,
        )
        for name in _remaining(model.cast.people, register)
    ]


def _remaining(people: Sequence[str], register: Register) -> list[str]:
    """Those who are not forgotten. To hash a name takes a twentieth of a second, once: several at a time."""
    with ThreadPoolExecutor(4) as threads:
        return [name for name, gone in zip(people, threads.map(register.knows, people), strict=True) if not gone]


@lru_cache(maxsize=4)
def _exemplars(asked: _Asked) -> Mapping[str, list[bytes]]:
    """Of everybody at once, since a table is read from its beginning anyway: 100 people are about 2 MB."""
    chosen: dict[str, list[dict[str, Any]]] = defaultdict(list)
    shown: set[tuple[str, str]] = set()  # groups are as good as photos where they are not known
    rows = [row for row in _rows(asked.model, read_register()) if row["kept"]]
    for row in sorted(rows, key=lambda row: -(row["score"] or -1.0)):
        group = (row["person"], row["group"] or row["photo"])
        if len(chosen[row["person"]]) < MOST and group not in shown:
            shown.add(group)
            chosen[row["person"]].append(row)
    wanted = {_key(row) for some in chosen.values() for row in some}
    pictures: dict[tuple[Any, ...], bytes] = {}
    for path in _face_tables().values():
        keys = [_key(row) for row in tables.read(path, _KEY).to_pylist()]
        places = [i for i, key in enumerate(keys) if key in wanted]
        pictures |= {keys[i]: _small(chip) for i, chip in zip(places, _chips(path, places), strict=True)}
    found = {person: [pictures[_key(row)] for row in some if _key(row) in pictures] for person, some in chosen.items()}
    return {person: some for person, some in found.items() if some}


def remembered(model: Model, split: str, column: str = "feature") -> Part | None:
    """The faces of one side of the split, as a model's bundle remembers them; None where it does not.

    column: "feature", or a file of the bundle, what that makes of them; where it is not there, features.

    Raises: DataError when the memory cannot be read.
    """
    path = model.folder / MEMORY
    if not path.is_file():
        return None
    column = column if column in _columns(path) else "feature"
    memory = tables.read(path, ["person", "stranger", "split", "kept", column])
    part = part_of(
        memory.filter(pc.is_in(memory.column("person"), pa.array(model.cast.people))), split, model.cast.people, column
    )
    return part if len(part) else None


def _rows(model: Model, register: Register) -> list[dict[str, Any]]:
    """Faces under the name of somebody of the cast, without forgotten ones; what an older table lacks is None."""
    path = model.folder / MEMORY
    if not path.is_file():
        path = _BUILD / "dataset.parquet"
        if model.name != WORKSPACE or not path.is_file():
            return []
    there = _columns(path)
    missing = dict.fromkeys({*_KEY, *_WHO} - there)
    return [
        {**missing, **row}
        for row in tables.read(path, [name for name in (*_KEY, *_WHO) if name in there]).to_pylist()
        if row["person"] and not row["stranger"] and not register.has(row["photo_sha256"], row["face"])
    ]


def _tested(model: Model) -> tuple[dict[str, PersonResult], dict[str, int]]:
    """How each person fared, and how many faces of each are named right and not called unknown."""
    cast, test = model.cast, remembered(model, "test", model.file)
    if test is None:
        return (_reported(cast.people) if model.name == WORKSPACE else {}), {}
    predicted, statistic = _named(cast, test.features)
    results = per_person(cast.people, confusion_matrix(test.people, predicted, len(cast.people)))
    named: dict[str, int] = {}
    if cast.threshold is not None:
        right = test.people[(predicted == test.people) & (statistic >= cast.threshold)]
        counts = np.bincount(right, minlength=len(cast.people)).tolist()
        named = dict(zip(cast.people, counts, strict=True))
    return {result.person: result for result in results}, named


def _named(cast: Cast, raw: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Who comes first for each of raw embeddings (N, D), and what is held against the threshold: see `Cast.name`."""
    _, scores = cast.scorer(raw, cast.temperature)
    held = scores.max(1) if cast.by == "confidence" or cast.threshold is None else cast.scorer.similarities(raw).max(1)
    return scores.argmax(1), held


def _reported(people: Sequence[str]) -> dict[str, PersonResult]:
    """The same by reports/confusion.csv, of the model that was trained, before it was exported."""
    number = {csv_cell(person): i for i, person in enumerate(people)}
    rows = facts_here().table("reports/confusion.csv")
    pairs = [(number.get(row.get("actual", "")), number.get(row.get("predicted", ""))) for row in rows]
    known = np.array([pair for pair in pairs if None not in pair], np.int64).reshape(-1, 2)
    if not len(known):
        return {}
    results = per_person(people, confusion_matrix(known[:, 0], known[:, 1], len(people)))
    return {result.person: result for result in results}


def _eye_distances(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Of each person's faces that were used, in pixels."""
    person_of = {_key(row): row["person"] for row in rows if row["kept"]}
    found: dict[str, list[float]] = defaultdict(list)
    for path in _face_tables().values():
        for row in tables.read(path, [*_KEY, "eye_distance"]).to_pylist():
            if (key := _key(row)) in person_of:
                found[person_of[key]].append(row["eye_distance"])
    return found


def _face_tables() -> dict[str, Path]:
    """By batch. What a table names is looked for among these, and is never a path itself."""
    paths = sorted((_BUILD / "faces").glob("*.parquet"))
    return {path.stem: path for path in paths if not path.name.endswith(".rejects.parquet")}


def _columns(path: Path) -> set[str]:
    try:
        return set(pq.read_schema(path).names)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a readable table ({error})", "dvc checkout brings it back") from error


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _KEY)


def _chips(path: Path, places: Sequence[int]) -> list[bytes]:
    """The chips of some rows of a table of faces, ascending; whole row groups are read, those with any of them."""
    found: list[bytes] = []
    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            if here := [i - start for i in places if start <= i < end]:
                found += file.read_row_group(group, ["chip"]).column("chip").take(pa.array(here)).to_pylist()
            start = end
    return found


def _small(chip: bytes) -> bytes:
    """A chip as our own pipeline wrote it, smaller."""
    with Image.open(io.BytesIO(chip), formats=["JPEG"]) as image:
        image.draft("RGB", (SIDE, SIDE))
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue()

"""What is known of a version, read from the files that its commit has: nothing has to be checked out.

Versions are read that older or newer code made, or somebody else's. So nothing is required: what is absent, or of
another shape than expected, is unknown.
"""

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from castline.evaluation.changes import State
from castline.versions.git import read_blob

__all__ = ["BUNDLE", "SHAPING", "Batch", "Facts", "facts_at", "facts_here", "flat"]

BUNDLE = "models/recognizer"
# What a model is made of. The sections that are missing here say how it is shipped, or on what machine it is made.
SHAPING = (
    "data", "photos", "detector", "reference_model", "labels", "curation", "split", "base_model", "augmentation",
    "head", "training", "open_set",
)  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """A delivery of photos. md5: of all that is in it, as DVC has it. files: how many, if it is known."""

    name: str
    md5: str
    files: int | None


@dataclass(frozen=True)
class Facts:
    """read: gives the bytes of a file of that state of the project, or None."""

    read: Callable[[str], bytes | None]

    @cached_property
    def params(self) -> dict[str, Any]:
        return _mapping(_yaml(self.read("params.yaml")))

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Of the model on the test part; a metric inside another is named OUTER.INNER."""
        return _numbers(_json(self.read("reports/metrics.json")))

    @cached_property
    def files(self) -> dict[str, dict[str, float]]:
        """What was measured of each exported file."""
        return {name: _numbers(file) for name, file in _mapping(_json(self.read("reports/export.json"))).items()}

    @cached_property
    def photos(self) -> dict[str, float]:
        """What became of the photos: counts; of reasons and sides as OUTER.INNER."""
        return _numbers(_json(self.read("reports/dataset.json")))

    @cached_property
    def labels(self) -> dict[str, float]:
        """What became of labels that people gave."""
        return _numbers(_json(self.read("reports/labels.json")))

    @cached_property
    def tested(self) -> dict[str, tuple[int, int]]:
        """How many test faces of each person are named right, and how many there are; names as spreadsheets may see
        them: see castline.text.csv_cell."""
        counts: dict[str, tuple[int, int]] = {}
        for row in self.table("reports/confusion.csv"):
            right, faces = counts.get(row.get("actual", ""), (0, 0))
            counts[row.get("actual", "")] = right + (row.get("actual") == row.get("predicted")), faces + 1
        counts.pop("", None)
        return counts

    @cached_property
    def state(self) -> State:
        """What a report compares."""
        settings = flat({section: self.params[section] for section in SHAPING if section in self.params})
        batches = [batch.name for batch in self.batches]
        lists = ("data.batches", "data.read")  # batches are told apart from settings
        return State(
            self.metrics,
            self.photos,
            {key: value for key, value in settings.items() if key not in lists},
            batches,
            self.tested,
        )

    def table(self, path: str) -> list[dict[str, str]]:
        """A CSV's rows by column; those that are not as long as the header are left out."""
        data = self.read(path)
        try:
            header, *rows = csv.reader(io.StringIO(data.decode(), newline=""), strict=True) if data else ([],)
        except (UnicodeDecodeError, csv.Error, ValueError):
            return []
        return [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]

    @cached_property
    def _stages(self) -> list[dict[str, Any]]:
        return [_mapping(stage) for stage in _mapping(_mapping(_yaml(self.read("dvc.lock"))).get("stages")).values()]

    @cached_property
    def batches(self) -> list[Batch]:
        """What the model was trained on, oldest first."""
        locked = {str(dep["path"]): dep for dep in self._locked("deps")}
        names = _mapping(self.params.get("data")).get("batches")
        if not isinstance(names, list):
            return []
        found = [(str(name), locked.get(f"data/{name}", {})) for name in names]
        return [
            Batch(name, str(dep.get("md5", "")).removesuffix(".dir"), _count(dep.get("nfiles"))) for name, dep in found
        ]

    @cached_property
    def data_hash(self) -> str:
        """Of all photos: of the hashes of the batches in their order; "" where one of them is unknown."""
        known = [batch.md5 for batch in self.batches]
        return hashlib.sha256("\n".join(known).encode()).hexdigest() if known and all(known) else ""

    @cached_property
    def bundle_md5(self) -> str | None:
        """Of the bundle's folder, as DVC has it: 32 hex digits and .dir."""
        md5 = self._bundle.get("md5")
        return md5 if isinstance(md5, str) else None

    @cached_property
    def bundle_bytes(self) -> int | None:
        return _count(self._bundle.get("size"))

    @cached_property
    def bundle(self) -> dict[str, Any]:
        """bundle.json, if DVC's cache on this machine has it; nothing is fetched."""
        return _mapping(_json(_cached(self.bundle_md5, "bundle.json") if self.bundle_md5 else None))

    @cached_property
    def bundled(self) -> dict[str, dict[str, Any]]:
        """What bundle.json says of each file."""
        return {name: _mapping(file) for name, file in _mapping(self.bundle.get("files")).items()}

    @cached_property
    def base_model(self) -> dict[str, Any]:
        """What training started from: as bundle.json has it, else as it was asked for."""
        made_of = _mapping(_mapping(self.bundle.get("provenance")).get("base_model"))
        return made_of or _mapping(self.params.get("base_model"))

    @cached_property
    def people(self) -> list[str] | None:
        """Whom it names, if bundle.json is at hand."""
        people = self.bundle.get("people")
        return [str(person) for person in people] if isinstance(people, list) else None

    @cached_property
    def n_people(self) -> int | None:
        return _count(self.metrics.get("n_people")) or (len(self.people) if self.people is not None else None)

    def setting(self, section: str, key: str) -> str:
        """A value of params.yaml; "" where there is none."""
        value = _mapping(self.params.get(section)).get(key)
        return "" if value is None else str(value)

    @cached_property
    def made(self) -> dict[str, dict[str, str]]:
        """By stage, what dvc.lock says it has made: the hash of each path."""
        stages = _mapping(_mapping(_yaml(self.read("dvc.lock"))).get("stages"))
        return {
            name: {str(out["path"]): str(out.get("md5", "")) for out in outs if "path" in _mapping(out)}
            for name, stage in stages.items()
            if isinstance(outs := _mapping(stage).get("outs"), list)
        }

    @property
    def _bundle(self) -> dict[str, Any]:
        return next((out for out in self._locked("outs") if out["path"] == BUNDLE), {})

    def _locked(self, kind: str) -> Iterator[dict[str, Any]]:
        """Each dependency (`deps`) or output (`outs`) in dvc.lock."""
        for stage in self._stages:
            entries = stage.get(kind)
            yield from (entry for entry in entries if "path" in _mapping(entry)) if isinstance(entries, list) else ()


def facts_at(commit: str) -> Facts:
    """Of a commit, by its 40 hex digits."""
    return Facts(lambda path: read_blob(commit, path))


def facts_here() -> Facts:
    """Of the files as they lie here now."""

    def read(path: str) -> bytes | None:
        return Path(path).read_bytes() if Path(path).is_file() else None

    return Facts(read)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Mappings within mappings as one, OUTER.INNER.

    >>> flat({"head": {"kind": "softmax", "hidden": 0}})
    {'head.kind': 'softmax', 'head.hidden': 0}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _mapping(value: object) -> dict[str, Any]:
    return {str(key): inner for key, inner in value.items()} if isinstance(value, dict) else {}


def _numbers(value: object) -> dict[str, float]:
    return {
        key: number
        for key, number in flat(_mapping(value)).items()
        if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
    }


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _json(data: bytes | None) -> object:
    try:
        return json.loads(data) if data is not None else None
    except (ValueError, RecursionError):
        return None


def _yaml(data: bytes | None) -> object:
    try:
        # An alias stands for what was said elsewhere, so ten lines of them can stand for a billion values. Neither
        # DVC nor Castline writes any.
        if data is None or any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, yaml.CSafeLoader)):
            return None
        return yaml.load(data, yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _cached(md5: str, name: str) -> bytes | None:
    """A file of a folder, from DVC's cache on this machine."""
    from dvc.repo import Repo

    with Repo() as repo:
        cache = Path(repo.cache.local.path)

    def read(oid: str) -> bytes | None:
        known = oid.removesuffix(".dir")
        if len(known) != 32 or not set(known) <= set("0123456789abcdef"):
            return None
        path = cache / oid[:2] / oid[2:]
        return path.read_bytes() if path.is_file() else None

    listing = _json(read(md5))
    files = listing if isinstance(listing, list) else []
    return next((read(str(file.get("md5"))) for file in files if _mapping(file).get("relpath") == name), None)

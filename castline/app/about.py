"""What is known of a model beside its bundle: of the working folder, or of the commit that a version is."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from castline.app.models import BUNDLE, REPORT, WORKSPACE, Model, is_number, released
from castline.evaluation.changes import Changes, changes_between
from castline.files.bundle import Bundle
from castline.versions.confusions import Confusion, confusion_changes
from castline.versions.facts import Facts, facts_at, facts_here, flat

__all__ = ["About", "Pair", "about", "card_of", "pair_of", "report_of"]

_CARD = "MODEL_CARD.md"
_LARGEST_CARD = 200_000
_LARGEST_REPORT = 50_000_000
_FRONT = re.compile(r"\A---\n.*?^---\n", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^(#{1,4} )", re.MULTILINE)


@dataclass(frozen=True)
class About(Facts):
    """Facts of a model whose bundle is at hand, whether or not DVC's cache has it."""

    opened: Bundle

    @cached_property
    def bundle(self) -> dict[str, Any]:
        """bundle.json."""
        files = {name: vars(file) for name, file in self.opened.files.items()}
        return {**vars(self.opened), "people": list(self.opened.people), "files": files}

    @cached_property
    def labels(self) -> dict[str, float]:
        """What reports/labels.json counts of photos that people labelled; a count inside another as OUTER.INNER."""
        try:
            found = json.loads(self.read("reports/labels.json") or b"{}")
        except (ValueError, RecursionError):
            return {}
        numbers = flat(found).items() if isinstance(found, dict) else ()
        return {key: value for key, value in numbers if is_number(value)}


@dataclass(frozen=True)
class Pair:
    """Two versions side by side. found: as castline.versions.listing.compare has it. files: a row for each file, as
    text: its name, and what was `measured` of it by both.
    """

    found: dict[str, Any]
    changes: Changes
    confusions: list[Confusion]
    files: list[list[str]]
    measured: Sequence[str] = ("MB", "top-1, %", "threshold", "ms a face")


def about(model: Model) -> About:
    """What is known of it. Of a bundle that is not this project's: what it says itself."""
    if model.name == WORKSPACE:
        here = model.folder.resolve() == BUNDLE.resolve()
        return About(facts_here().read if here else lambda path: None, model.bundle)
    commit = next((version.commit for version in released() if version.name == model.name), "")
    return _at(commit, model) if commit else About(lambda path: None, model.bundle)


@lru_cache(maxsize=8)
def _at(commit: str, model: Model) -> About:
    return About(facts_at(commit).read, model.bundle)


def report_of(model: Model) -> bytes | None:
    """The report, HTML; None where there is none, or none that a page should show."""
    if model.name == WORKSPACE and model.folder.resolve() != BUNDLE.resolve():
        return None
    path = (Path() if model.name == WORKSPACE else model.folder.parents[1]) / REPORT
    try:
        return path.read_bytes() if path.stat().st_size <= _LARGEST_REPORT else None
    except OSError:
        return None


def card_of(model: Model, facts: About) -> str:
    """The model card as Markdown, without front matter and pictures; of a model that is not released, what it would be.

    A version may be somebody else's, and so may its card. A picture in it would be loaded from anywhere.
    """
    from castline.versions.card import render_card

    if model.name == WORKSPACE:
        text = render_card("not released", facts).partition("\n## Get it")[0]
    else:
        text = (facts.read(_CARD) or b"")[:_LARGEST_CARD].decode(errors="replace").replace("\r\n", "\n")
    text = _FRONT.sub("", text).replace("![", "\\!\\[")
    return _HEADING.sub(r"#\1", text).strip()


def pair_of(one: str, other: str) -> Pair:
    """Two versions, or a version and the working folder.

    Raises: CastlineError for a version that does not exist.
    """
    from castline.versions.listing import compare
    from castline.versions.tags import read_registry

    registry = read_registry()
    a, b = (facts_here() if name == WORKSPACE else facts_at(registry.find(name).commit) for name in (one, other))
    return Pair(
        compare(registry, one, other),
        changes_between(one, a.state, b.state),
        confusion_changes(*(facts.table("reports/confusion.csv") for facts in (a, b))),
        _files(a, b),
    )


# In bundle.json or reports/export.json: the key, by how much it is divided, how it is written.
_MEASURED = (("bytes", 1e6, ".1f"), ("top1", 0.01, ".1f"), ("threshold", 1, ".3f"), ("latency_ms", 1, ".1f"))


def _files(a: Facts, b: Facts) -> list[list[str]]:
    rows = []
    for name in dict.fromkeys([*a.files, *b.files]):
        one, other = ({**facts.bundled.get(name, {}), **facts.files.get(name, {})} for facts in (a, b))
        rows.append([name, *(_change(one.get(key), other.get(key), unit, how) for key, unit, how in _MEASURED)])
    return rows


def _change(before: object, now: object, unit: float, how: str) -> str:
    """Both values, or one where they are the same as written."""
    one, other = (format(value / unit, how) if is_number(value) else "–" for value in (before, now))
    return one if one == other else f"{one} → {other}"

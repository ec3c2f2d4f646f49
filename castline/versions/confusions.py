"""Whom two versions take for whom, and where they differ in that."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Confusion", "confusion_changes"]


@dataclass(frozen=True)
class Confusion:
    """How many test faces of `actual` were given the name `predicted`: by one version, and by the other."""

    actual: str
    predicted: str
    before: int
    now: int


def confusion_changes(before: Iterable[Mapping[str, str]], now: Iterable[Mapping[str, str]]) -> list[Confusion]:
    """The wrong names that are given more often or less; what has become worse most comes first.

    before, now: rows of reports/confusion.csv, a test face each.

    >>> ann, bob = {"actual": "ann", "predicted": "bob"}, {"actual": "bob", "predicted": "bob"}
    >>> confusion_changes([bob], [ann, ann, bob])
    [Confusion(actual='ann', predicted='bob', before=0, now=2)]
    """
    one, other = _wrong(before), _wrong(now)
    changed = [Confusion(*pair, one[pair], other[pair]) for pair in one | other if one[pair] != other[pair]]
    return sorted(changed, key=lambda found: (found.before - found.now, found.actual, found.predicted))


def _wrong(rows: Iterable[Mapping[str, str]]) -> Counter[tuple[str, str]]:
    pairs = ((row.get("actual", ""), row.get("predicted", "")) for row in rows)
    return Counter((actual, predicted) for actual, predicted in pairs if actual and actual != predicted)

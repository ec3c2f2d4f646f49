"""What changed since a release: measures, people, photos, settings."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Change", "Changes", "State", "changes_between"]

# In the order in which they are told, in words.
_MEASURES = {
    "top1": "Named right (top-1)",
    "mean_person_recall": "Named right, mean over people",
    "worst_person_recall": "Named right, the person it knows least",
    "tpir": "Named right and not called unknown (TPIR)",
    "ece": "How far confidence is off (ECE)",
    "n_test": "Test faces",
    "n_people": "People",
}


@dataclass(frozen=True)
class State:
    """What is compared of one state of the project; what is unknown is left out.

    metrics: of reports/metrics.json, numbers. photos: of reports/dataset.json, counts. settings: SECTION.KEY of
    params.yaml. batches: names. tested: of each person with test faces how many are named right, and how many there
    are.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    photos: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    batches: Sequence[str] = ()
    tested: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """name: in words if it has any. before, now: None where unknown."""

    name: str
    before: Any
    now: Any


@dataclass(frozen=True)
class Changes:
    """since: the version that is compared with. measures: those that have words, equal or not; others: those that have
    none. photos (counts), settings: what differs.

    chance: the intervals of top-1 overlap, so that the difference may be chance; None where they are unknown.
    people_added, people_removed: with test faces. worse, better: people whose share of test faces that are named right
    fell or rose, most first, as (right, of how many).
    """

    since: str
    measures: tuple[Change, ...]
    others: tuple[Change, ...]
    chance: bool | None
    photos: tuple[Change, ...]
    settings: tuple[Change, ...]
    batches_added: tuple[str, ...]
    batches_removed: tuple[str, ...]
    people_added: tuple[str, ...]
    people_removed: tuple[str, ...]
    worse: tuple[Change, ...]
    better: tuple[Change, ...]


def changes_between(since: str, before: State, now: State) -> Changes:
    """What is different `now`."""
    known = {**before.metrics, **now.metrics}
    both = [person for person in now.tested if person in before.tested]
    moved = sorted((_share(now, person) - _share(before, person), person) for person in both)

    def measured(key: str, name: str) -> Change:
        return Change(name, before.metrics.get(key), now.metrics.get(key))

    def tested(person: str) -> Change:
        return Change(person, before.tested[person], now.tested[person])

    return Changes(
        since=since,
        measures=tuple(measured(key, words) for key, words in _MEASURES.items() if key in known),
        others=tuple(measured(key, key) for key in sorted(known.keys() - _MEASURES.keys())),
        chance=_overlap(before.metrics, now.metrics),
        photos=_different(before.photos, now.photos),
        settings=_different(before.settings, now.settings),
        batches_added=_lacking(now.batches, before.batches),
        batches_removed=_lacking(before.batches, now.batches),
        people_added=_lacking(now.tested, before.tested) if before.tested else (),
        people_removed=_lacking(before.tested, now.tested),
        worse=tuple(tested(person) for difference, person in moved if difference < 0),
        better=tuple(tested(person) for difference, person in reversed(moved) if difference > 0),
    )


def _share(state: State, person: str) -> float:
    right, faces = state.tested[person]
    return right / faces


def _overlap(before: Mapping[str, float], now: Mapping[str, float]) -> bool | None:
    if not all(bound in metrics for bound in ("top1_low", "top1_high") for metrics in (before, now)):
        return None
    return before["top1_low"] <= now["top1_high"] and now["top1_low"] <= before["top1_high"]


def _different(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[Change, ...]:
    keys = dict.fromkeys([*before, *now])
    return tuple(Change(key, before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key))


def _lacking(names: Iterable[str], others: Container[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in others)

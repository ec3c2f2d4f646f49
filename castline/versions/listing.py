"""Versions side by side: all of them in a table, or two of them in detail; the same as plain values for JSON."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from castline.text import table
from castline.versions.facts import Facts, facts_at, facts_here, flat
from castline.versions.tags import Registry, Version

__all__ = ["WORKSPACE", "compare", "describe", "print_comparison", "print_versions"]

WORKSPACE = "workspace"
# Beside top-1, what decides whether a model may go out. All others are in the comparison and in JSON.
_TELLING = re.compile(r"worst_person_recall|tar_at_far_.*|.*fpir.*|.*unknown.*")
_UNKNOWN = "–"


def describe(registry: Registry) -> list[dict[str, Any]]:
    """Each version, newest number first, as plain values; None where something is unknown."""
    return [
        {
            "version": version.name,
            "date": _date(version),
            "commit": version.commit,
            "stages": registry.stages_of(version.name),
            **_described(facts_at(version.commit)),
        }
        for version in registry.versions.values()
    ]


def print_versions(versions: list[dict[str, Any]]) -> str:
    """What `describe` found, as a table."""
    telling = _united(version["metrics"] for version in versions)
    telling = [name for name in telling if _TELLING.fullmatch(name)][:3]
    rows = [
        ["version", "date", "stages", "top-1", "95 %", *telling, "people", "files", "data", "base model", "training"]
    ]
    for version in versions:
        metrics, batches = version["metrics"], version["batches"]
        low, high = metrics.get("top1_low"), metrics.get("top1_high")
        files = [batch["files"] for batch in batches]
        rows.append(
            [
                version["version"],
                (version["date"] or _UNKNOWN)[:10],
                ", ".join(version["stages"]) or _UNKNOWN,
                _number(metrics.get("top1")),
                f"{low:.3f} to {high:.3f}" if low is not None and high is not None else _UNKNOWN,
                *(_number(metrics.get(name)) for name in telling),
                _number(version["people"]),
                _number(sum(files)) if files and None not in files else _UNKNOWN,
                version["data"][:7] or _UNKNOWN,
                version["base_model"] or _UNKNOWN,
                ", ".join(word for word in (version["mode"], version["start"]) if word) or _UNKNOWN,
            ]
        )
    numbers = range(5, 5 + len(telling) + 2)
    return table(rows, right={3, *numbers})


def compare(registry: Registry, one: str, other: str) -> dict[str, Any]:
    """What differs between two versions, or a version and `workspace`, as plain values: pairs, the first's first.

    Metrics are all there, equal or not; of params and data only what differs; people is None where bundle.json of one
    is not in DVC's cache on this machine.

    Raises: CastlineError for a version that does not exist.
    """
    a, b = (facts_here() if name == WORKSPACE else facts_at(registry.find(name).commit) for name in (one, other))
    params, data = (_pairs(flat(a.params), flat(b.params)), _pairs(_data(a), _data(b)))
    people = None
    if a.people is not None and b.people is not None:
        people = {
            "added": [person for person in b.people if person not in a.people],
            "removed": [person for person in a.people if person not in b.people],
        }
    return {
        "versions": [one, other],
        "metrics": _pairs(a.metrics, b.metrics),
        "files": {name: _pairs(a.files.get(name, {}), b.files.get(name, {})) for name in _united([a.files, b.files])},
        "params": {key: pair for key, pair in params.items() if pair[0] != pair[1]},
        "data": {key: pair for key, pair in data.items() if pair[0] != pair[1]},
        "people": people,
        "bundle_md5": [a.bundle_md5, b.bundle_md5],
        "bundle_bytes": [a.bundle_bytes, b.bundle_bytes],
    }


def print_comparison(found: dict[str, Any]) -> str:
    """What `compare` found, as tables; of the files' measurements those that differ."""
    names = found["versions"]
    of_files = {f"{file}.{key}": pair for file, values in found["files"].items() for key, pair in values.items()}
    measured = {
        **found["metrics"],
        **{key: pair for key, pair in of_files.items() if pair[0] != pair[1]},
        "bundle, bytes": found["bundle_bytes"],
    }
    rows = [["measured", *names, "difference"]]
    rows += [[key, _number(a), _number(b), _difference(a, b)] for key, (a, b) in measured.items()]
    parts = [table(rows, right={1, 2, 3})]
    if of_files and all(a == b for a, b in of_files.values()):
        parts.append(f"files ({', '.join(found['files'])}): measured the same")
    for title, pairs in (("settings", found["params"]), ("photos", found["data"])):
        if pairs:
            parts.append(table([[title, *names], *([key, _value(a), _value(b)] for key, (a, b) in pairs.items())]))
        else:
            parts.append(f"{title}: the same")
    parts.append(_people(found["people"]))
    if found["bundle_md5"][0] == found["bundle_md5"][1] is not None:
        parts.append("Both are the same bundle, bit for bit.")
    return "\n\n".join(parts)


def _described(facts: Facts) -> dict[str, Any]:
    return {
        "metrics": facts.metrics,
        "files": facts.files,
        "people": facts.n_people,
        "batches": [vars(batch) for batch in facts.batches],
        "data": facts.data_hash,
        "base_model": facts.setting("base_model", "name"),
        "mode": facts.setting("training", "mode"),
        "start": facts.setting("training", "start"),
        "bundle_md5": facts.bundle_md5,
        "bundle_bytes": facts.bundle_bytes,
    }


def _people(people: dict[str, list[str]] | None) -> str:
    if people is None:
        return "people: unknown, since bundle.json of one of them is not in DVC's cache here (dvc pull)"
    rows = [(sign, name) for sign, key in (("+", "added"), ("-", "removed")) for name in people[key]]
    return f"people\n{table(rows)}" if rows else "people: the same"


def _date(version: Version) -> str | None:
    """In UTC, so that a version has one date everywhere; None for a date that no calendar has."""
    try:
        return datetime.fromtimestamp(version.date, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def _data(facts: Facts) -> dict[str, str]:
    return {batch.name: f"{batch.md5[:7]}, {_number(batch.files)} files" for batch in facts.batches}


def _united(mappings: Iterable[dict[str, Any]]) -> list[str]:
    """The keys of all, each once, in the order in which they come."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _pairs(a: dict[str, Any], b: dict[str, Any]) -> dict[str, list[Any]]:
    return {key: [a.get(key), b.get(key)] for key in _united([a, b])}


def _number(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _difference(a: float | None, b: float | None) -> str:
    if a is None or b is None or a == b:
        return ""
    return f"{b - a:+,}" if isinstance(a, int) and isinstance(b, int) else f"{b - a:+.4f}"


def _value(value: Any) -> str:
    return _UNKNOWN if value is None else str(value)

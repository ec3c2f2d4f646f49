"""The model card: what a version is, for whoever finds it; Markdown with the front matter that Hugging Face reads."""

import re
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import yaml
from jinja2 import Environment, StrictUndefined

from castline.evaluation.changes import Changes
from castline.evaluation.groups import NOT_KNOWN
from castline.evaluation.measures import wilson_interval
from castline.evaluation.words import number
from castline.photos.origins import MANIFESTS
from castline.text import shown
from castline.versions.facts import Facts
from castline.versions.tags import ARTIFACT

__all__ = ["interval", "left_out", "origins", "render_card"]

_MARKS = re.compile(r"([\\`*_{}\[\]<>()#|~&$@:])")


def render_card(version: str, facts: Facts, names: bool = False, changes: Changes | None = None) -> str:
    """The card of a version that is to be made from `facts`. Equal facts give equal text.

    names: whether to list whom the model names. They are personal data, and a card is made to be passed on.
    changes: since the version before.
    """
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 (Markdown: `plain` escapes)
    environment.filters |= {"plain": plain, "percent": _percent, "number": number}
    template = files(__package__).joinpath("model_card.md.jinja").read_text(encoding="utf-8")
    text = environment.from_string(template).render(
        artifact=ARTIFACT,
        version=version,
        front=yaml.safe_dump(_front_matter(version, facts), sort_keys=False, allow_unicode=True),
        facts=facts,
        people=facts.people if names else None,
        base=_base_model(facts),
        top1=_top1(facts),
        measured=_table(facts),
        fpir=_unknown(facts).get("fpir"),
        by=_unknown(facts).get("by"),
        refusal=_unknown(facts).get("refusal"),
        threshold=any(facts.bundled.get(name, file).get("threshold") is not None for name, file in facts.files.items()),
        worst=facts.metrics.get("worst_person_recall"),
        groups=_groups(facts),
        left_out=left_out(facts),
        origins=origins(facts),
        changes=changes,
        mode=facts.setting("training", "mode") or "full",
        start=facts.setting("training", "start") or "unknown",
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def plain(text: object) -> str:
    """Text from outside that Markdown and HTML will show as it is.

    >>> plain("<b>|x_y")
    '\\\\<b\\\\>\\\\|x\\\\_y'
    """
    return _MARKS.sub(r"\\\1", shown(str(text)))


def _front_matter(version: str, facts: Facts) -> dict[str, Any]:
    card: dict[str, Any] = {
        # Whoever trained the model decides on its licence; what is known is what its base model allows.
        "license": "other",
        "license_name": re.sub(r"[^a-z0-9.]+", "-", f"base model {_base_model(facts)['licence']}".lower()),
        "library_name": "castline",
        "tags": ["castline", "face-recognition", "image-classification", "onnx", "tflite"],
    }
    if (top1 := _top1(facts)) is not None:
        result = {
            "task": {"type": "image-classification", "name": "Naming people in photos"},
            "dataset": {"type": "private", "name": "the test part of the photos it was made from"},
            "metrics": [{"type": "accuracy", "name": "top-1", "value": top1["value"]}],
        }
        card |= {"metrics": ["accuracy"], "model-index": [{"name": f"{ARTIFACT} {version}", "results": [result]}]}
    return card


def _base_model(facts: Facts) -> dict[str, str]:
    return {key: str(facts.base_model.get(key, "unknown")) for key in ("name", "licence", "commercial_ok")}


def _top1(facts: Facts) -> dict[str, Any] | None:
    metrics = facts.metrics
    if "top1" not in metrics:
        return None
    return {
        "value": metrics["top1"],
        "low": metrics.get("top1_low"),
        "high": metrics.get("top1_high"),
        "faces": metrics.get("n_test"),
    }


def _table(facts: Facts) -> list[list[str]]:
    """What was measured of each exported file, below a header; a column of which nothing is known is left out."""
    columns: dict[str, Callable[[dict[str, Any]], str | None]] = {
        "top-1": lambda file: _share(file, "top1"),
        "95 % interval": interval,
        "named right and not called unknown": lambda file: _share(file, "tpir"),
        "person it knows least": lambda file: _share(file, "worst_person"),
        "threshold": lambda file: f"{file['threshold']:.3f}" if _is_number(file.get("threshold")) else None,
        "temperature": lambda file: f"{file['temperature']:.3f}" if _is_number(file.get("temperature")) else None,
        "confidence off by (ECE)": lambda file: _share(file, "ece"),
        "named as PyTorch does": lambda file: _share(file, "agreement"),
        "MB": lambda file: f"{file['bytes'] / 1e6:.1f}" if _is_number(file.get("bytes")) else None,
    }
    rows = []
    for name, file in facts.files.items():
        described = facts.bundled.get(name, {})
        known = {**{key: described.get(key) for key in ("threshold", "temperature", "tpir")}, **file}
        rows.append([f"{described.get('file') or name} ({name})", *(say(known) for say in columns.values())])
    kept = [i for i, column in enumerate(zip(*rows, strict=True)) if any(column)]
    header = ["file", *columns]
    return [[header[i] for i in kept], *([row[i] or "unknown" for i in kept] for row in rows)] if rows else []


def interval(file: dict[str, Any]) -> str | None:
    """The 95 % interval of `top1`, a share of so many `faces`, in words."""
    faces, top1 = file.get("faces"), file.get("top1")
    if not (_is_number(faces) and 1 <= faces < 1e9) or not (_is_number(top1) and 0 <= top1 <= 1):
        return None
    low, high = wilson_interval(round(top1 * faces), int(faces))
    return f"{_percent(low)} to {_percent(high)}"


def _share(file: dict[str, Any], key: str) -> str | None:
    return _percent(file[key]) if _is_number(file.get(key)) else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unknown(facts: Facts) -> dict[str, Any]:
    """What bundle.json says of the word "unknown"."""
    unknown = facts.bundle.get("unknown")
    return unknown if isinstance(unknown, dict) else {}


def _groups(facts: Facts) -> dict[str, Any] | None:
    """Of reports/groups.csv: who does worse, and how many groups are too small to say."""
    rows = [row for row in facts.table("reports/groups.csv") if row.get("value") != NOT_KNOWN]
    if not rows:
        return None
    return {
        "worse": [row for row in rows if row.get("says") == "behind"],
        "few": sum(row.get("says") == "too few" for row in rows),
        "all": len(rows),
        "by": list(dict.fromkeys(row.get("by", "") for row in rows)),
    }


def left_out(facts: Facts) -> dict[str, Any] | None:
    """Of reports/dataset.json: how many photos and faces there were, and what was not used, by reason."""
    photos = facts.photos
    if not {"photos", "faces"} <= photos.keys():
        return None
    reasons = [
        (kind, name.partition(".")[2].replace("_", " "), int(count))
        for kind, outer in (("photo", "rejected."), ("face", "left_out."))
        for name, count in sorted(photos.items(), key=lambda item: (-item[1], item[0]))
        if name.startswith(outer) and count
    ]
    return {"photos": int(photos["photos"]), "faces": int(photos["faces"]), "reasons": reasons}


def origins(facts: Facts) -> dict[str, Any] | None:
    """Of the manifests: photos by the host, the licence and the consent on record, and of how many nothing is known."""
    paths = {batch: f"{MANIFESTS.as_posix()}/{batch.name}.csv" for batch in facts.batches if "/" not in batch.name}
    lines = {batch: facts.table(path) for batch, path in paths.items()}
    rows = [row for found in lines.values() for row in found]
    if not rows:
        return None

    def counted(said: Callable[[dict[str, str]], str]) -> list[tuple[str, int]]:
        return sorted(Counter(map(said, rows)).items(), key=lambda one: (-one[1], one[0]))

    files = [(batch.files, len(lines.get(batch, ()))) for batch in facts.batches]
    return {
        "photos": len(rows),
        "unknown": sum(max(0, count - known) for count, known in files if count is not None),
        "hosts": counted(lambda row: _host(row.get("source", "")) or "not on record"),
        "licences": counted(lambda row: row.get("licence") or "not on record"),
        "consent": counted(lambda row: row.get("consent") or "not on record"),
        "manifests": [path for batch, path in paths.items() if lines[batch]],
    }


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _percent(share: float | None) -> str:
    """A share with one digit; a mistake is never rounded away."""
    if share is None:
        return "unknown"
    return "100%" if share == 1 else f"{min(share, 0.999):.1%}"

"""The model card: what a version is, for whoever finds it; Markdown with the front matter that Hugging Face reads."""

import re
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from castline.evaluation.measures import wilson_interval
from castline.text import shown
from castline.versions.facts import Facts
from castline.versions.tags import ARTIFACT

__all__ = ["render_card"]

_MARKS = re.compile(r"([\\`*_{}\[\]<>()#|~&$@:])")


def render_card(version: str, facts: Facts, names: bool = False) -> str:
    """The card of a version that is to be made from `facts`. Equal facts give equal text.

    names: whether to list whom the model names. They are personal data, and a card is made to be passed on.
    """
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 (Markdown: `plain` escapes)
    environment.filters |= {"plain": plain, "percent": _percent}
    template = files(__package__).joinpath("model_card.md.jinja").read_text(encoding="utf-8")
    text = environment.from_string(template).render(
        artifact=ARTIFACT,
        version=version,
        front=yaml.safe_dump(_front_matter(version, facts), sort_keys=False, allow_unicode=True),
        facts=facts,
        people=facts.people if names else None,
        base=_base_model(facts),
        top1=_top1(facts),
        measured=[_measured(name, file, facts.bundled.get(name, {})) for name, file in facts.files.items()],
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


def _measured(name: str, file: dict[str, float], described: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of files; what is unknown is None."""
    faces, top1 = file.get("faces"), file.get("top1")
    interval = wilson_interval(round(top1 * faces), int(faces)) if faces and top1 is not None else None
    return {
        "name": name,
        "file": described.get("file", ""),
        "top1": top1,
        "interval": interval,
        "agreement": file.get("agreement"),
        "megabytes": file["bytes"] / 1e6 if "bytes" in file else None,
        "threshold": described.get("threshold"),
    }


def _percent(share: float | None) -> str:
    """A share with one digit; a mistake is never rounded away."""
    if share is None:
        return "unknown"
    return "100%" if share == 1 else f"{min(share, 0.999):.1%}"

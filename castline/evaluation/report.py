"""The report: one HTML page that opens anywhere, offline, and is written for people who are not engineers.

Everything on the page is inside the file, and its content security policy forbids the rest: no script, no
request. Names come from folders, so they are escaped, and what hides in them is made visible (see `names`).
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from castline.evaluation import plots
from castline.evaluation.changes import Changes
from castline.evaluation.groups import FEW_FACES, FEW_PEOPLE, Group, Grouping
from castline.evaluation.identification import Identification
from castline.evaluation.labelling import Labelling
from castline.evaluation.measures import FARS, Evaluation, Funnel, most_confused, wilson_interval
from castline.evaluation.plots import Curves
from castline.evaluation.remembering import Remembering
from castline.evaluation.words import in_plain_words, lean, number, percent, strangers_in_plain_words
from castline.text import short

__all__ = [
    "Aside",
    "Mistake",
    "ReportContent",
    "Training",
    "render_report",
    "write_report",
]

# What a reader looks at before tiring.
MAX_MISTAKES = 24
AT_ONCE = 10  # mistakes; the others are folded away
MAX_ASIDES = 12
MAX_PAIRS = 8
MAX_REASONS = 12
MAX_GROUPS = 15
MAX_PEOPLE = 10
# With fewer test faces a person's figure is an anecdote: at 5 of 5 the interval still reaches down to 57 %.
FEW_OF_A_PERSON = 5


@dataclass(frozen=True)
class Training:
    """What was trained on what.

    base_model: its name. licence: of its weights. commercial_ok: yes, no or unknown.
    head, start, tune: as in params.yaml. batches: the deliveries of photos. data_hash: of all photos, or "".
    more: whatever else is worth a row, such as {"Git commit": "da71439"}.
    """

    base_model: str
    licence: str
    commercial_ok: str
    head: str
    start: str
    tune: str
    seed: int
    batches: Sequence[str]
    data_hash: str = ""
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mistake:
    """A test face that was given a wrong name.

    chip: the face as JPEG bytes. truth, predicted: names. confidence: of the wrong name, 0 to 1.
    photo: the file that the face is from, "" if it is not to be shown.
    """

    chip: bytes
    truth: str
    predicted: str
    confidence: float
    photo: str = ""


@dataclass(frozen=True)
class Aside:
    """A face that was left out, or is doubtful. chip: as JPEG bytes. person: the label, "" without one. reason: why."""

    chip: bytes
    person: str
    reason: str
    photo: str = ""


@dataclass(frozen=True)
class ReportContent:
    """What the report is about. A section without data is left out: `funnel` alone is a dataset report.

    curves: of the model first, then of heads that were trained beside it.
    notes: sentences that the reader should know, shown at the top. remembering: of an incremental update.
    identification: of strangers and calibration. random_top1: how many of how many test faces are named right when
    photos are divided at random, near-duplicates and all. groupings: by what people.csv says, and by conditions.
    not_in_cast: names in people.csv that the model does not have. left_out, doubtful: pictures, the most telling first.
    labelling: what people said in Label Studio. changes: since a release.
    """

    title: str
    training: Training | None = None
    evaluation: Evaluation | None = None
    funnel: Funnel | None = None
    curves: Sequence[Curves] = ()
    mistakes: Sequence[Mistake] = ()
    notes: Sequence[str] = ()
    remembering: Remembering | None = None
    identification: Identification | None = None
    random_top1: tuple[int, int] | None = None
    groupings: Sequence[Grouping] = ()
    not_in_cast: Sequence[str] = ()
    left_out: Sequence[Aside] = ()
    doubtful: Sequence[Aside] = ()
    labelling: Labelling | None = None
    changes: Changes | None = None


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report to `path`, making its folder. Equal content gives equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_report(content), encoding="utf-8", newline="\n")


def render_report(content: ReportContent) -> str:
    """The report as HTML."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": _on_one_line, "short": short, "number": number}
    template = files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8")
    runs = [curves for curves in content.curves if curves.epoch]
    curves = runs[0] if runs else None
    mistakes = sorted(content.mistakes, key=lambda mistake: -mistake.confidence)[:MAX_MISTAKES]
    result = content.evaluation and _result(content.evaluation)
    strangers = content.identification and _strangers(content.identification)
    return environment.from_string(template).render(
        content=content,
        training=content.training,
        funnel=content.funnel and _funnel(content.funnel),
        curves=curves and {"loss": _image(plots.loss_svg(curves)), "accuracy": _image(plots.accuracy_svg(curves))},
        compared=len(runs) > 1 and _image(plots.compared_svg(runs)),
        kept_epoch=curves and curves.kept,
        result=result,
        strangers=strangers,
        sure=content.identification and _sure(content.identification),
        random=_random(content),
        groups=_groups(content),
        remembering=content.remembering,
        mistakes=[(mistake, _data_uri("image/jpeg", mistake.chip)) for mistake in mistakes],
        at_once=AT_ONCE,
        asides=[
            (title, [(aside, _data_uri("image/jpeg", aside.chip)) for aside in asides[:MAX_ASIDES]])
            for title, asides in (("Left out", content.left_out), ("Kept, but doubtful", content.doubtful))
            if asides
        ],
        labelling=content.labelling,
        most_people=MAX_PEOPLE,
        changes=content.changes,
        warnings=_warnings(content),
    )


def _on_one_line(share: float | None) -> str:
    return percent(share).replace(" ", "\u00a0")


def _warnings(content: ReportContent) -> list[str]:
    """What a reader has to know even if nothing else is read."""
    found = list(content.notes)
    if content.training and content.training.commercial_ok == "no":
        found.append("The base model's licence does not allow commercial use.")
    if content.identification and content.identification.chosen.at(content.identification.settings.fpir).refusal:
        found.append("It cannot say “unknown” yet: every stranger is given a name of the cast.")
    worse = [f"{short(by.by)}, {short(group.value)}" for by in content.groupings for group in by.worse]
    if worse:
        more = f"; and {len(worse) - 3} more" if worse[3:] else ""
        found.append(f"It does worse for some: {'; '.join(worse[:3])}{more}.")
    if content.not_in_cast:
        names = ", ".join(short(name) for name in content.not_in_cast[:5])
        more = f" and {len(content.not_in_cast) - 5} more" if len(content.not_in_cast) > 5 else ""
        found.append(f"labels/people.csv speaks of people whom the model does not name: {names}{more}.")
    return found


def _funnel(funnel: Funnel) -> dict[str, Any]:
    reasons = list(funnel.reasons())
    return {
        "counts": funnel,
        "plot": _image(plots.funnel_svg(funnel)),
        "reasons": reasons[:MAX_REASONS],
        "other_reasons": reasons[MAX_REASONS:],
    }


def _result(evaluation: Evaluation) -> dict[str, Any]:
    people, persons, worst = evaluation.people, evaluation.persons, evaluation.worst
    low, high = wilson_interval(evaluation.correct, evaluation.n)
    wrong = evaluation.n - evaluation.correct
    return {
        "n": evaluation.n,
        "n_people": len(people),
        "wrong": wrong,
        "top1": evaluation.top(1),
        "low": low,
        "high": high,
        "k": evaluation.k,
        "top_k": evaluation.top(evaluation.k),
        "words": in_plain_words(evaluation.correct, evaluation.n),
        "worst": worst[0],
        "persons": [*worst, *(person for person in persons if person.recall is None)],
        "few": FEW_OF_A_PERSON,
        "people_plot": _image(plots.people_svg(worst)) if wrong else "",
        "confusion_plot": _image(plots.confusion_svg(people, evaluation.confusion)) if wrong else "",
        "confusion_drawn": len(plots.confused_people(evaluation.confusion)),
        "pairs": [(people[t], people[p], n) for t, p, n in most_confused(evaluation.confusion, MAX_PAIRS)],
        "roc": evaluation.roc,
        "rates": [evaluation.roc.at(far) for far in FARS],
        "roc_plot": _image(plots.roc_svg(evaluation.roc)) if evaluation.roc.auc is not None else "",
    }


def _strangers(identification: Identification) -> dict[str, Any]:
    chosen, fpir = identification.chosen, identification.settings.fpir
    point = chosen.at(fpir)
    named = {"similarity": identification.by_similarity, "confidence": identification.by_confidence}
    return {
        "words": strangers_in_plain_words(point),
        "point": point,
        "by": identification.settings.by,
        "chosen": chosen,
        "statistics": named,
        "plot": _image(plots.open_set_svg(named, None if point.tpir is None else (fpir, point.tpir)))
        if any(len(curve.fpir) for curve in named.values())
        else "",
    }


def _sure(identification: Identification) -> dict[str, Any]:
    before = identification.reliability(1.0)
    after = identification.reliability(identification.temperature)
    return {
        "before": before,
        "after": after,
        "temperature": identification.temperature,
        "lean": lean(before),
        "lean_after": lean(after),
        "plot": _image(plots.reliability_svg(before, after)),
    }


def _random(content: ReportContent) -> list[dict[str, Any]]:
    """The two splits beside each other, the leak-free one first."""
    if not content.random_top1 or not content.evaluation:
        return []
    return [
        {"title": title, "right": right, "n": n, "share": right / n, "interval": wilson_interval(right, n)}
        for title, (right, n) in (
            (
                "Near-duplicates kept together (all other figures here)",
                (content.evaluation.correct, content.evaluation.n),
            ),
            ("Photos divided at random", content.random_top1),
        )
        if n
    ]


def _groups(content: ReportContent) -> dict[str, Any] | None:
    """Each grouping with the groups that are shown, and how many of those too small to say are not."""
    if not content.groupings:
        return None

    def shown(grouping: Grouping) -> tuple[Grouping, list[Group], int]:
        few = [group for group in grouping.groups if group.few]
        dropped = set(few[: max(0, len(grouping.groups) - MAX_GROUPS)])
        return grouping, [group for group in grouping.groups if group not in dropped], len(dropped)

    every = [group for grouping in content.groupings for group in grouping.groups]
    first = content.groupings[0].groups
    faces = sum(group.faces for group in first)
    shares = [end for group in every if not group.few for end in (group.interval[0], (group.tpir_interval or (1,))[0])]
    return {
        "groupings": [shown(grouping) for grouping in content.groupings],
        "enough": sum(not group.few for group in every),
        "worse": [(grouping, group) for grouping in content.groupings for group in grouping.worse],
        "overall": sum(group.right for group in first) / faces,
        "named": None if first[0].named is None else sum(group.named or 0 for group in first) / faces,
        # Bars start here, so that those of good models can be told apart.
        "floor": math.floor(10 * min(shares, default=0.0)) / 10,
        "of_people": any(grouping.of_people for grouping in content.groupings),
        "few_faces": FEW_FACES,
        "few_people": FEW_PEOPLE,
    }


def _image(svg: str) -> str:
    # An image, not inline: nothing in it can run or clash with the page, and it still follows the theme.
    return _data_uri("image/svg+xml", svg.encode())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"

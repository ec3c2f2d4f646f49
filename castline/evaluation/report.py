"""The report: one HTML page that opens anywhere, offline, and is written for people who are not engineers.

Everything on the page is inside the file, and its content security policy forbids the rest: no script, no
request. Names come from folders, so they are escaped, and what hides in them is made visible (see `names`).
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from castline.evaluation import plots
from castline.evaluation.measures import FARS, Evaluation, Funnel, most_confused, wilson_interval
from castline.evaluation.plots import Curves
from castline.evaluation.remembering import Remembering
from castline.text import short

__all__ = ["Mistake", "ReportContent", "Training", "in_plain_words", "render_report", "write_report"]

# What a reader looks at before tiring.
MAX_MISTAKES = 24
MAX_PAIRS = 8
MAX_REASONS = 12
# With fewer test faces a person's figure is an anecdote: at 5 of 5 the interval still reaches down to 57 %.
FEW_FACES = 5


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
class ReportContent:
    """What the report is about. A section without data is left out: `funnel` alone is a dataset report.

    curves: of the model first, then of heads that were trained beside it.
    notes: sentences that the reader should know, shown at the top. remembering: of an incremental update.
    """

    title: str
    training: Training | None = None
    evaluation: Evaluation | None = None
    funnel: Funnel | None = None
    curves: Sequence[Curves] = ()
    mistakes: Sequence[Mistake] = ()
    notes: Sequence[str] = ()
    remembering: Remembering | None = None


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report to `path`, making its folder. Equal content gives equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_report(content), encoding="utf-8", newline="\n")


def render_report(content: ReportContent) -> str:
    """The report as HTML."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "short": short}
    template = files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8")
    runs = [curves for curves in content.curves if curves.epoch]
    curves = runs[0] if runs else None
    mistakes = sorted(content.mistakes, key=lambda mistake: -mistake.confidence)[:MAX_MISTAKES]
    return environment.from_string(template).render(
        content=content,
        training=content.training,
        funnel=content.funnel and _funnel(content.funnel),
        curves=curves and {"loss": _image(plots.loss_svg(curves)), "accuracy": _image(plots.accuracy_svg(curves))},
        compared=len(runs) > 1 and _image(plots.compared_svg(runs)),
        kept_epoch=curves and curves.kept,
        result=content.evaluation and _result(content.evaluation),
        remembering=content.remembering,
        mistakes=[(mistake, _data_uri("image/jpeg", mistake.chip)) for mistake in mistakes],
    )


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
        "few": FEW_FACES,
        "people_plot": _image(plots.people_svg(worst)) if wrong else "",
        "confusion_plot": _image(plots.confusion_svg(people, evaluation.confusion)) if wrong else "",
        "confusion_drawn": len(plots.confused_people(evaluation.confusion)),
        "pairs": [(people[t], people[p], n) for t, p, n in most_confused(evaluation.confusion, MAX_PAIRS)],
        "roc": evaluation.roc,
        "rates": [evaluation.roc.at(far) for far in FARS],
        "roc_plot": _image(plots.roc_svg(evaluation.roc)) if evaluation.roc.auc is not None else "",
    }


def in_plain_words(correct: int, n: int) -> str:
    """A proportion as a sentence that never rounds a mistake away.

    >>> in_plain_words(66, 67), in_plain_words(2231, 2300)
    ('Of 67 test faces, 66 are named right.', 'Of every 100 test faces, about 97 are named right.')
    >>> in_plain_words(9999, 10000)
    'All but 1 of 10,000 test faces are named right.'
    """
    if correct == n:
        return f"All {n:,} test faces are named right." if n > 1 else "The only test face is named right."
    if n > 200:
        for whole in (100, 1000):
            if 0 < (named := round(whole * correct / n)) < whole:
                return f"Of every {whole:,} test faces, about {named} {'is' if named == 1 else 'are'} named right."
        if correct > n / 2:
            return f"All but {n - correct} of {n:,} test faces are named right."
    faces, verb = "face" if n == 1 else "faces", "is" if correct == 1 else "are"
    return f"Of {n:,} test {faces}, {correct} {verb} named right."


def percent(share: float | None) -> str:
    """A share with one digit, never rounded up to 100 % or down to 0 %.

    >>> percent(0.975), percent(1.0), percent(0.9999), percent(None)
    ('97.5 %', '100 %', '99.9 %', '–')
    """
    if share is None:
        return "–"
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    return f"{min(max(100 * share, 0.1), 99.9):.1f} %"


def _image(svg: str) -> str:
    # An image, not inline: nothing in it can run or clash with the page, and it still follows the theme.
    return _data_uri("image/svg+xml", svg.encode())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"

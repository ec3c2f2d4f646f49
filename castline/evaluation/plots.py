"""Plots: as SVG for the report, and as CSV for `dvc plots`.

Every SVG stands alone: it follows the reader's light or dark theme, needs no font file, and is byte-equal for
equal numbers. Colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

import csv
import io
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from castline.evaluation.calibration import Reliability
from castline.evaluation.groups import Grouping
from castline.evaluation.measures import FARS, RULE_OF_30, Evaluation, Funnel, PersonResult, Roc
from castline.evaluation.open_set import OpenSet
from castline.text import csv_cell, short

__all__ = [
    "Curves",
    "accuracy_svg",
    "compared_svg",
    "confused_people",
    "confusion_svg",
    "funnel_svg",
    "loss_svg",
    "open_set_svg",
    "people_svg",
    "read_curves_csv",
    "reliability_svg",
    "roc_svg",
    "write_confusion_csv",
    "write_groups_csv",
    "write_people_csv",
    "write_roc_csv",
]

# What is drawn, and what it becomes in a light and in a dark page. The names are those of the CSS variables.
_THEME = {
    "ink": ("#1f2933", "#e6e9ee"),
    "quiet": ("#66717e", "#98a3b0"),
    "line": ("#dfe3e8", "#323a44"),
    "paper": ("#fffffe", "#14181d"),
    "blue": ("#0072b2", "#56b4e9"),
    "green": ("#009e73", "#2fc79b"),
    "orange": ("#d55e00", "#f0883e"),
    "sky": ("#56b4e8", "#0f78b4"),
}
INK, QUIET, LINE, PAPER, BLUE, GREEN, ORANGE, SKY = (light for light, _ in _THEME.values())

_STYLE: dict[str, object] = {
    "axes.axisbelow": True,
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.labelcolor": QUIET,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.autolayout": True,  # one pass; constrained layout takes two
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the layout is the same everywhere
    "font.size": 9,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "castline",
    "text.color": INK,
    "text.parse_math": False,  # a name may hold dollar signs
    "xtick.color": QUIET,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.color": QUIET,
    "ytick.major.size": 0,
}
_styled = matplotlib.style.context(_STYLE, after_reset=True)  # also a decorator: the whole function draws in it
_CURVES = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
_WIDTH = 4.2  # inches: a phone shows it almost at full size, a desktop two side by side
MAX_CONFUSED = 40  # people in the heat-map: names are still readable


@dataclass(frozen=True)
class Curves:
    """How training went, a value an epoch; NaN where there is none.

    epoch: numbers of the epochs. Losses as trained with, accuracies 0 to 1.
    kept: the epoch whose weights were kept by early stopping, None for the last.
    run: what tells it from others that are drawn beside it, such as "dropout=0.5".
    """

    epoch: Sequence[int]
    train_loss: Sequence[float]
    val_loss: Sequence[float]
    train_accuracy: Sequence[float]
    val_accuracy: Sequence[float]
    kept: int | None = None
    run: str = ""

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, float | str]], kept: int | None = None, run: str = "") -> "Curves":
        """From one mapping an epoch, keyed like the fields; what is absent or empty is NaN.

        >>> Curves.of([{"epoch": 0, "train_loss": 1.5}]).val_loss
        [nan]
        """
        rows = list(rows)
        train_loss, val_loss, train_accuracy, val_accuracy = (
            [math.nan if row.get(name, "") == "" else float(row[name]) for row in rows] for name in _CURVES
        )
        epoch = [int(row["epoch"]) for row in rows]
        return cls(epoch, train_loss, val_loss, train_accuracy, val_accuracy, kept, run)


def loss_svg(curves: Curves) -> str:
    """Training and validation loss over the epochs."""
    return _curves_svg(curves, curves.train_loss, curves.val_loss, percent=False)


def accuracy_svg(curves: Curves) -> str:
    """Training and validation accuracy over the epochs."""
    return _curves_svg(curves, curves.train_accuracy, curves.val_accuracy, percent=True)


@_styled
def compared_svg(runs: Sequence[Curves]) -> str:
    """Training and validation accuracy of several runs, a colour a run."""
    figure, axes = _canvas(2 * _WIDTH, 3.4)
    for curves, colour in zip(runs, (BLUE, ORANGE, GREEN, SKY, QUIET), strict=False):
        axes.plot(
            curves.epoch, curves.train_accuracy, color=colour, linestyle=(0, (4, 1.5)), label=f"{curves.run}: training"
        )
        axes.plot(curves.epoch, curves.val_accuracy, color=colour, label=f"{curves.run}: validation")
    axes.yaxis.set_major_formatter(_percent())
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.set_xlabel("epoch")
    axes.legend(loc="best")
    return _svg(figure)


@_styled
def _curves_svg(curves: Curves, train: Sequence[float], val: Sequence[float], percent: bool) -> str:
    figure, axes = _canvas(_WIDTH, 2.7)
    dot = "o" if len(curves.epoch) == 1 else ""
    axes.plot(curves.epoch, train, color=ORANGE, linestyle=(0, (4, 1.5)), marker=dot, label="training")
    axes.plot(curves.epoch, val, color=BLUE, marker=dot, label="validation")
    if curves.kept is not None:
        axes.axvline(curves.kept, color=QUIET, linewidth=1, linestyle=":", label=f"kept: epoch {curves.kept}")
    if percent:
        axes.yaxis.set_major_formatter(_percent())
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch")
    axes.legend(loc="best")
    return _svg(figure)


@_styled
def roc_svg(roc: Roc) -> str:
    """TAR over FAR, FAR on a log axis; dotted where there are too few impostor pairs to trust it.

    The points are the rates that are quoted, those of them that the pairs can support.
    """
    figure, axes = _canvas(_WIDTH, 3.1)
    far, tar = roc.sampled()
    if len(far):
        firm = far >= RULE_OF_30 / roc.impostor
        axes.plot(far, tar, color=BLUE, linestyle=":", linewidth=1.2)
        axes.plot(far[firm], tar[firm], color=BLUE)
        for point in map(roc.at, FARS):
            if point.tar is not None:
                axes.plot(point.far, point.tar, "o", color=BLUE, markersize=5)
        axes.set_xscale("log")
        axes.set_xlim(max(far[0], 1e-6), 1)
        floor = math.floor(10 * float(tar.min()) - 0.5) / 10
        axes.set_ylim(max(0.0, min(floor, 0.9)), 1.005)
    axes.xaxis.set_major_formatter(_percent())
    axes.yaxis.set_major_formatter(_percent())
    axes.set_xlabel("different people taken for the same (FAR)")
    axes.set_ylabel("same person recognised (TAR)")
    return _svg(figure)


@_styled
def open_set_svg(curves: Mapping[str, OpenSet], point: tuple[float, float] | None = None) -> str:
    """TPIR over FPIR, FPIR on a log axis, a line a statistic. point: FPIR and TPIR of the threshold that was chosen."""
    figure, axes = _canvas(_WIDTH, 3.1)
    lowest, floor = 1.0, 1.0
    for (name, curve), colour in zip(curves.items(), (BLUE, ORANGE, GREEN), strict=False):
        seen = curve.fpir > 0
        # What one face of theirs decides is no rate, and a curve of thousands of steps is no better for them.
        far = np.geomspace(1 / max(2, len(curve.impostors.statistic)), 1.0, 120)
        if not seen.any():
            continue
        heights = curve.tpir[np.searchsorted(curve.fpir, far * (1 + 1e-12), side="right") - 1]
        axes.plot(far, heights, color=colour, label=f"by {name}", drawstyle="steps-post")
        lowest, floor = min(lowest, float(far[0])), min(floor, float(heights.min()))
    if point:
        axes.plot(*point, "o", color=INK, markersize=6, label="chosen")
    axes.set_xscale("log")
    axes.set_xlim(lowest if lowest < 1 else 0.001, 1)
    axes.set_ylim(max(0.0, min(math.floor(10 * floor - 0.5) / 10, 0.9)), 1.005)
    axes.xaxis.set_major_formatter(_percent())
    axes.yaxis.set_major_formatter(_percent())
    axes.set_xlabel("strangers given a name (FPIR)")
    axes.set_ylabel("cast named right (TPIR)")
    if axes.lines:
        axes.legend(loc="lower right")
    return _svg(figure)


@_styled
def reliability_svg(before: Reliability, after: Reliability) -> str:
    """The share that is named right over the confidence, before and after calibration; on the diagonal it is true.

    A dot's area is its share of the faces, its line the 95 % interval.
    """
    figure, axes = _canvas(_WIDTH, 3.4)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":")
    for measured, colour, label in ((before, ORANGE, "before"), (after, BLUE, "after calibration")):
        total = sum(found.count for found in measured.bins)
        x, y = [found.confidence for found in measured.bins], [found.accuracy for found in measured.bins]
        area = [12 + 120 * found.count / max(1, total) for found in measured.bins]
        if measured is after:
            axes.vlines(x, *np.array([found.interval for found in measured.bins]).T, color=colour, linewidth=1)
        axes.scatter(x, y, area, color=colour, alpha=0.75, linewidths=0, label=label)
    axes.set_xlim(0, 1.03)
    axes.set_ylim(0, 1.03)
    axes.xaxis.set_major_formatter(_percent())
    axes.yaxis.set_major_formatter(_percent())
    axes.set_xlabel("confidence that it gives")
    axes.set_ylabel("named right")
    for handle in axes.legend(loc="upper left").legend_handles:
        handle.set_sizes([30])  # type: ignore[union-attr]
    return _svg(figure)


@_styled
def confusion_svg(people: Sequence[str], confusion: NDArray[np.int64], limit: int = MAX_CONFUSED) -> str:
    """The confusion matrix as a heat-map: blue is right, orange wrong, deeper is a larger share of the row.

    people: P names. confusion: (P, P) int, rows are the truth.
    With more than `limit` people, only those who are confused most are drawn: see `confused_people`.
    """
    shown_people = confused_people(confusion, limit)
    counts = confusion[np.ix_(shown_people, shown_people)]
    rows = confusion[shown_people].sum(1)
    n = len(shown_people)
    side = 1.1 + max(2.4, 0.19 * n)
    figure, axes = _canvas(side + 0.1, side)
    for y, x in zip(*(index.tolist() for index in np.nonzero(counts)), strict=True):
        share = counts[y, x] / rows[y]
        deep = 0.15 + 0.85 * share if x == y else 0.5 + 0.5 * share
        colour = BLUE if x == y else ORANGE
        axes.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, color=colour, alpha=deep, linewidth=0))
        if n <= 20:
            ink = PAPER if deep > 0.6 else INK
            axes.text(x, y, str(counts[y, x]), ha="center", va="center", color=ink, fontsize=7 if n > 10 else 9)
    names = [short(people[index], 16) for index in shown_people]
    size = 9 if n <= 12 else 7
    axes.set_xticks(range(n), names, rotation=90, ha="right", va="center", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(range(n), names, fontsize=size)
    axes.set_xlim(-0.5, n - 0.5)
    axes.set_ylim(n - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    for i in range(n + 1):
        axes.axhline(i - 0.5, color=LINE, linewidth=0.4)
        axes.axvline(i - 0.5, color=LINE, linewidth=0.4)
    axes.set_xlabel("name given")
    axes.set_ylabel("who it is")
    return _svg(figure)


def confused_people(confusion: NDArray[np.int64], limit: int = MAX_CONFUSED) -> list[int]:
    """Who is worth a row of the heat-map: everybody, or of more than `limit` people those most often confused.

    confusion: (P, P) int. A mistake counts for the person it was made of and for the one whose name was given.

    >>> confused_people(np.array([[5, 0, 0], [0, 4, 1], [0, 0, 5]]), limit=2)
    [1, 2]
    """
    if len(confusion) <= limit:
        return list(range(len(confusion)))
    wrong = confusion.sum(0) + confusion.sum(1) - 2 * confusion.diagonal()
    most = np.argsort(-wrong, kind="stable")[:limit]
    return sorted(int(index) for index in most if wrong[index])


@_styled
def people_svg(results: Sequence[PersonResult], limit: int = 15) -> str:
    """Recall of the first `limit` of `results` as bars with their 95 % intervals; give the worst first."""
    tested = [result for result in results if result.recall is not None][:limit]
    figure, axes = _canvas(_WIDTH, 0.7 + 0.26 * max(1, len(tested)))
    for y, result in enumerate(tested):
        recall = result.recall or 0.0
        low, high = result.interval
        axes.barh(y, recall, 0.62, color=BLUE, alpha=0.5, linewidth=0)
        axes.plot([low, high], [y, y], color=INK, linewidth=1.1, solid_capstyle="butt")
    axes.set_yticks(
        range(len(tested)),
        # Isolated, so that a name written from right to left does not turn the numbers round.
        [f"\u2068{short(result.person, 18)}\u2069 {result.correct}/{result.n}" for result in tested],
    )
    axes.set_ylim(len(tested) - 0.4, -0.6)
    axes.set_xlim(0, 1.01)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(_percent())
    axes.set_xlabel("named right")
    return _svg(figure)


@_styled
def funnel_svg(funnel: Funnel) -> str:
    """Photos in, faces found, faces kept by split: three bars on one scale, orange for what fell out."""
    rows = [
        [("with a face", funnel.readable, BLUE), ("rejected", funnel.photos - funnel.readable, ORANGE)],
        [("kept", funnel.kept, BLUE), ("left out", funnel.faces - funnel.kept, ORANGE)],
        [(name, count, (BLUE, SKY, GREEN, QUIET)[min(i, 3)]) for i, (name, count) in enumerate(funnel.splits.items())],
    ]
    titles = [f"{funnel.photos:,} photos", f"{funnel.faces:,} faces found", f"{funnel.kept:,} faces kept"]
    figure, axes = _canvas(_WIDTH, 2.3)
    most = max(1, funnel.photos, funnel.faces)
    for y, (title, segments) in enumerate(zip(titles, rows, strict=True)):
        axes.text(0, y - 0.36, title, ha="left", va="bottom", fontweight="bold")
        left = 0.0
        parts = []
        for name, count, colour in segments:
            if count:
                axes.barh(y, count, 0.5, left=left, color=colour, linewidth=0.8, edgecolor=PAPER)
                left += count
                parts.append(f"{count:,} {short(name, 20)}")
        axes.text(most, y - 0.36, ", ".join(parts), ha="right", va="bottom", color=QUIET)
    axes.set_xlim(0, most)
    axes.set_ylim(2.4, -0.75)
    axes.set_axis_off()
    return _svg(figure)


def write_roc_csv(path: Path, roc: Roc) -> None:
    """`far,tar`: 200 points, evenly spaced in log FAR; no row when there are too few pairs for a curve."""
    _write_csv(path, ["far", "tar"], zip(*(column.tolist() for column in roc.sampled()), strict=True))


def write_confusion_csv(path: Path, evaluation: Evaluation) -> None:
    """`actual,predicted`: a row a test face, as dvc's confusion template wants it. Names pass `csv_cell`."""
    names = [csv_cell(person) for person in evaluation.people]
    pairs = zip(evaluation.truth.tolist(), evaluation.predicted.tolist(), strict=True)
    _write_csv(path, ["actual", "predicted"], ([names[actual], names[given]] for actual, given in pairs))


def read_curves_csv(path: Path) -> list[Curves]:
    """A CSV with an `epoch` column and some of the others, by run: the model's first; kept is where `kept` is 1."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    runs: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        runs.setdefault(row.get("run", ""), []).append(row)
    return [
        Curves.of(own, next((int(row["epoch"]) for row in own if row.get("kept") == "1"), None), run)
        for run, own in runs.items()
    ]


def write_people_csv(path: Path, evaluation: Evaluation) -> None:
    """A row a person, worst recall first, people without a test face last; see `PersonResult`."""
    columns = ["person", "n", "correct", "recall", "recall_low", "recall_high", "precision", "confused_with"]
    untested = [result for result in evaluation.persons if result.recall is None]
    _write_csv(
        path,
        [*columns, "confused"],
        (
            [
                csv_cell(result.person),
                result.n,
                result.correct,
                math.nan if result.recall is None else result.recall,
                *result.interval,
                math.nan if result.precision is None else result.precision,
                csv_cell(result.confused_with),
                result.confused,
            ]
            for result in [*evaluation.worst, *untested]
        ),
    )


def write_groups_csv(path: Path, groupings: Sequence[Grouping]) -> None:
    """A row a group, smallest first within what tells them apart; see castline.evaluation.groups."""
    columns = [
        "by",
        "value",
        "faces",
        "people",
        "right",
        "share",
        "low",
        "high",
        "tpir",
        "tpir_low",
        "tpir_high",
        "says",
    ]
    rows: list[list[str | float]] = []
    for grouping in groupings:
        for group in grouping.groups:
            named = (math.nan,) * 3 if group.tpir is None else (group.tpir, *(group.tpir_interval or ()))
            says = "too few" if group.few else "behind" if group.worse else ""
            texts = (csv_cell(grouping.by), csv_cell(group.value))
            rows.append([*texts, group.faces, group.people, group.right, group.share, *group.interval, *named, says])
    _write_csv(path, columns, rows)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.6g}" if math.isfinite(value) else ""


def _percent() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{100 * value:g} %")


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure, in inches. No pyplot: nothing is kept anywhere."""
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


_COLOUR = {light: f"var(--{name})" for name, (light, _) in _THEME.items()}
_CSS = (
    "<style>:root{"
    + "".join(f"--{name}:{light};" for name, (light, _) in _THEME.items())
    + "}@media(prefers-color-scheme:dark){:root{"
    + "".join(f"--{name}:{dark};" for name, (_, dark) in _THEME.items())
    + "}}</style>"
)


def _svg(figure: Figure) -> str:
    """The figure as text that starts with <svg: themed, undated, in the reader's own font."""
    out = io.StringIO()
    with warnings.catch_warnings():
        # The reader's fonts draw the text, so it does not matter which scripts DejaVu lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"(?<=: )#[0-9a-f]{6}\b", lambda match: _COLOUR.get(match[0], match[0]), text)
    text = text.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif")
    return re.sub(r"(<svg[^>]*>)", lambda match: match[1] + _CSS, text, count=1)

"""What a study found, as a table and as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from castline.tuning.search import Value
from castline.tuning.study import Study, Trial

__all__ = ["as_json", "line", "table"]

_ROWS = 10


def line(study: Study, trial: Trial) -> str:
    """A trial on one line, as it ends."""
    settings = "  ".join(f"{key} {_short(value)}" for key, value in trial.settings.items())
    result = f"failed: {trial.reason}" if trial.value is None else f"{study.search.objective} {trial.value:.5g}"
    return f"{trial.experiment}  {result}  {settings}  {trial.seconds:.0f} s"


def table(study: Study, wanted: int) -> str:
    """The best trials, those that failed and why, and what to type next."""
    trials, best = study.trials, study.best
    failed = [trial for trial in trials if trial.value is None]
    better = "lower" if study.search.objective == "val_loss" else "higher"
    lines = [
        f"{study.name}: {len(trials)} of {wanted} trials, {len(failed)} failed; "
        f"{study.search.objective} of the kept epoch, {better} is better"
    ]
    if best is not None:
        keys = list(study.search.space)
        rows = [["trial", study.search.objective, "epoch", *keys]]
        for trial in study.ranked[:_ROWS]:
            settings = (_short(trial.settings.get(key)) for key in keys)
            rows.append([trial.experiment, _short(trial.value), str(trial.epoch), *settings])
        lines += _aligned(rows)
    lines += [f"{trial.experiment} failed: {trial.reason}" for trial in failed[-_ROWS:]]
    if best is not None:
        metrics = study.test_metrics(best)
        measured = ", ".join(f"{key} {_short(metrics[key])}" for key in ("top1", "n_test") if key in metrics)
        lines += [
            f"{best.experiment} on the test faces, not chosen by: {measured}",
            f"next: dvc exp apply {best.experiment}",
            "      then: write its settings into conf/, which experiments are composed from, and git commit -a",
        ]
    if len(trials) < wanted:
        lines.append(f"to go on: castline tune --trials {wanted} --name {study.name}, with the same --search")
    return "\n".join(lines)


def as_json(study: Study) -> str:
    """Every trial, the best one, and what evaluation found of it."""
    best = study.best
    return json.dumps(
        {
            "study": study.name,
            "objective": study.search.objective,
            "trials": [asdict(trial) for trial in study.trials],
            "best": None if best is None else {**asdict(best), "test_metrics": study.test_metrics(best)},
        },
        indent=2,
        ensure_ascii=False,
    )


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        right = (word.rjust(width) for word, width in zip(rest, widths[1:], strict=True))
        yield "  ".join([first.ljust(widths[0]), *right])

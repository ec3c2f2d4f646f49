"""What an agent of ClearML runs: `python -m castline.fleet.task`, at the commit that its task names.

It reads what to do from the task, runs it, shows curves, numbers, tables and the report, and hands back what belongs
into dvc.lock. Photos and faces stay: of the report, which shows faces, the pictures are taken out.
"""

import csv
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from castline.errors import ConfigError, exits_cleanly, optional_import
from castline.fleet.server import RESULT, SECTION, result_of
from castline.fleet.stage import Done, Job, perform

__all__ = ["main", "without_pictures"]

_PICTURE = re.compile(rb"data:image/(?!svg\+xml)[^\"'\s)>]*", re.IGNORECASE)
_ROWS = 500  # of a table that is shown


@exits_cleanly
def main() -> None:
    name = os.environ.get("CLEARML_TASK_ID", "")
    if not name:
        raise ConfigError("CLEARML_TASK_ID is not set: this is for agents of ClearML", "castline fleet run")
    task = optional_import("clearml", "clearml").Task.get_task(task_id=name)
    told = {key.removeprefix(f"{SECTION}/"): str(value) for key, value in task.get_parameters().items()}
    try:
        overrides = tuple(map(str, json.loads(told["overrides"])))
        job = Job(told["stage"] or None, told["rev"], overrides, told["experiment"])
        inputs = [str(one) for one in json.loads(told["inputs"])]
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"task {name} does not say what to do: {error!r}", "castline fleet run") from error
    show = Show(task.get_logger())
    done = perform(job, [result_of(one) for one in inputs], _tolerant(show.epoch))
    _tolerant(show.everything)(done, task)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{RESULT}.json")
        path.write_text(done.fragment.to_json(), encoding="utf-8")
        if not task.upload_artifact(RESULT, str(path), preview="", wait_on_upload=True):
            raise ConfigError("ClearML's files server took nothing", "look at files_server in clearml.conf")
    task.flush(wait_for_uploads=True)


class Show:
    """What people see of a task in ClearML."""

    def __init__(self, logger: Any) -> None:
        self.logger, self.live = logger, False

    def epoch(self, row: dict[str, Any], run: str = "") -> None:
        """A row of training: epoch, from 0, and losses and accuracies."""
        self.live = True
        for name, value in row.items():
            if name not in ("epoch", "time"):
                part, _, measure = name.partition("_")
                series = f"{run} {part}".strip()
                self.logger.report_scalar(
                    measure.capitalize(), series, value=float(value), iteration=int(row["epoch"]) + 1
                )

    def everything(self, done: Done, task: Any) -> None:
        """Of a stage that has ended: its params, metrics, curves, tables and report."""
        task.set_configuration_object("params.yaml", config_text=done.params, config_type="yaml")
        for path, content in done.reports.items():
            name, kind = Path(path).stem, Path(path).suffix
            if path == "reports/curves.csv":
                self._curves(content)
            elif kind == ".csv":
                self._table(name, list(csv.reader(content.decode(errors="replace").splitlines())))
            elif kind == ".json":
                for key, value in json.loads(content).items():
                    if isinstance(value, int | float) and not isinstance(value, bool):
                        self.logger.report_single_value(f"{name}.{key}", value)
            elif kind == ".html":
                self._page(name, content, task)

    def _curves(self, content: bytes) -> None:
        live, first = self.live, ""
        for row in csv.DictReader(content.decode(errors="replace").splitlines()):
            run = row["run"]
            first = first or run
            if not (live and run == first):  # the model's own, which has been shown while it was trained
                numbers = {name: float(row[name]) for name in row if row[name] and name not in ("run", "kept")}
                self.epoch(numbers | {"epoch": numbers["epoch"] - 1}, "" if run == first else run)

    def _table(self, name: str, rows: list[list[str]]) -> None:
        match rows[:1]:
            case [["far", "tar"]]:
                points = [[float(value) for value in row] for row in rows[1:]]
                self.logger.report_scatter2d(name, name, points, iteration=0, mode="lines", xaxis="FAR", yaxis="TAR")
            case [["actual", "predicted"]]:
                counts = Counter(map(tuple, rows[1:]))
                people = sorted({person for pair in counts for person in pair})
                matrix = [[counts[actual, predicted] for predicted in people] for actual in people]
                labels = {"xaxis": "predicted", "yaxis": "actual", "xlabels": people, "ylabels": people}
                self.logger.report_confusion_matrix(name, name, matrix, iteration=0, **labels)
            case [_]:
                self.logger.report_table(name, name, iteration=0, table_plot=rows[: _ROWS + 1])

    def _page(self, name: str, content: bytes, task: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{name}.html")
            path.write_bytes(without_pictures(content))
            task.upload_artifact("report", str(path), preview="", wait_on_upload=True)


def without_pictures(page: bytes) -> bytes:
    """A page without the pictures in it; drawings (SVG) stay."""
    return _PICTURE.sub(b"data:,", page)


def _tolerant(show: Callable[..., None]) -> Callable[..., None]:
    """That something cannot be shown is said, and is no reason to lose what was computed."""

    def shown(*arguments: Any) -> None:
        try:
            show(*arguments)
        except Exception as error:
            print(f"ClearML was not shown everything: {error!r}", file=sys.stderr)

    return shown


if __name__ == "__main__":
    main()

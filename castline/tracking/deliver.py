"""What lies in the spool, delivered: as often as it takes, and in MLflow once.

Nothing is remembered here of what was delivered. MLflow is asked: for the run of a record's key, for the steps that a
curve has already, for the latest value of a metric. So a delivery that was killed is simply done again.

As a program, which a stage starts: delivers what comes until its standard input ends, then all there is, and prints one
line that says how it went.
"""

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import re
import select
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from castline.errors import CastlineError
from castline.files import params
from castline.tracking.settings import TrackingSettings
from castline.tracking.spool import ASIDE, SPOOL
from castline.tracking.store import Store, opened, target
from castline.versions.facts import Facts, flat

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["Delivered", "Record", "deliver", "facts_tags", "log_facts", "records"]

_PAUSE = 2.0  # seconds between looks at the spool while a stage runs
_BATCH = 100  # parameters, tags and metrics that MLflow takes at once
# Stages that, when one runs, have in dvc.lock what an earlier run left.
_LATER = {
    "train": {"train", "evaluate", "convert", "export", "package"},
    "evaluate": {"evaluate", "convert", "export", "package"},
    "export": {"export", "evaluate", "package"},
}
_METRICS = ("metrics", "export", "dataset", "labels")
_CURVES = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")


@dataclass(frozen=True)
class Record:
    """A stage's run, as castline.tracking.spool wrote it down."""

    folder: Path
    said: dict[str, Any]

    @property
    def ended(self) -> dict[str, Any] | None:
        """How and when; None while it runs, or if it was killed. Read anew, for a stage may end while others' records
        are delivered: final if it is asked after `over`."""
        file = self.folder / "ended.json"
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # a machine that stopped may leave an empty file
            return None

    @property
    def settings(self) -> TrackingSettings:
        return params.typed(self.said["tracking"], TrackingSettings, "tracking")

    @property
    def over(self) -> bool:
        """Whether nothing more will be written into it."""
        if self.ended is not None:
            return True
        try:
            with (self.folder / "epochs.jsonl").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: of two who look, none keeps the other out
        except BlockingIOError:
            return False
        except FileNotFoundError:  # another process has delivered and removed it
            return True
        return True

    @property
    def facts(self) -> Facts:
        def read(path: str) -> bytes | None:
            file = self.folder / path
            return file.read_bytes() if file.is_file() else None

        return Facts(read)


@dataclass
class Delivered:
    """How a delivery went. runs: pages of what was delivered. left: whole records that remain. problem: the first."""

    runs: dict[str, None]
    left: int = 0
    problem: str = ""

    def line(self) -> str:
        """In one line."""
        if self.problem:
            waits = f"; {self.left} to deliver, castline track sync does it later" if self.left else ""
            return f"{' '.join(self.problem.split())[:300]}{waits}"
        return next(reversed(self.runs), "nothing to deliver")


def records(root: Path) -> list[Record]:
    """What lies in the spool, oldest first; what cannot be read is passed over."""
    found = []
    for folder in sorted((root / SPOOL).glob("*-*")):
        with contextlib.suppress(OSError, ValueError):
            said = json.loads((folder / "record.json").read_text(encoding="utf-8"))
            found.append(Record(folder, said))
    return found


def deliver(root: Path, uri: str = "", patient: bool = True) -> Delivered:
    """Deliver all there is in the spool of the project in `root`, each record to where it wants to go, or to `uri`.

    patient: wait while another process delivers.
    """
    done = Delivered({})
    with _alone(root, patient) as alone:
        if not alone:
            return done
        stores: dict[str, Store | None] = {}
        with contextlib.ExitStack() as open_ones:
            for record in records(root):
                over = record.over
                try:
                    settings = replace(record.settings, uri=uri or record.settings.uri)
                    where = target(settings)
                    if where not in stores:
                        stores[where] = None  # not tried again for the next record
                        stores[where] = open_ones.enter_context(opened(settings))
                    if store := stores[where]:
                        done.runs[_deliver(record, store, settings)] = None
                        if over:
                            _remove(record.folder)
                            continue
                except CastlineError as error:
                    done.problem = done.problem or error.what + (f" ({error.next})" if error.next else "")
                except Exception as error:  # of MLflow, its server or its database: any
                    done.problem = done.problem or f"{type(error).__name__}: {error}"
                done.left += over
    return done


def _deliver(record: Record, store: Store, settings: TrackingSettings) -> str:
    said, ended, client, facts = record.said, record.ended, store.client, record.facts
    experiment = store.experiment(settings.experiment)
    name = said["experiment"] or " ".join(
        (facts.setting("base_model", "name"), facts.setting("head", "kind"), said["run"][:7])
    )
    run = store.run(experiment, said["run"], name, int(said["time"]))
    identity = run.info.run_id
    if ended is None and run.info.status != "RUNNING":
        client.update_run(identity, status="RUNNING")
    tags = {
        "mlflow.source.git.commit": said["commit"],
        "git.changed": ", ".join(said["changed"]) or "no",
        "dvc.experiment": said["experiment"],
    }
    tags |= facts_tags(facts, _LATER.get(said["stage"], set()))
    log_facts(store, run, facts, {key: value for key, value in tags.items() if value}, int(said["time"]))
    _log_curves(store, run, record)
    reports = record.folder / "reports"
    if reports.is_dir():
        client.log_artifacts(identity, str(reports), "reports")
    for name in ("params.yaml", "dvc.lock"):
        if (record.folder / name).is_file():
            client.log_artifact(identity, str(record.folder / name))
    if ended is not None:
        client.set_terminated(identity, ended["how"], int(ended["time"]))
    return store.page(run)


def facts_tags(facts: Facts, later: set[str] | frozenset[str] = frozenset()) -> dict[str, str]:
    """Tags with the hashes that dvc.lock has: of the photos, and of what each stage has made.

    later: stages of which it does not yet say anything that is of this run.
    """
    tags = {"data_hash": facts.data_hash}
    for stage, outs in facts.made.items():
        if stage.partition("@")[0] not in later:
            tags[f"dvc.lock.{stage.replace('@', ':')}"] = ", ".join(f"{path} {md5}" for path, md5 in outs.items())
    return tags


def log_facts(store: Store, run: "Run", facts: Facts, tags: Mapping[str, str], time: int) -> None:
    """Settings as parameters, what was measured as metrics, and tags, as far as the run does not have them already."""
    from mlflow.entities import Metric, Param, RunTag

    settings = {name: values for name, values in facts.params.items() if name not in {*ASIDE, "forgotten"}}
    known = {_name(key): str(value)[:6000] for key, value in flat(settings).items()}
    measured: dict[str, float] = {}
    for file, numbers in zip(_METRICS, (facts.metrics, flat(facts.files), facts.photos, facts.labels), strict=True):
        prefix = "" if file == "metrics" else f"{file}."
        measured |= {_name(prefix + key): float(number) for key, number in numbers.items()}
    new_params = [Param(key, value) for key, value in known.items() if key not in run.data.params]
    new_tags = [
        RunTag(_name(key), value[:5000]) for key, value in tags.items() if run.data.tags.get(_name(key)) != value
    ]
    new_metrics = [Metric(key, value, time, 0) for key, value in measured.items() if run.data.metrics.get(key) != value]
    for start in range(0, max(len(new_params), len(new_tags), len(new_metrics)), _BATCH):
        part = slice(start, start + _BATCH)
        store.client.log_batch(run.info.run_id, new_metrics[part], new_params[part], new_tags[part])


def _log_curves(store: Store, run: "Run", record: Record) -> None:
    """Each value of each curve, at its epoch, that the run does not have yet."""
    from mlflow.entities import Metric

    found: dict[str, dict[int, Metric]] = {}
    for time, run_name, row in _epochs(record):
        for column in _CURVES:
            if (value := _number(row.get(column))) is not None:
                key = _name(f"{column}/{run_name}" if run_name else column)
                step = int(row["epoch"])
                found.setdefault(key, {}).setdefault(step, Metric(key, value, time, step))
    for key, values in found.items():
        there = {metric.step for metric in store.client.get_metric_history(run.info.run_id, key)}
        missing = [metric for step, metric in sorted(values.items()) if step not in there]
        for start in range(0, len(missing), 1000):
            store.client.log_batch(run.info.run_id, missing[start : start + 1000])


def _epochs(record: Record) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Time, the name of what is drawn beside the model ("" of itself), and a row of the curves; epochs from 1."""
    with (record.folder / "epochs.jsonl").open(encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a kill leaves half a line
                row = json.loads(line)
                yield int(row["time"]), "", {**row, "epoch": int(row["epoch"]) + 1}
    curves = record.folder / "reports/curves.csv"
    if curves.is_file():
        rows = list(csv.DictReader(io.StringIO(curves.read_text(encoding="utf-8"), newline="")))
        for row in rows:
            yield int(record.said["time"]), "" if row["run"] == rows[0]["run"] else row["run"], row


def _number(text: object) -> float | None:
    return float(f"{float(text):.6g}") if isinstance(text, str | int | float) and text != "" else None


def _name(text: str) -> str:
    """A key as MLflow takes it; one that had to be changed ends in a hash of what it was, so no two become one.

    >>> _name("head.kind"), _name("../x")
    ('head.kind', '_._x d6b96a')
    """
    plain = re.sub(r"^[. ]|[^\w .:-]", "_", text)
    if plain == text != "" and len(text) <= 200:
        return text
    return f"{plain[:200] or '_'} {hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:6]}"


def _remove(folder: Path) -> None:
    """record.json first: without it there is no record, should this be killed."""
    (folder / "record.json").unlink()
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _alone(root: Path, patient: bool) -> Iterator[bool]:
    (root / SPOOL).mkdir(parents=True, exist_ok=True)
    with (root / SPOOL.parent / "deliver.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if patient else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _sizes(root: Path) -> dict[Path, int]:
    """Of what stages have written of their epochs; another process may be removing what it has delivered."""
    found = {}
    for path in (root / SPOOL).glob("*/epochs.jsonl"):
        with contextlib.suppress(FileNotFoundError):
            found[path] = path.stat().st_size
    return found


def _main() -> None:
    root, seen = Path.cwd(), None
    runs: dict[str, None] = {}
    while True:
        present = _sizes(root)
        if present != seen:
            seen = present
            runs |= deliver(root, patient=False).runs
        if select.select([sys.stdin], [], [], _PAUSE)[0]:
            break
    done = deliver(root)
    done.runs = runs | done.runs
    print(done.line(), flush=True)


if __name__ == "__main__":
    _main()

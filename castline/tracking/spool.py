"""What train, evaluate and export tell whoever tracks runs: written down here, delivered by a process of its own.

    .castline/tracking/spool/TIME-STAGE-NUMBER/
        record.json      which run it is of, what started when, from which commit
        params.yaml, dvc.lock    as they were then
        epochs.jsonl     the epochs of fine-tuning, as they end; locked by the stage while it lives
        reports/         copies of what the stage has made
        ended.json       how and when it ended: with it the record is whole

No result depends on this module, and a stage that tracks nothing does nothing here. One that does starts
castline.tracking.deliver beside it, which imports MLflow meanwhile; what it cannot deliver stays for `castline track
sync`. Whatever goes wrong is said in a line, and the stage goes on.
"""

import fcntl
import functools
import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from castline import progress
from castline.files import params
from castline.files.weights import sha256_of
from castline.tracking.settings import TrackingSettings, chosen

__all__ = ["ASIDE", "SPOOL", "root", "run_key", "tracked"]

SPOOL = Path(".castline/tracking/spool")
# Sections that say who is told, with what a report compares, and how devices are packed: the same model with others.
ASIDE = ("tracking", "orchestrator", "report", "package")
_DELIVERER = (sys.executable, "-P", "-m", "castline.tracking.deliver")
_CODE = str(Path(__file__).parents[2])


def tracked(stage: str, *files: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Of a stage's `main`: its run is told to whoever params.yaml chooses, with the `files` that it leaves."""

    def decorate(main: Callable[[], None]) -> Callable[[], None]:
        @functools.wraps(main)
        def run() -> None:
            settings = chosen()
            if settings.kind == "none":
                main()
                return
            with _told(stage, files, settings):
                main()

        return run

    return decorate


def root() -> Path:
    """The project's own folder, also from the copy that DVC makes of it for an experiment, or `castline fleet` for a
    task, and removes afterwards."""
    here = Path.cwd().resolve()
    for folder in here.parents:
        for copies in (Path(".dvc/tmp/exps"), Path(".castline/fleet")):
            if folder.parts[-len(copies.parts) :] == copies.parts:
                return folder.parents[len(copies.parts) - 1]
    return here


@contextmanager
def _told(stage: str, files: Sequence[str], settings: TrackingSettings) -> Iterator[None]:
    teller, ended = None, "FAILED"
    with _said_only():
        teller = _Teller(stage, settings)
    try:
        with nullcontext() if teller is None else progress.written(teller.epochs):
            yield
        ended = "FINISHED"
    except KeyboardInterrupt:
        ended = "KILLED"
        raise
    finally:
        if teller is not None:
            with _said_only():
                teller.end(ended, files)


@contextmanager
def _said_only() -> Iterator[None]:
    """Whatever goes wrong is no reason to stop a stage."""
    try:
        yield
    except Exception as error:
        _say(f"{type(error).__name__}: {error}")


class _Teller:
    """One stage's record, and the process that delivers it."""

    def __init__(self, stage: str, settings: TrackingSettings) -> None:
        self.settings = settings
        spool = root() / SPOOL
        spool.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{time.time_ns()}-{stage}-", dir=spool))
        for name in ("params.yaml", "dvc.lock"):
            _copy(Path(name), self.folder / name)
        commit, changed = _git()
        record = {
            "stage": stage,
            "run": run_key(),
            "time": _now(),
            "commit": commit,
            "changed": changed,
            "experiment": os.environ.get("DVC_EXP_NAME", ""),
            "tracking": asdict(settings),
        }
        self.epochs = self.folder / "epochs.jsonl"
        self._lock = self.epochs.open("a")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        write(self.folder / "record.json", record)
        # In a session of its own: what interrupts the stage does not end it, the end of the stage does.
        self._deliverer = subprocess.Popen(
            _DELIVERER,
            cwd=root(),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (_CODE, os.environ.get("PYTHONPATH"))))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end(self, how: str, files: Sequence[str]) -> None:
        """Complete the record, and wait a little until it is delivered."""
        if how == "FINISHED":
            for name in files:
                if self.settings.report or not name.endswith(".html"):
                    _copy(Path(name), self.folder / name)
        write(self.folder / "ended.json", {"how": how, "time": _now()})
        self._lock.close()
        if (pipe := self._deliverer.stdin) and (answer := self._deliverer.stdout):
            with suppress(BrokenPipeError):
                pipe.close()
            if select.select([answer], [], [], self.settings.timeout)[0]:
                _say(answer.readline().decode(errors="replace").strip() or "not delivered; castline track sync")
                with suppress(subprocess.TimeoutExpired):
                    self._deliverer.wait(self.settings.timeout)
            else:
                _say("delivering takes its time and goes on; castline track status")
            answer.close()
        if self._deliverer.poll() is None:
            self._deliverer.returncode = 0  # it outlives the stage, which does not wait for it any more


def run_key() -> str:
    """Which run of MLflow's this is part of: a hash of the settings, the dataset and the code that a model comes from.

    So train, evaluate and export of one model belong together, a resumed training continues its run, and since the
    settings are in it, a run's never change.
    """
    settings = {name: values for name, values in params.load().items() if name not in ASIDE}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(sha256_of(Path("build/dataset.parquet")).encode())
    stages = yaml.load(Path("dvc.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)["stages"]
    for place in map(Path, stages["train"]["deps"]):
        if place.parts[0] in ("castline", "stages"):
            for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
                digest.update(f"{path.as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()[:32]


def write(path: Path, values: Mapping[str, Any]) -> None:
    """JSON, whole or not at all."""
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(values), encoding="utf-8")
    unfinished.replace(path)


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _git() -> tuple[str, list[str]]:
    """The commit, and what of its files is changed here; what stages write themselves does not count."""
    status = ["status", "--porcelain", "-z", "--untracked-files=no", "--no-renames", "--", "."]
    status += [f":(exclude){name}" for name in ("dvc.lock", "reports", "params.yaml")]
    try:
        commit, changed = (
            subprocess.run(["git", *command], capture_output=True, check=True).stdout.decode(errors="replace")
            for command in (["rev-parse", "--verify", "--quiet", "HEAD"], status)
        )
    except (OSError, subprocess.CalledProcessError):  # no repository, no commit, no git
        return "", []
    return commit.strip(), [line[3:] for line in changed.split("\0") if line][:50]


def _now() -> int:
    return time.time_ns() // 1_000_000


def _say(text: str) -> None:
    print(f"tracking: {text}", file=sys.stderr, flush=True)

"""A study: Optuna proposes settings, DVC runs each proposal as an experiment of its own, and nothing is lost between.

The study lies in .castline/tune/NAME.db, with a log of each trial beside it. Trials run one after another: DVC's
experiments in parallel lose runs. Each runs in a copy of the last commit that DVC makes, so the project's own files
stay as they are.
"""

import csv
import fcntl
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from castline.errors import CastlineError, ConfigError, DataError
from castline.processes import stop
from castline.tuning import baseline
from castline.tuning import search as searching
from castline.tuning.search import Search, Value

__all__ = ["Proposed", "Study", "Trial", "objective_of", "opened"]

_FOLDER = Path(".castline/tune")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}", re.IGNORECASE)
_SEED = 1
_CURVES, _METRICS = "reports/curves.csv", "reports/metrics.json"


@dataclass(frozen=True)
class Trial:
    """One proposal and what came of it. value: the objective, None where it failed, and then `reason` says why."""

    experiment: str
    settings: dict[str, Value]
    value: float | None
    epoch: int | None
    seconds: float
    reason: str


@dataclass(frozen=True)
class Proposed:
    """What Optuna proposes, the name of the experiment that tries it, its overrides, and since when it is at work."""

    trial: optuna.Trial
    name: str
    overrides: list[str]
    began: float


@contextmanager
def opened(name: str, search: Path) -> Iterator["Study"]:
    """The study `name`, begun or gone on with, for this process alone.

    Raises: ConfigError, DataError when trials could not run or could not be compared with the earlier ones.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a study", "letters, digits and dashes, 41 at most: --name head-2")
    wanted = searching.read(search)
    state = baseline.state(wanted)
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER / f"{name}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"a trial of {name} is at work", "let it end, stop it, or look for other settings under another --name"
            ) from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.RDBStorage(f"sqlite:///{_FOLDER / name}.db")
        try:
            made = optuna.create_study(
                storage=storage,
                study_name=name,
                direction=searching.OBJECTIVES[wanted.objective],
                load_if_exists=True,
            )
            study = Study(name, wanted, made, lock.fileno())
            study.check(state)
            yield study
        finally:
            storage.engine.dispose()


class Study:
    """What was tried, what came of it, and the next thing to try."""

    def __init__(self, name: str, search: Search, study: optuna.Study, lock: int) -> None:
        self.name, self.search, self._study, self._lock = name, search, study, lock

    @property
    def trials(self) -> list[Trial]:
        """Every trial so far, failed ones too, in order."""
        return [self._trial(trial) for trial in self._study.get_trials(deepcopy=False)]

    @property
    def ranked(self) -> list[Trial]:
        """The trials that have a value, the best first, the earlier of equals before the later."""
        done = [trial for trial in self.trials if trial.value is not None]
        return sorted(done, key=lambda trial: trial.value or 0.0, reverse=self.search.objective == "val_accuracy")

    @property
    def best(self) -> Trial | None:
        """The trial to take; None while none has a value."""
        return next(iter(self.ranked), None)

    def check(self, state: dict[str, Any]) -> None:
        """Refuse to mix trials that cannot be compared, and close what a killed run left open.

        Raises: ConfigError.
        """
        before = self._study.user_attrs.get("state")
        another = f"--name {self.name}-2, a study of its own"
        if before is None:
            if taken := _experiments(self.name):
                raise ConfigError(
                    f"there are experiments of that name already: {taken[0]}",
                    f"{another}, or: dvc exp remove {' '.join(taken[:3])}{' ...' if len(taken) > 3 else ''}",
                )
            self._study.set_user_attr("state", state)
        elif changed := sorted(searching.differing(before, state)):
            raise ConfigError(
                f"since the study {self.name} began, this has changed: {', '.join(changed[:5])}"
                f"{' ...' if len(changed) > 5 else ''}; its trials cannot be compared with new ones",
                another,
            )
        _remove_torn_locks(Path(".dvc/tmp"))
        for trial in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            self._study.tell(trial.number, state=TrialState.FAIL)

    def run(self, trials: int, minutes: float | None = None) -> Iterator[Trial]:
        """Try until there are `trials` in all, failed ones counted, or `minutes` have passed; yields each as it ends.

        A trial that fails is recorded with its reason, and the next one runs. An interrupt ends the running trial.

        Raises: DataError when there is nothing to choose by.
        """
        started = time.monotonic()
        for _ in range(len(self.trials), trials):
            if minutes is not None and time.monotonic() - started > minutes * 60:
                return
            proposed = self.propose()
            yield self.settle(proposed, partial(self._ran_here, proposed))

    def propose(self) -> Proposed:
        """The next thing to try; it is at work until it is settled."""
        # Seeded by its number: a study that was interrupted proposes what it would have proposed anyway.
        self._study.sampler = optuna.samplers.TPESampler(seed=_SEED + len(self.trials))
        trial = self._study.ask(self.search.space)
        return Proposed(trial, self._experiment(trial.number), self.search.overrides(trial.params), time.monotonic())

    def composed(self, proposed: Proposed) -> dict[str, Any]:
        """All settings of a proposal. Raises: ConfigError when they do not fit, or are not what was proposed."""
        composed = baseline.composed(proposed.overrides)
        for key, value in proposed.trial.params.items():
            got = searching.found(composed, key)
            if not isinstance(got, dict) and got != value:
                raise ConfigError(f"{key}: {value!r} became {got!r} when it was composed")
        return composed

    def settle(self, proposed: Proposed, made: Callable[[], str]) -> Trial:
        """Note what came of a proposal. made: runs it, or waits for it; the commit of its experiment.

        A CastlineError of `made` is the reason why the trial failed.

        Raises: DataError when no trial of this study can have a value; what else ended `made`.
        """
        trial = proposed.trial
        try:
            commit = made()
            value, kept = objective_of(baseline.git("show", f"{commit}:{_CURVES}"), self.search.objective)
        except _NothingToChooseBy as error:
            self._failed(proposed, error.what)
            raise
        except CastlineError as error:
            self._failed(proposed, error.what)
        except BaseException:
            self._failed(proposed, "interrupted")
            raise
        else:
            for key, noted in {"commit": commit, "epoch": kept, "seconds": time.monotonic() - proposed.began}.items():
                trial.set_user_attr(key, noted)
            self._study.tell(trial, value)
        return self.trials[trial.number]

    def _ran_here(self, proposed: Proposed) -> str:
        self.composed(proposed)
        head = baseline.git("rev-parse", "HEAD").strip()
        self._experiment_run(proposed.name, proposed.overrides)
        return baseline.git("rev-parse", f"refs/exps/{head[:2]}/{head[2:]}/{proposed.name}").strip()

    def _experiment_run(self, name: str, overrides: list[str]) -> None:
        """`dvc exp run` in a temporary copy.

        The lock goes with it: should this process be killed, the study is free once the trial has ended as well. In a
        session of its own, so that an interrupt reaches it and what it has started once, whoever sends it.
        """
        log = _FOLDER / f"{name}.log"
        settings = [word for override in overrides for word in ("-S", override)]
        command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name, *settings]
        with log.open("w", encoding="utf-8") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=baseline.environment(),
                start_new_session=True,
                pass_fds=(self._lock,),
            )
            try:
                code = child.wait()
            except BaseException:
                stop(child)
                raise
        if code:
            raise CastlineError(f"{baseline.said(log.read_text(encoding='utf-8', errors='replace'), code)} ({log})")

    def _failed(self, proposed: Proposed, reason: str) -> None:
        proposed.trial.set_user_attr("reason", reason)
        proposed.trial.set_user_attr("seconds", time.monotonic() - proposed.began)
        self._study.tell(proposed.trial, state=TrialState.FAIL)

    def _experiment(self, number: int) -> str:
        return f"{self.name}-{number + 1:04d}"

    def _trial(self, trial: FrozenTrial) -> Trial:
        noted = trial.user_attrs
        done = trial.state == TrialState.COMPLETE
        return Trial(
            self._experiment(trial.number),
            dict(trial.params),
            trial.value if done else None,
            noted.get("epoch"),
            round(noted.get("seconds", 0.0), 1),
            "" if done else noted.get("reason", "killed before it ended"),
        )

    def test_metrics(self, trial: Trial) -> dict[str, Any]:
        """What evaluation found on the test faces. To be looked at once the choice is made, and not to choose by."""
        number = [each.experiment for each in self.trials].index(trial.experiment)
        commit = self._study.get_trials(deepcopy=False)[number].user_attrs["commit"]
        return dict(json.loads(baseline.git("show", f"{commit}:{_METRICS}")))


class _NothingToChooseBy(DataError):
    """No trial of this study can have a value."""


def objective_of(curves: str, objective: str) -> tuple[float, int]:
    """The objective in the row of curves.csv whose weights were kept, and the number of that epoch.

    Raises: DataError, also when there were no validation faces.
    """
    rows = list(csv.DictReader(curves.splitlines()))
    own = [row for row in rows if row.get("run") == rows[0].get("run")]  # the model's, before those drawn beside it
    kept = [row for row in own if row.get("kept") == "1"]
    if len(kept) != 1:
        raise DataError(f"{_CURVES} marks {len(kept)} epochs as kept, not one")
    if not kept[0].get(objective):
        raise _NothingToChooseBy(
            f"{_CURVES} has no {objective}: there are no validation faces to choose settings by, and the test faces "
            "are not for choosing",
            "split.val=0.1 in conf/split.yaml, or more photos a person; then: castline compose && dvc repro",
        )
    return float(kept[0][objective]), int(kept[0]["epoch"])


def _experiments(name: str) -> list[str]:
    refs = baseline.git("for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    return sorted(last for ref in refs if re.fullmatch(rf"{re.escape(name)}-\d{{4}}", last := ref.rpartition("/")[2]))


def _remove_torn_locks(folder: Path) -> None:
    """Remove DVC's tables of readers and writers that a kill left half written: DVC refuses to work with one.

    They hold nothing but which processes are at work, and a torn one not even that.
    """
    for path in [*folder.glob("rwlock"), *folder.glob("exps/rwlock")]:
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            path.unlink(missing_ok=True)

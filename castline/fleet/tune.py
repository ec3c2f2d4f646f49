"""Trials of a study as tasks on other machines: the study that `castline tune` has asks and judges, agents compute."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from castline.errors import CastlineError
from castline.fleet.controller import Watch, alone, experiment_of, ready
from castline.fleet.server import Server, parameters_of, result_of
from castline.fleet.settings import OrchestratorSettings, read
from castline.fleet.stage import compose
from castline.fleet.tree import tree
from castline.tuning.study import Proposed, Study, Trial

__all__ = ["trials_of"]


def trials_of(
    orchestrator: Sequence[str], trials: int, parallel: int, minutes: float | None
) -> Callable[[Study], Iterator[Trial]]:
    """How a study's trials are run with these settings: one after another here, or `parallel` at once elsewhere.

    Raises: ConfigError.
    """
    settings = read(orchestrator)
    if settings.kind == "local":
        return lambda study: study.run(trials, minutes)

    def run(study: Study) -> Iterator[Trial]:
        with alone():
            yield from _elsewhere(settings, study, trials, parallel, minutes)

    return run


def _elsewhere(
    settings: OrchestratorSettings, study: Study, trials: int, parallel: int, minutes: float | None
) -> Iterator[Trial]:
    start, server, began = ready(settings), Server(settings), time.monotonic()
    parent = server.create(
        study.name, "controller", parameters_of(study.name, None, start.commit, (), ()), start.script, ""
    )
    server.start(parent)
    watch = Watch(server, settings, parent)
    at_work: dict[str, Proposed] = {}
    problem = "interrupted"
    try:
        while True:
            in_time = minutes is None or time.monotonic() - began <= minutes * 60
            while in_time and len(at_work) < parallel and len(study.trials) < trials:
                proposed = study.propose()
                try:
                    queue = settings.queue_of(None, study.composed(proposed))
                except CastlineError as error:
                    yield study.settle(proposed, _failing(error))
                    continue
                told = parameters_of(proposed.name, None, start.commit, proposed.overrides, ())
                try:
                    at_work[watch.send(proposed.name, "optimizer", told, start.script, queue)] = proposed
                except CastlineError as error:  # of the server, not of the proposal: the next would fare no better
                    study.settle(proposed, _failing(error))
                    raise
            if not at_work:
                problem = ""
                return
            for ended, wrong in watch.ended():
                proposed = at_work.pop(ended.task)
                failed = _failing(CastlineError(wrong)) if wrong else None
                yield study.settle(proposed, failed or _experiment(start.commit, ended.task, proposed))
    except CastlineError as error:
        problem = error.what
        raise
    finally:
        for proposed in at_work.values():
            study.settle(proposed, _failing(CastlineError("interrupted")))
        watch.close(problem)


def _experiment(commit: str, task: str, proposed: Proposed) -> Callable[[], str]:
    def made() -> str:
        with tree(commit, "tree") as folder:
            compose(folder, proposed.overrides)
            return experiment_of(folder, [result_of(task)], proposed.name, f"{proposed.name}, through ClearML")

    return made


def _failing(error: CastlineError) -> Callable[[], str]:
    def fails() -> NoReturn:
        raise error

    return fails

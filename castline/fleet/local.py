"""DVC's own queue on this machine: experiments put there, a worker started, and each seen to its end.

One worker: with more, DVC 3.67 loses experiments (issue 10673). A worker that died leaves its experiment "Running" for
ever, and one that was lost is in no list: both are looked for and said.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from castline.errors import CastlineError
from castline.fleet import fragment
from castline.fleet.controller import say
from castline.fleet.settings import OrchestratorSettings
from castline.tuning.baseline import environment, said

__all__ = ["entries", "run"]


def run(settings: OrchestratorSettings, name: str, overrides: Sequence[str]) -> list[str]:
    """Queue an experiment, or one for each value of a list (`head.dropout=0,0.5`), and wait; a line for each.

    Raises: CastlineError when one failed or was lost, or time is up.
    """
    before = {entry["rev"] for entry in entries()}
    words = [word for override in overrides for word in ("-S", override)]
    _dvc("exp", "run", "--queue", "--name", name, *words)
    ours = {entry["rev"]: str(entry["name"] or entry["rev"][:7]) for entry in entries() if entry["rev"] not in before}
    say(f"queued: {', '.join(ours.values())}")
    _dvc("queue", "start", "-j", "1")
    states = _watched(settings, ours)
    lines = [f"{ours[rev]}  {state}" for rev, state in states.items()]
    if any(state != "Success" for state in states.values()):
        raise CastlineError("not all of it was done:\n    " + "\n    ".join(lines), "dvc queue logs NAME")
    return lines


def entries() -> list[dict[str, Any]]:
    """DVC's queue: rev, name and status (Queued, Running, Success, Failed) of each experiment."""
    with fragment.opened(Path()) as repo:
        return list(repo.experiments.celery_queue.status())


def _watched(settings: OrchestratorSettings, ours: dict[str, str]) -> dict[str, str]:
    """How each ended, in words: Success, or what is wrong with it."""
    states = dict.fromkeys(ours, "Queued")
    heard = began = time.monotonic()
    while any(state in ("Queued", "Running") for state in states.values()):
        time.sleep(settings.poll)
        listed = {entry["rev"]: str(entry["status"]) for entry in entries()}
        if any(state in ("Queued", "Running") and rev not in listed for rev, state in states.items()):
            # DVC lists what runs, then what waits: what starts in between is in neither, once.
            listed |= {entry["rev"]: str(entry["status"]) for entry in entries()}
        for rev, before in states.items():
            now = listed.get(rev, "lost: DVC's queue no longer knows it") if before in ("Queued", "Running") else before
            if now == "Failed":
                now = f"Failed: {_reason(ours[rev])}"
            if now != before:
                states[rev], heard = now, time.monotonic()
                say(f"{ours[rev]}: {now}")
        if _workers():
            heard = time.monotonic()
        open_ones = [rev for rev, state in states.items() if state in ("Queued", "Running")]
        if time.monotonic() - heard > settings.lost * 60:
            states |= dict.fromkeys(open_ones, f"lost: no worker for {settings.lost:g} minutes; dvc queue start -j 1")
        elif time.monotonic() - began > settings.hours * 3600:
            states |= dict.fromkeys(open_ones, f"not done after {settings.hours:g} hours, still in the queue")
    return states


def _workers() -> int:
    with fragment.opened(Path()) as repo:
        return len(repo.experiments.celery_queue.worker_status())


def _reason(name: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "queue", "logs", name], env=environment(), capture_output=True, text=True
    )
    return said(done.stdout or done.stderr, done.returncode)


def _dvc(*arguments: str) -> None:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise CastlineError(f"dvc {' '.join(arguments[:2])}: {said(done.stderr, done.returncode)}")

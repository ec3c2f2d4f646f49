"""One task: a stage, or the whole pipeline, of a commit, in a work tree of its own. Whoever sent it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from castline import progress, project, sharing
from castline.errors import CastlineError
from castline.fleet import fragment
from castline.fleet.fragment import Fragment
from castline.fleet.tree import FOLDER, commit_of, tree
from castline.processes import stop

__all__ = ["Done", "Job", "compose", "perform"]

_LOOK = 0.5  # seconds between two looks at what training says


@dataclass(frozen=True)
class Job:
    """stage: None for all that `dvc repro` would run. rev: the commit. overrides: Hydra's, of the experiment.
    experiment: its name, for those to whom the stages tell of it; empty where there is none.
    """

    stage: str | None
    rev: str
    overrides: tuple[str, ...] = ()
    experiment: str = ""


@dataclass(frozen=True)
class Done:
    """The fragment to hand back, and what there is to show: params.yaml, and what was written below reports/."""

    fragment: Fragment
    params: str
    reports: dict[str, bytes]


def perform(job: Job, inputs: Sequence[Fragment] = (), epoch: Callable[[dict[str, Any]], None] | None = None) -> Done:
    """Check out the commit, bring in what earlier stages made, run, and push to the remote, where there is one.

    inputs: of the stages before it that ran for the same job. epoch: is given each epoch's row while training goes on.

    Raises: CastlineError when it cannot be done, or the stage fails; what it said is on stdout and stderr.
    """
    commit = commit_of(job.rev)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as agents stop a task: end as on Ctrl-C, and clean up
    with tree(commit, f"task-{uuid.uuid4().hex[:12]}") as folder:
        _keep_checkpoints(folder)
        compose(folder, job.overrides)
        fragment.put(folder, inputs)
        single = ["--single-item", job.stage] if job.stage else []
        remote = _bring(folder, job.stage)
        _repro(folder, [*(["--pull"] if remote else []), *single], job.experiment, epoch)
        if remote:
            _push(folder, job.stage)
        made = fragment.take(folder, [job.stage] if job.stage else [])
        return Done(made, (folder / "params.yaml").read_text(encoding="utf-8"), _reports(folder, job.stage))


def compose(folder: Path, overrides: Sequence[str]) -> None:
    """Write params.yaml in a work tree as `dvc exp run -S` would; without overrides it stays as it was committed.

    Raises: ConfigError.
    """
    if overrides:
        with contextlib.chdir(folder):
            project.compose(overrides)


def _repro(
    folder: Path, arguments: Sequence[str], experiment: str, epoch: Callable[[dict[str, Any]], None] | None
) -> None:
    """`dvc repro`, and each epoch's row while it trains, if somebody wants it."""
    told = folder / ".dvc/tmp/progress.jsonl"
    told.parent.mkdir(exist_ok=True)
    settings = progress.asked(told) if epoch else {}
    command = [sys.executable, "-m", "dvc", "repro", "--allow-missing", *arguments]
    environment = _environment(folder) | settings | ({"DVC_EXP_NAME": experiment} if experiment else {})
    child = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True)
    seen = 0
    try:
        while True:
            try:
                code = child.wait(_LOOK if epoch else None)
            except subprocess.TimeoutExpired:
                code = None
            if epoch and told.exists():
                lines = told.read_text(encoding="utf-8").splitlines(keepends=True)
                whole = [line for line in lines if line.endswith("\n")]
                for line in whole[seen:]:
                    epoch(json.loads(line))
                seen = len(whole)
            if code is not None:
                break
    except BaseException:
        stop(child)
        raise
    if code:
        raise CastlineError(f"dvc repro exits with {code}", "what it said is above")


def _environment(folder: Path) -> dict[str, str]:
    """This environment's programs, and the code of the commit, before any other."""
    first = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(folder)}
    paths = {name: os.pathsep.join(filter(None, [path, os.environ.get(name)])) for name, path in first.items()}
    return {**os.environ, **paths, "DVC_NO_ANALYTICS": "1"}


def _keep_checkpoints(folder: Path) -> None:
    """Of fine-tuning: a task that is sent again to the same machine goes on where the first was killed."""
    kept = (FOLDER / "checkpoints").resolve()
    kept.mkdir(parents=True, exist_ok=True)
    (folder / "build").mkdir(exist_ok=True)
    (folder / "build/checkpoints").symlink_to(kept, target_is_directory=True)


def _bring(folder: Path, stage: str | None) -> bool:
    """Check out what the stages before this one wrote, or all stages; from the remote, if there is one: whether.

    `dvc repro --pull` alone brings a dependency that is one output, and stops at a folder of several outputs.
    """
    # DVC takes targets for relative to the working folder, whichever project it was asked about.
    with contextlib.chdir(folder), fragment.opened(Path()) as repo:
        graph = repo.index.graph
        before = [one for this in graph if this.cmd and this.name == stage for one in graph.successors(this)]
        if not all(one.cmd for one in before):  # data.dvc
            for one in before:
                repo.reproduce(one.addressing, single_item=True)
        targets = [one.addressing for one in before if one.cmd] if stage else None
        remote = bool(repo.config["core"].get("remote"))
        if targets != []:
            bring = repo.pull if remote else repo.checkout
            bring(targets=targets, allow_missing=True, force=True)
        return remote


def _push(folder: Path, stage: str | None) -> None:
    """The runs and what they wrote, for a run that is taken up again; and the stage's outputs, for the next stages."""
    with contextlib.chdir(folder):
        sharing.push()
        with fragment.opened(Path()) as repo:
            repo.push(targets=[stage] if stage else None)


def _reports(folder: Path, stage: str | None) -> dict[str, bytes]:
    """What the stage wrote below reports/ for git, and the page."""
    with fragment.opened(folder) as repo:
        outs = [out for one in repo.index.stages if one.cmd and stage in (None, one.name) for out in one.outs]
    shown = [Path(out.fs_path) for out in outs if not out.use_cache or out.fs_path.endswith(".html")]
    paths = [path for path in shown if path.is_relative_to(folder / "reports") and path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

"""Where trials start: the last commit, when nothing is left to run, and what has to stay as it is from then on."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, distribution_to_json

from castline import project
from castline.errors import ConfigError, DataError
from castline.tuning.search import Search, differing, found

__all__ = ["composed", "environment", "git", "said", "state"]


_FOLLOWING = ("features", "report.of")  # found by composing, from the other settings alone


def state(search: Search) -> dict[str, Any]:
    """What has to stay the same for trials to be comparable: search space, all other settings, data and code.

    Raises: ConfigError, DataError when a trial could not start from the last commit.
    """
    settings = composed(search.fixed)
    _check_space(search, settings)
    _check_settings(search, settings)
    lock = _check_commit()
    for batch in settings["data"]["batches"]:
        _check_travels(batch)
    for key in (*search.space, *_FOLLOWING):
        _forget(settings, key)
    space = {key: distribution_to_json(bounds) for key, bounds in search.space.items()}
    return {
        "search": {"objective": search.objective, "space": space},
        "settings": settings,
        "data and code": _sources(lock),
    }


def _check_space(search: Search, settings: dict[str, Any]) -> None:
    for key, bounds in search.space.items():
        group = isinstance(found(settings, key), dict)
        choices = bounds.choices if isinstance(bounds, CategoricalDistribution) else ()
        if group and not (choices and all((Path("conf") / key / f"{choice}.yaml").is_file() for choice in choices)):
            known = sorted(path.stem for path in (Path("conf") / key).glob("*.yaml"))
            raise ConfigError(
                f"{key} is a group of settings", f"choices: [{', '.join(known)}]" if known else "name one"
            )
        if any(word.partition("=")[0].lstrip("+~") == key for word in search.fixed):
            raise ConfigError(f"{key} is both in fixed and in space", "leave it in one of them")


def _check_settings(search: Search, settings: dict[str, Any]) -> None:
    """`dvc exp run` composes from conf/ and forgets what `castline compose KEY=VALUE` put into params.yaml alone."""
    committed, plain = _loaded(Path("params.yaml")), composed()
    meant = {*search.space, *_FOLLOWING, *differing(plain, settings)}
    for key, (ours, theirs) in differing(plain, committed).items():
        if not any(key == one or key.startswith(f"{one}.") for one in meant):
            raise ConfigError(
                f"params.yaml has {key}={theirs}, conf/ has {ours}: trials are composed from conf/",
                f"put it into conf/, or into fixed in the search-space file: [{key}={theirs}]",
            )


def _check_commit() -> dict[str, Any]:
    """dvc.lock, when the last commit is all there is and nothing is left to run."""
    try:
        changed = git("status", "--porcelain", "--untracked-files=no").splitlines()
        git("rev-parse", "HEAD")
    except DataError as error:
        raise DataError("there is no commit to start trials from", "git add -A && git commit") from error
    if changed:
        raise DataError(f"not committed: {changed[0][3:]}; trials start from the last commit", "git commit -a")
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"], env=environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise DataError(f"dvc status: {said(done.stderr, done.returncode)}", "dvc status")
    if stale := list(json.loads(done.stdout)):
        raise DataError(
            f"not up to date: {', '.join(stale[:5])}; every trial would run it again", "dvc repro && git commit -a"
        )
    return _loaded(Path("dvc.lock"))


def _check_travels(batch: str) -> None:
    """Whether data/BATCH is there in the copy that DVC makes for a trial: that has what git or DVC know."""
    path = Path("data", batch)
    known_to_dvc = any(Path(file).is_file() and git("ls-files", file) for file in ("data.dvc", f"data/{batch}.dvc"))
    if not (known_to_dvc or git("ls-files", "--", str(path))):
        raise DataError(f"{path} is known to neither git nor DVC: trials would not see it", f"git add {path}")
    if path.is_symlink() and not path.readlink().is_absolute() and not _inside(path.resolve()):
        raise DataError(f"{path} is a relative link out of the project", f"castline data use {path.resolve()}")


def _inside(path: Path) -> bool:
    return path.is_relative_to(Path.cwd().resolve())


def _sources(lock: dict[str, Any]) -> dict[str, str]:
    """Of all that stages depend on, what no stage makes: photos and code, by their hashes."""
    stages = lock["stages"].values()
    made = [out["path"] for stage in stages for out in stage.get("outs", ())]
    return {
        dep["path"]: dep["md5"]
        for stage in stages
        for dep in stage.get("deps", ())
        if not any(out == dep["path"] or out.startswith(f"{dep['path']}/") for out in made)
    }


def _forget(settings: dict[str, Any], key: str) -> None:
    *above, last = key.split(".")
    for part in above:
        settings = settings.get(part, {})  # the group above it may be searched as well
    settings.pop(last, None)


def composed(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What conf/ comes to with these overrides. Raises: ConfigError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "params.yaml")
        project.compose(overrides, path)
        return _loaded(path)


def _loaded(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: there is none", "castline compose")
    made = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    return {str(key): value for key, value in made.items()} if isinstance(made, dict) else {}


def git(*arguments: str) -> str:
    """What git says. Raises: DataError with git's own word."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"git {arguments[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def environment() -> dict[str, str]:
    """This environment's programs first: stages are started as `python stages/...`."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def said(output: str, code: int) -> str:
    """The line that says what went wrong: Castline's own word before DVC's."""
    lines = output.splitlines()
    for start in ("error: ", "ERROR: "):
        if said := [line for line in lines if line.startswith(start)]:
            return said[0].removeprefix(start)
    return next((line.strip() for line in reversed(lines) if line.strip()), f"exit {code}")

"""Work trees of one commit beside the project's own, so that no file of anybody's is touched. They share git's objects
and DVC's cache with it."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from castline import sharing
from castline.errors import CastlineError, DataError
from castline.versions.git import git

__all__ = ["FOLDER", "commit_of", "record", "tree"]

FOLDER = Path(".castline/fleet")


def commit_of(rev: str) -> str:
    """The 40 digits of a commit. Raises: DataError."""
    try:
        return git("rev-parse", "--verify", "--end-of-options", f"{rev}^{{commit}}").split()[-1]
    except CastlineError as error:
        raise DataError(f"{rev!r} is no commit of this repository", "git fetch") from error


@contextmanager
def tree(commit: str, name: str) -> Iterator[Path]:
    """The commit, checked out into a folder of this name below FOLDER while the context lasts.

    Always the same name gives the same path, by which DVC remembers what it has hashed.

    Raises: CastlineError with git's own word.
    """
    folder = (FOLDER / name).resolve()
    _remove(folder)  # of a process that was killed
    FOLDER.mkdir(parents=True, exist_ok=True)
    git("worktree", "add", "--quiet", "--force", "--detach", str(folder), commit)
    try:
        _same_cache(Path.cwd(), folder)
        yield folder
    finally:
        _remove(folder)


def record(folder: Path, paths: Sequence[str], message: str, name: str) -> str:
    """Commit `paths` of a work tree on top of its commit, as the DVC experiment `name`; the commit's 40 digits.

    By git's plumbing: no hook runs, no branch moves.

    Raises: CastlineError when there is an experiment of that name already, or git does not know who commits.
    """
    where = ("-C", str(folder))
    head = git(*where, "rev-parse", "HEAD").strip()
    git(*where, "add", "--force", "--", *paths)
    written = git(*where, "write-tree").strip()
    made = git(*where, "commit-tree", "-p", head, "-m", message, written).strip()
    git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", made, "0" * 40)
    return made


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    git("worktree", "prune")


def _same_cache(project: Path, folder: Path) -> None:
    """This machine's own settings of DVC, and the project's cache: what is in git is there already."""
    from dvc.config import Config

    cache = sharing.cache_of(project).parents[1]
    with Config(str(folder / ".dvc")).edit("local") as settings:
        settings.update(Config(str(project / ".dvc")).load_one("local"))
        settings.setdefault("cache", {})["dir"] = str(cache)

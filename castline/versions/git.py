"""Git, started with lists of arguments, as the user has set it up."""

import subprocess
from pathlib import Path

from castline.errors import CastlineError

__all__ = ["check_root", "git", "git_says_yes", "read_blob"]


def check_root() -> None:
    """Raises: CastlineError outside a repository, or inside it but not at its top."""
    if not git_says_yes("rev-parse", "--git-dir"):
        raise CastlineError(f"{Path.cwd()}: not in a git repository", "cd into your clone, or git init")
    top = Path(git("rev-parse", "--show-toplevel").removesuffix("\n"))
    if top.resolve() != Path.cwd().resolve():
        raise CastlineError(f"{Path.cwd()}: versions are those of the whole repository", f"cd {top}")


def git(*arguments: str) -> str:
    """What git printed. Bytes that are no text, as file names may have, come as lone surrogates.

    Raises: CastlineError with what git said.
    """
    done = _run(*arguments)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise CastlineError(f"git {arguments[0]}: {said}")
    return done.stdout.decode(errors="surrogateescape")


def git_says_yes(*arguments: str) -> bool:
    """Whether git exits with 0: for its commands that answer a question."""
    return _run(*arguments).returncode == 0


def read_blob(commit: str, path: str) -> bytes | None:
    """A file as a commit has it; None where the commit has none. commit: 40 hex digits, so never an option."""
    done = _run("cat-file", "blob", f"{commit}:{path}")
    return done.stdout if done.returncode == 0 else None


def _run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise CastlineError("git is not installed", "install git") from error

"""A release: the state of the project gets a model card, a commit and a tag, or nothing at all."""

from pathlib import Path
from typing import Any

from gto.api import register

from castline.errors import CastlineError
from castline.evaluation.changes import changes_between
from castline.versions.card import render_card
from castline.versions.facts import BUNDLE, facts_at, facts_here
from castline.versions.git import check_root, git, git_says_yes
from castline.versions.tags import ARTIFACT, LOOK_AT_TAGS, Registry, Version, last_version, read_registry, tag_of

__all__ = ["CARD", "PARTS", "reasons", "release"]

PARTS = ("patch", "minor", "major")
CARD = Path("MODEL_CARD.md")
_SHOWN = 8


def release(part: str, message: str = "", names: bool = False) -> Version:
    """Make a version of the state of the project: write its card, commit that, tag the commit.

    The order makes it safe to break off: a card that is committed already is tagged by the next try. Nothing is
    pushed. part: which part of the version's number is raised. message: of the tag. names: list people in the card.

    Raises: CastlineError, and leaves all as it was, when something is uncommitted, stale or missing, or the commit
    is a version already.
    """
    if part not in PARTS:
        raise CastlineError(f"{part!r} is no part of a version's number", f"castline release {'|'.join(PARTS)}")
    check_root()
    _check_branch()
    _check_clean()
    registry = read_registry()
    head = git("rev-parse", "--verify", "HEAD").strip()
    _check_unreleased(registry, head)
    _check_fresh()
    name = registry.next(part)
    tag = tag_of(name)
    if git_says_yes("show-ref", "--verify", "--quiet", f"refs/tags/{tag}"):
        raise CastlineError(f"{tag}: there is a tag of that name, but not one of GTO's", f"git tag -d {tag}")

    facts, before = facts_here(), last_version()
    changes = changes_between(before.name, facts_at(before.commit).state, facts.state) if before else None
    _commit_card(render_card(name, facts, names, changes), f"{ARTIFACT} {name}")
    try:
        register(".", ARTIFACT, "HEAD", version=name, message=message or f"{ARTIFACT} {name}")
    except Exception as error:  # GTO reads all tags before it writes one, and a stranger's can raise anything
        git("reset", "--quiet", "--keep", head)
        raise CastlineError(f"{tag} could not be made: {error}", LOOK_AT_TAGS) from error
    return read_registry().find(name)


def _check_branch() -> None:
    if not git_says_yes("rev-parse", "--verify", "--quiet", "HEAD^{commit}"):
        raise CastlineError("there is no commit yet", 'git add -A && git commit -m "First model"')
    if not git_says_yes("symbolic-ref", "--quiet", "HEAD"):
        raise CastlineError("no branch is checked out, so the release would be on none", "git switch BRANCH")


def _check_unreleased(registry: Registry, head: str) -> None:
    if there := next((version for version in registry.versions.values() if version.commit == head), None):
        raise CastlineError(
            f"this commit is {ARTIFACT} {there.name} already",
            f"castline promote {there.name} prod; or change something, dvc repro, commit, and release that",
        )


def _check_clean() -> None:
    changed = git("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames").split("\0")[:-1]
    if changed:
        raise CastlineError(
            "a version is made of what is committed, and this is not:\n" + _lines(changed),
            "git add -A && git commit, or git stash -u to lay it aside",
        )


def _check_fresh() -> None:
    """What dvc.lock says has to be what lies here and in DVC's cache, and to follow from params, code and photos."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            stale = repo.status()
    except DvcException as error:
        raise CastlineError(f"dvc status: {error}", "dvc status") from error
    if stale:
        raise CastlineError(
            "not all outputs are those of the present photos, settings and code:\n"
            + _lines([f"{name}: {'; '.join(reasons(changes))}" for name, changes in stale.items()]),
            "dvc repro, then git commit what it changed",
        )
    if not facts_here().bundle:
        raise CastlineError(f"{BUNDLE}: no bundle.json in what dvc.lock says of it", "dvc repro export")


def reasons(changes: Any) -> list[str]:
    """What `dvc status` has found of a stage, each on a line."""
    found = []
    for change in changes if isinstance(changes, list) else []:
        for kind, paths in change.items() if isinstance(change, dict) else [(change, None)]:
            found.append(f"{kind} {', '.join(map(str, paths))}" if isinstance(paths, dict) else str(kind))
    return found


def _commit_card(text: str, message: str) -> None:
    """Write and commit the card; if the last commit has just that card, there is nothing to do.

    Raises: CastlineError, the old card in its place, when git does not commit, for a hook or the lack of a name.
    """
    try:
        CARD.write_text(text, encoding="utf-8", newline="\n")
        git("add", "--", str(CARD))
        if not git_says_yes("diff", "--cached", "--quiet", "--", str(CARD)):
            git("commit", "--quiet", "--message", message, "--", str(CARD))
    except BaseException:
        git_says_yes("reset", "--quiet", "--", str(CARD))
        if not git_says_yes("checkout", "--quiet", "--", str(CARD)):  # there was none
            CARD.unlink(missing_ok=True)
        raise


def _lines(items: list[str]) -> str:
    from castline.text import short

    more = [f"and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    return "\n".join(f"  {item}" for item in [*(short(item, 100) for item in items[:_SHOWN]), *more])

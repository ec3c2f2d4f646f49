"""Which versions there are and which stage holds which: annotated tags of git, in GTO's grammar.

    recognizer@v1.2.0     a version          recognizer#prod#3     the third assignment, to the stage prod
    recognizer@v1.2.0!    taken back         recognizer#prod!#4    taken out of it

Tags are read here, one by one, because they may come from anybody: GTO stops at the first that contradicts another.
They are written by GTO, imported only then, for it takes half a second. The order is by date, as GTO and `dvc artifacts
get --stage` have it, and dates are whole seconds: see `_wait_for_a_later_second`.
"""

import re
import time
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from semver import Version as SemVer

from castline.errors import CastlineError
from castline.versions.git import git, git_says_yes

__all__ = [
    "ARTIFACT",
    "LOOK_AT_TAGS",
    "Action",
    "Registry",
    "Version",
    "last_version",
    "promote",
    "read_registry",
    "rollback",
    "tag_of",
]

ARTIFACT = "recognizer"
# Fields of a tag, none of which can hold a NUL or, being one line each, a line feed.
_FORMAT = "%00".join(
    f"%({field})" for field in ("refname:strip=2", "objecttype", "*objecttype", "*objectname", "taggerdate:unix")
)
# More than this is not two people's clocks that differ a little.
_PATIENCE = 5
LOOK_AT_TAGS = f"castline versions, and git tag --list '{ARTIFACT}*' for one that GTO may not have made"
_NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9-/_]*[a-zA-Z0-9])?"
_TAG = re.compile(rf"{ARTIFACT}(?:@(?P<version>v[^!#\n]+)|#(?P<stage>{_NAME}))(?P<cancel>!?)(?:#(?P<counter>[0-9]+))?")


class Action(Enum):
    """What a tag does: with a version, or with a version and a stage."""

    REGISTER = "register"
    DEREGISTER = "deregister"
    ASSIGN = "assign"
    UNASSIGN = "unassign"


@dataclass(frozen=True)
class _Tag:
    action: Action
    what: str  # the version or the stage
    commit: str
    date: int
    counter: int


@dataclass(frozen=True)
class Version:
    """A released version. name: such as v1.2.0. commit: 40 hex digits. date: seconds since 1970, of its tag."""

    name: str
    commit: str
    date: int

    @property
    def tag(self) -> str:
        """Its tag in git, such as recognizer@v1.2.0."""
        return tag_of(self.name)


@dataclass(frozen=True)
class Registry:
    """What the tags say, read once. tags: oldest first."""

    tags: list[_Tag]

    @cached_property
    def versions(self) -> dict[str, Version]:
        """The versions that were not taken back, newest number first."""
        found: dict[str, Version] = {}
        for tag in self.tags:
            if tag.action is Action.REGISTER:
                found[tag.what] = Version(tag.what, tag.commit, tag.date)
            elif tag.action is Action.DEREGISTER:
                found.pop(tag.what, None)
        return {name: found[name] for name in sorted(found, key=_number, reverse=True)}

    def find(self, name: str) -> Version:
        """The version of that name.

        Raises: CastlineError with the versions that there are.
        """
        if name in self.versions:
            return self.versions[name]
        if not self.versions:
            raise CastlineError(f"there is no version {name!r}, nor any other", "castline release minor")
        raise CastlineError(
            f"there is no version {name!r}, only {_listed(list(self.versions))}",
            "castline versions; git fetch --tags, if a colleague released it",
        )

    def next(self, part: str) -> str:
        """The name of the next version: the highest ever given, raised by a `patch`, `minor` or `major`.

        Before the first stands v0.0.0. A number that was taken back is not given again.
        """
        given = [_number(tag.what) for tag in self.tags if tag.action is Action.REGISTER]
        return f"v{max(given, default=SemVer(0)).next_version(part)}"

    @cached_property
    def stages(self) -> list[str]:
        """Every stage that ever held a version, by name."""
        return sorted({tag.what for tag in self.tags if tag.action is Action.ASSIGN})

    def holds(self, stage: str) -> str | None:
        """The version that is in the stage: of those put there and not taken out, the one put there last."""
        held: list[str] = []
        for action, version in self._history(stage):
            if version in held:
                held.remove(version)
            if action is Action.ASSIGN:
                held.append(version)
        return held[-1] if held else None

    def before(self, stage: str) -> str | None:
        """The version to go back to from the one that is in the stage.

        One that was left by going back is not gone back to: after v1, v2, v3 and back to v2, before v2 was v1.
        """
        path: list[str] = []
        for action, version in self._history(stage):
            if version in path:
                path = path[: path.index(version)] if action is Action.ASSIGN else [v for v in path if v != version]
            if action is Action.ASSIGN:
                path.append(version)
        earlier = [version for version in path if version != self.holds(stage)]
        return earlier[-1] if earlier else None

    def stages_of(self, version: str) -> list[str]:
        """The stages that the version is in."""
        return [stage for stage in self.stages if self.holds(stage) == version]

    def _history(self, stage: str) -> list[tuple[Action, str]]:
        """Assignments to a stage and removals from it, oldest first, of versions that still stand."""
        names = {version.commit: version.name for version in self.versions.values()}
        return [
            (tag.action, names[tag.commit])
            for tag in self.tags
            if tag.action in (Action.ASSIGN, Action.UNASSIGN) and tag.what == stage and tag.commit in names
        ]


def tag_of(version: str) -> str:
    """The tag of a version in git, such as recognizer@v1.2.0."""
    return f"{ARTIFACT}@{version}"


def read_registry() -> Registry:
    """The tags of the repository around the current folder; those that are not of GTO's grammar are passed over.

    Raises: CastlineError outside a repository.
    """
    tags = []
    for line in git("for-each-ref", f"--format={_FORMAT}", "refs/tags").split("\n")[:-1]:
        name, kind, target_kind, commit, date = line.split("\0")
        # As GTO has it: a tag without a message is somebody's bookmark.
        if (kind, target_kind) != ("tag", "commit") or not date:
            continue
        if parsed := _parsed(name):
            action, what, counter = parsed
            tags.append(_Tag(action, what, commit, int(date), counter))
    return Registry(sorted(tags, key=lambda tag: (tag.date, tag.counter)))


def _parsed(name: str) -> tuple[Action, str, int] | None:
    """What a tag does, the version or stage, and its counter; None for one that is not of GTO's grammar."""
    match = _TAG.fullmatch(name)
    try:
        counter = int(match["counter"] or 0) if match else 0
    except ValueError:  # of thousands of digits
        return None
    if match and match["stage"]:
        return Action.UNASSIGN if match["cancel"] else Action.ASSIGN, match["stage"], counter
    if match and SemVer.is_valid(match["version"][1:]):
        return Action.DEREGISTER if match["cancel"] else Action.REGISTER, match["version"], counter
    return None


def _number(version: str) -> SemVer:
    """What versions are ordered by, of one such as v1.2.0."""
    return SemVer.parse(version.removeprefix("v"))


def last_version() -> Version | None:
    """The version with the highest number that the present commit comes after, or is; None without git or versions."""
    if not git_says_yes("rev-parse", "--verify", "--quiet", "HEAD^{commit}"):
        return None
    for version in read_registry().versions.values():
        if git_says_yes("merge-base", "--is-ancestor", version.commit, "HEAD"):
            return version
    return None


def promote(version: str, stage: str) -> str | None:
    """Put a version into a stage by a new tag; the version that it takes the place of, if any.

    Raises: CastlineError for a version that does not exist or a name that GTO's grammar does not allow for a stage.
    """
    registry = read_registry()
    found = registry.find(version)
    # GTO's grammar lets a//b pass, which git would make another name of.
    if not (re.fullmatch(_NAME, stage) and git_says_yes("check-ref-format", f"refs/tags/{ARTIFACT}#{stage}#1")):
        known = f"; stages so far: {_listed(registry.stages)}" if registry.stages else ""
        raise CastlineError(
            f"{stage!r} is no name for a stage: letters, digits, - _ / and a letter or digit at both ends{known}",
            f"castline promote {version} prod",
        )
    held = registry.holds(stage)
    if held != version:
        _assign(registry, found, stage, f"{ARTIFACT} {version} is in {stage}")
    return held


def rollback(stage: str) -> tuple[str, str]:
    """Put back, by a new tag, the version that was in a stage before the one that is; both, the left one first.

    Raises: CastlineError when there is none.
    """
    registry = read_registry()
    held, before = registry.holds(stage), registry.before(stage)
    if held is None:
        known = f"stages that hold one: {_listed(registry.stages)}" if registry.stages else "no stage holds one"
        raise CastlineError(f"no version is in {stage!r}; {known}", "castline versions")
    if before is None:
        raise CastlineError(
            f"{held} is in {stage}, and none was there before that it could go back to",
            f"castline promote VERSION {stage}",
        )
    _assign(registry, registry.find(before), stage, f"{ARTIFACT} {before} is in {stage} again, in place of {held}")
    return held, before


def _assign(registry: Registry, version: Version, stage: str, message: str) -> None:
    from gto.api import assign

    _wait_for_a_later_second(registry, stage)
    try:
        # force: the version may have been in the stage before.
        assign(".", ARTIFACT, stage, version=version.name, message=message, force=True)
    except Exception as error:  # GTO reads all tags before it writes one, and a stranger's can raise anything
        raise CastlineError(f"{version.name} could not be put into {stage!r}: {error}", LOOK_AT_TAGS) from error


def _wait_for_a_later_second(registry: Registry, stage: str) -> None:
    """Return when a new tag will be dated later than the stage's: within one second, order would be by name.

    Raises: CastlineError when that would take long, because some clock is wrong.
    """
    of_stage = (tag for tag in registry.tags if tag.action in (Action.ASSIGN, Action.UNASSIGN) and tag.what == stage)
    last = max((tag.date for tag in of_stage), default=0)
    if (ahead := last - time.time()) > _PATIENCE:
        raise CastlineError(
            f"the newest tag of {stage} is dated {ahead:.0f} seconds from now, and a new one has to be later",
            "set this machine's clock, or wait, if it was another's that was wrong",
        )
    while time.time() < last + 1:
        time.sleep(0.05)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

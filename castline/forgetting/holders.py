"""What still holds a person after the next `dvc repro`, and how each is purged: versions, caches, remotes, history."""

import shlex
import tempfile
from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm  # type: ignore[import-untyped]

from castline import machine
from castline.files import tables
from castline.forgetting.register import normal
from castline.photos.batches import label_of
from castline.text import csv_cell
from castline.versions.facts import facts_at
from castline.versions.git import git, git_says_yes
from castline.versions.tags import ARTIFACT, read_registry

__all__ = ["Holder", "holders"]

_FORMAT = "%(refname:strip=2)%00%(objectname)%00%(*objectname)"


@dataclass(frozen=True)
class Holder:
    """A place that holds them. what: why, in a sentence. commands: that purge it, in this order; the user's to type."""

    place: str
    what: str
    commands: list[str] = field(default_factory=list)


def holders(name: str, photos: Set[str]) -> list[Holder]:
    """Everything outside the next run's own files, in the order in which it is purged.

    photos: sha256 of those that show them.

    Raises: CastlineError outside a git repository.
    """
    remotes = git("remote").split()
    return [
        *_tags(name, photos, remotes),
        *_experiments(),
        *_dvc(),
        *_fetched(),
        *_history(name, remotes),
        *_here(),
        Holder("devices", "Whatever runs an earlier version names them until it gets a new one: castline versions."),
        Holder(
            "elsewhere",
            "Other clones, backups, tracking servers (MLflow, ClearML), what castline sagemaker left in S3, results "
            "of a function on Lambda (castline lambda forget NAME), and copies of the report or of a bundle.",
        ),
    ]


def _tags(name: str, photos: Set[str], remotes: list[str]) -> list[Holder]:
    """Versions, and whatever else is tagged: `dvc gc --all-tags` keeps what any tag needs."""
    of_commit: dict[str, list[str]] = defaultdict(list)
    for line in git("for-each-ref", f"--format={_FORMAT}", "refs/tags").splitlines():
        tag, target, peeled = line.split("\0")
        of_commit[peeled or target].append(tag)
    registry = read_registry()
    version_at = {version.commit: version.name for version in registry.versions.values()}
    found = []
    for commit, tags in tqdm(of_commit.items(), "looking through versions", unit="tag", disable=None, leave=False):
        holds = _is_in(commit, name, photos)
        if holds is False:
            continue
        version = version_at.get(commit)
        stages = registry.stages_of(version) if version else []
        quoted = " ".join(map(shlex.quote, tags))
        found.append(
            Holder(
                f"{ARTIFACT} {version}" if version else f"tag {tags[0]}",
                ("It holds them" if holds else "Its tables are not to be had here, so it may hold them")
                + (f"; it is in {', '.join(stages)}: promote another first." if stages else "."),
                [f"git tag -d {quoted}", *(f"git push {shlex.quote(r)} --delete {quoted}" for r in remotes)],
            )
        )
    return found


def _is_in(commit: str, name: str, photos: Set[str]) -> bool | None:
    """Whether they are in the model or the dataset of a commit; None where that cannot be read.

    A commit without a model, such as a bookmark before the first run, holds nobody.
    """
    facts = facts_at(commit)
    if csv_cell(name) in facts.tested or name in (facts.people or ()):
        return True
    unread = False
    for path in ("build/dataset.parquet", "models/recognizer/memory.parquet"):
        rows = _rows(commit, path)
        if rows is None:
            unread = True
            continue
        for photo, person, sha256 in rows:
            label = label_of(photo)
            if name in (person, label and label.person) or sha256 in photos:
                return True
    return None if unread and facts.bundle_md5 else False


def _rows(commit: str, path: str) -> list[tuple[str, str | None, str]] | None:
    """Photo, person and sha256 of a table's rows, from DVC's cache or a remote; None where neither has it."""
    from dvc.api import DVCFileSystem

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "table.parquet")
        try:
            DVCFileSystem(".", rev=commit).get_file(path, str(target))
            rows = tables.read(target, ["photo", "person", "photo_sha256"]).to_pylist()
        except Exception:  # a remote's own library may raise anything
            return None
    return [(row["photo"], row["person"] and normal(row["person"]), row["photo_sha256"]) for row in rows]


def _experiments() -> list[Holder]:
    count = len(git("for-each-ref", "--format=%(refname)", "refs/exps").splitlines())
    if not count:
        return []
    return [
        Holder("experiments", f"There are {count}; what they made may hold them.", ["dvc exp remove --all-commits"])
    ]


def _dvc() -> list[Holder]:
    """The cache and each remote. Both are purged of all that neither the workspace nor a tag needs."""
    from dvc.repo import Repo

    with Repo() as repo:
        cache = Path(repo.cache.local.path)
        shared = bool(repo.config["cache"].get("dir"))
        notes = Path(repo.site_cache_dir)
        remotes = {str(name): str(remote.get("url", "")) for name, remote in repo.config["remote"].items()}
    purge = "dvc gc --workspace --all-tags"
    others = len(git("for-each-ref", "--format=%(refname)", "refs/heads").splitlines()) - 1
    what = f"{cache} has the tables, features and models of earlier runs"
    what += f"; what only the other {others} branches need goes, too" if others > 0 else ""
    if shared:
        what += "; other projects use it: name each of their clones with -p, or they lose what is theirs"
    found = [Holder("DVC's cache", f"{what}.", [purge])]
    for name, url in sorted(remotes.items()):
        what = f"It has what was pushed to {url}; other clones that push without having purged bring it back."
        found.append(Holder(f"DVC remote {name}", what, [f"{purge} --cloud --remote {shlex.quote(name)}"]))
    if notes.is_dir():
        what = "It has paths of photos, with the names of folders. DVC makes it anew, of photos that are there."
        found.append(Holder("DVC's list of files", what, [f"rm -r {shlex.quote(str(notes))}"]))
    return found


def _fetched() -> list[Holder]:
    """Versions that `castline app` has brought here to be tried."""
    folder = machine.versions()
    what = f"{folder} has the versions that castline app has fetched. It fetches them again, while they can be had."
    return [Holder("the app's versions", what, [f"rm -r {shlex.quote(str(folder))}"])] if folder.is_dir() else []


def _history(name: str, remotes: list[str]) -> list[Holder]:
    """Commits whose changes have the name in them."""
    if not git_says_yes("rev-parse", "--verify", "--quiet", "HEAD^{commit}"):
        return []
    count = len(git("log", "--all", "--format=%H", f"-S{name}").splitlines())
    if not count:
        return []
    where = f", here and in {', '.join(remotes)}" if remotes else ""
    rewrite = "git filter-repo --replace-text FILE"
    return [
        Holder(
            "git's history",
            f"{count} commits have the name{where}; a clone keeps them. FILE has a line NAME==>forgotten.",
            [rewrite, *(f"git push {shlex.quote(r)} --force --{kind}" for r in remotes for kind in ("all", "tags"))],
        )
    ]


def _here() -> list[Holder]:
    """Files of this folder that no stage writes anew."""
    known = {
        "named": "photos with names drawn on them",
        "build/collect": "who was looked for and not taken",
        "build/label": "sheets of faces for Label Studio",
        "build/review": "faces in doubt",
        "build/checkpoints": "training that was interrupted",
        ".castline/tune": "logs of tuning",
        ".castline/label-studio": "the database of Label Studio: delete their tasks there, or all of it",
        ".castline/tracking": "runs for MLflow, told or not yet, with their reports",
        ".castline/fleet": "training that was interrupted in a task",
        ".dvc/tmp/exps": "work trees of experiments",
    }
    found = [(path, what) for path, what in known.items() if Path(path).exists()]
    return [Holder(path, f"It may have them: {what}.", [f"rm -r {path}"]) for path, what in found]

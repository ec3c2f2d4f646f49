"""Sharing work between clones, where DVC's own commands leave a gap. docs/sharing.md has the whole story.

DVC believes an object in its cache that is write-protected, whatever is in it: a damaged one is checked out, and
reported as up to date. `check` reads every object again. And `dvc push --run-cache` leaves behind what a run wrote
for git, its metrics and plots, without which DVC cannot restore that run elsewhere and runs it again. `push` takes it
along.
"""

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from castline.errors import CastlineError, ConfigError

__all__ = ["Checked", "cache_of", "check", "md5", "object_path", "push"]


@dataclass(frozen=True)
class Checked:
    """What `check` found: how many objects are whole, which are not here, and the damaged ones and where they are now.

    removed: files of the project that had the damaged bytes; each is among those moved aside.
    """

    whole: int
    missing: list[str]
    damaged: dict[str, Path]
    removed: list[Path]


def check(everything: bool = False) -> Checked:
    """Read the cache's objects again and move those aside that are not what their names say; nothing is deleted.

    everything: all objects in the cache, not only those of the project's present state.

    Raises: ConfigError outside a project.
    """
    with _repo() as repo:
        root, cache = Path(repo.root_dir), Path(repo.cache.local.path)
        outs = [(out.hash_info.value, Path(out.fs_path)) for out in repo.index.outs if out.use_cache and out.hash_info]
    files: dict[str, list[Path]] = defaultdict(list)
    damaged: dict[str, Path] = {}
    for oid, path in outs:
        files[oid].append(path)
        listing = object_path(cache, oid)
        if oid.endswith(".dir") and listing.is_file() and _is_whole(listing, oid):
            for entry in json.loads(listing.read_bytes()):
                files[entry["md5"]].append(path / entry["relpath"])
    wanted = set(files) | (set(_all_in(cache)) if everything else set())
    missing = sorted(oid for oid in wanted if not object_path(cache, oid).is_file())
    removed = []
    for oid in sorted(wanted - set(missing)):
        path = object_path(cache, oid)
        if _is_whole(path, oid):
            continue
        bytes_of = md5(path)
        copies = [file for file in files[oid] if file.is_file() and md5(file) == bytes_of]
        damaged[oid] = _move_aside(path, cache)
        for file in copies:
            file.unlink()
            removed.append(file.relative_to(root))
    return Checked(len(wanted) - len(missing) - len(damaged), missing, damaged, removed)


def push(remote: str | None = None) -> int:
    """Upload the records of all runs in this clone's run-cache, and what those runs wrote that is still here.

    Together with `dvc push` this is what another clone needs to run nothing that was run here. The number of objects.

    Raises: ConfigError; CastlineError when the remote does not take it all.
    """
    from dvc.exceptions import DvcException

    with _repo() as repo, repo.lock:
        try:
            runs = repo.stage_cache.push(remote)
            done = repo.cloud.push(_written_by(repo, runs), remote=remote)
        except (DvcException, OSError) as error:
            raise CastlineError(f"the push stopped: {error}", "type it again: it goes on from here") from error
    if done.failed:
        raise CastlineError(
            f"{len(done.failed)} objects did not reach the remote", "type it again: it goes on from here"
        )
    return len(runs) + len(done.transferred)


def cache_of(project: Path) -> Path:
    """The folder, resolved, where the project in that folder keeps the objects that it may link to.

    Raises: ConfigError when there is no project.
    """
    with _repo(project) as repo:
        return Path(repo.cache.local.path).resolve()


def _repo(folder: Path = Path()) -> Any:
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        return Repo(str(folder))
    except NotDvcRepoError as error:
        raise ConfigError(f"{folder.absolute()}: no DVC project here", "cd into your clone") from error


def _written_by(repo: Any, runs: list[tuple[str, str]]) -> set[Any]:
    """The objects of each run that is whole in the local cache. Of runs that were only heard of, there is nothing."""
    from dvc.exceptions import CollectCacheError

    cache, found = Path(repo.cache.local.path), set()
    for run in runs:
        try:
            used = {info for infos in repo.stage_cache.get_used_objs([run]).values() for info in infos}
        except CollectCacheError:
            continue
        if all(object_path(cache, info.value).is_file() for info in used):
            found |= used
    return found


def object_path(cache: Path, oid: str) -> Path:
    """Where a cache has the object of that name: its MD5, with .dir behind it for a folder's listing."""
    return cache / oid[:2] / oid[2:]


def _all_in(cache: Path) -> Iterator[str]:
    for path in cache.glob("[0-9a-f][0-9a-f]/*"):
        name = path.parent.name + path.name
        if len(name.removesuffix(".dir")) == 32:  # not what is still being written
            yield name


def _is_whole(path: Path, oid: str) -> bool:
    return md5(path) == oid.removesuffix(".dir")


def md5(path: Path) -> str:
    """Of a file, as DVC names objects by it: 32 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _move_aside(path: Path, cache: Path) -> Path:
    """Into `damaged` beside DVC's own folders in the cache, under a name that nothing has yet."""
    folder = cache.parents[1] / "damaged"
    folder.mkdir(exist_ok=True)
    shutil.copymode(cache, folder)  # group-writable where the cache is
    name = path.parent.name + path.name
    for number in range(1, 1_000_000):
        target = folder / (name if number == 1 else f"{name}-{number}")
        if not target.exists():
            path.replace(target)
            return target
    raise CastlineError(f"{folder} is full", "look through it and empty it")

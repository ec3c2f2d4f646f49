"""What comes back from a stage that ran elsewhere: its entries of dvc.lock, and the small files it wrote for git.

Everything else that it wrote is in DVC's cache or remote. A fragment is JSON, checked when it is put in: files are only
those that dvc.yaml lets the stage write for git, and have the hash that the entry says.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from castline import lock
from castline.errors import DataError

__all__ = ["Fragment", "opened", "put", "take"]


@dataclass(frozen=True)
class Fragment:
    """entries: of dvc.lock, by stage. files: contents by path in the project; metrics and plots that git keeps."""

    entries: lock.Entries
    files: dict[str, bytes]

    def to_json(self) -> str:
        files = {path: base64.b64encode(content).decode("ascii") for path, content in self.files.items()}
        return json.dumps({"stages": self.entries, "files": files}, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Fragment":
        """Raises: DataError when it is none."""
        try:
            made = json.loads(text)
            files = {str(path): base64.b64decode(content, validate=True) for path, content in made["files"].items()}
            entries = {str(stage): dict(entry) for stage, entry in made["stages"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
            raise DataError(f"a result that is none came back: {error!r}") from error
        return cls(entries, files)


@contextmanager
def opened(folder: Path) -> Iterator[Any]:
    """DVC's repository in a folder. Raises: DataError with DVC's own word."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(folder)) as repo:
            yield repo
    except DvcException as error:
        raise DataError(f"DVC: {str(error).splitlines()[0]}", "dvc status") from error


def take(folder: Path, stages: Sequence[str] = ()) -> Fragment:
    """Of the project in `folder`: what `stages`, or all, have just made.

    Raises: DataError when one of them has no entry, or a file that git keeps is a folder or absent.
    """
    entries = lock.entries(stages, folder / "dvc.lock")
    if missing := set(stages) - entries.keys():
        raise DataError(f"dvc.lock has no entry for {', '.join(sorted(missing))}")
    files = {}
    for stage, paths in _kept_by_git(folder).items():
        for path in paths if stage in entries else ():
            try:
                files[path] = (folder / path).read_bytes()
            except OSError as error:
                raise DataError(f"{path}, which stage {stage} leaves to git: {error.strerror}") from error
    return Fragment(entries, files)


def put(folder: Path, fragments: Sequence[Fragment]) -> list[str]:
    """Merge fragments into the project in `folder`, all or nothing; the stages whose entry is another now.

    Raises: DataError when two say different things of one stage, or one says what no stage of this project would.
    """
    kept = _kept_by_git(folder)
    for fragment in fragments:
        if strange := fragment.entries.keys() - kept.keys():
            raise DataError(f"a result of {', '.join(sorted(strange))}, which this project has no stage for")
        owners = {path: stage for stage in fragment.entries for path in kept[stage]}
        if fragment.files.keys() != owners.keys():
            odd = sorted(fragment.files.keys() ^ owners.keys())
            raise DataError(f"a result whose files are not those that its stages leave to git: {odd[0]}")
        for path, content in fragment.files.items():
            if _md5(content) != _said(fragment.entries[owners[path]], path):
                raise DataError(f"a result whose {path} is not the one that its entry of dvc.lock names")
    changed = lock.merge([fragment.entries for fragment in fragments], folder / "dvc.lock")
    for fragment in fragments:
        for path, content in fragment.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    return changed


def _kept_by_git(folder: Path) -> dict[str, list[str]]:
    """By stage: paths of its outputs that DVC does not cache."""
    with opened(folder) as repo:
        root = Path(repo.root_dir)
        return {
            stage.name: [Path(out.fs_path).relative_to(root).as_posix() for out in stage.outs if not out.use_cache]
            for stage in repo.index.stages
            if stage.cmd
        }


def _said(entry: dict[str, Any], path: str) -> Any:
    outs = entry.get("outs")
    listed = [out for out in outs if isinstance(out, dict)] if isinstance(outs, list) else []
    return next((out.get("md5") for out in listed if out.get("path") == path), None)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()

"""Versions that were released, as the pipeline starts from them: git knows them by tag, DVC brings their files."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from castline.errors import ConfigError, DataError

__all__ = ["batches_of", "fetch", "tag_of", "untuned_base"]

_VERSION = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_BUNDLE = "models/recognizer"
_CACHE = Path(".dvc/cache/files/md5")  # where DVC has its cache unless it is told of another


def tag_of(start: str) -> str:
    """The git tag that `start`, such as recognizer@v1.0.0, names.

    Raises: ConfigError when it is not the name of a version or this repository has none of that name.
    """
    name, _, version = start.partition("@")
    if name != "recognizer" or not _VERSION.fullmatch(version):
        raise ConfigError(
            f"{start!r} is not the name of a version", "it looks like recognizer@v1.0.0: castline versions"
        )
    known = _git("tag", "--list", f"recognizer@{version}", fails="there is no git repository here")
    if not known.strip():
        raise ConfigError(
            f"{start}: there is no such version in this repository", "castline versions; git fetch --tags"
        )
    return start


def batches_of(start: str) -> list[str]:
    """The batches that a version has seen, itself or through the version that it started from.

    Raises: ConfigError.
    """
    values = _yaml_of(tag_of(start), "params.yaml")
    data = values.get("data") if isinstance(values, dict) else None
    batches = data.get("batches") if isinstance(data, dict) else None
    if not isinstance(batches, list):
        raise ConfigError(
            f"{start}: its params.yaml does not say which batches it has seen", "start from another version"
        )
    return [str(batch) for batch in batches]


def untuned_base(start: str) -> dict[str, Any] | None:
    """The `base_model` section that a version's base model was made by, as it is published; None where it was tuned,
    by that version or one that it comes from, or where that cannot be told.
    """
    passed: set[str] = set()
    while start != "pretrained":
        if start in passed:  # a tag that was moved
            return None
        passed.add(start)
        try:
            values = _yaml_of(tag_of(start), "params.yaml")
            if values["training"]["tune"] != "head":
                return None
            start, base = values["training"]["start"], values["base_model"]
        except (ConfigError, KeyError, TypeError):
            return None
    return base if isinstance(base, dict) else None


def fetch(start: str, folder: Path) -> None:
    """Bring a version's bundle to `folder`, which must not exist yet: from DVC's cache, or else from its remote.

    Raises: ConfigError when there is no such version; DataError when its files are not to be had.
    """
    tag = tag_of(start)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if _from_cache(tag, folder):
        return
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError

    try:
        DVCFileSystem(".", rev=tag).get(_BUNDLE, str(folder), recursive=True)
    except (DataIndexDirError, DvcException, OSError) as error:
        raise DataError(
            f"{start}: its files cannot be had: {error}",
            "dvc pull --all-tags models/recognizer; or push them from where they are: dvc push --all-tags",
        ) from error


def _from_cache(tag: str, folder: Path) -> bool:
    """Copy the bundle from the cache in the project, each file held against its hash; False, and nothing is copied,
    unless all of it is there. DVC would bring the same, but takes seconds to start."""
    lock = _yaml_of(tag, "dvc.lock")
    try:
        outs = [out for stage in lock["stages"].values() for out in stage.get("outs", [])]
        (listing,) = [out["md5"] for out in outs if out["path"] == _BUNDLE]
        listed = json.loads(_object(listing).read_bytes())
        files = {entry["relpath"]: _object(entry["md5"]) for entry in listed}
    except (AttributeError, KeyError, LookupError, OSError, TypeError, ValueError):
        return False
    if any(PurePosixPath(name).name != name for name in files):  # a bundle has no folders
        return False
    folder.mkdir()
    for name, path in files.items():
        shutil.copyfile(path, folder / name)
    return True


def _object(md5: str) -> Path:
    """Where the cache has something under a hash.

    Raises: OSError when it has nothing; ValueError when that is something else, or the hash is none.
    """
    if not _MD5.fullmatch(md5):
        raise ValueError(md5)
    path = _CACHE / md5[:2] / md5[2:]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    if found.hexdigest() != md5.removesuffix(".dir"):
        raise ValueError(md5)
    return path


def _yaml_of(tag: str, path: str) -> Any:
    """Raises: ConfigError when the version has no such file, or one that is no YAML."""
    text = _git("show", f"{tag}:{path}", fails=f"{tag} has no {path}")
    try:
        return yaml.load(text, yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{tag}: its {path} cannot be read: {error}", "start from another version") from error


def _git(*command: str, fails: str) -> str:
    done = subprocess.run(["git", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{fails}: {done.stderr.strip()}", "run it in your clone of the project")
    return done.stdout

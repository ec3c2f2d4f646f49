"""Versions that were released, as the pipeline starts from them: git knows them by tag, DVC brings their files."""

import re
import subprocess
from pathlib import Path

from castline.errors import ConfigError, DataError

__all__ = ["batches_of", "fetch", "tag_of"]

_VERSION = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_BUNDLE = "models/recognizer"


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
    from omegaconf import OmegaConf

    text = _git("show", f"{tag_of(start)}:params.yaml", fails=f"{start} has no params.yaml")
    batches = OmegaConf.select(OmegaConf.create(text), "data.batches")
    if batches is None:
        raise ConfigError(
            f"{start}: its params.yaml does not say which batches it has seen", "start from another version"
        )
    return [str(batch) for batch in batches]


def fetch(start: str, folder: Path) -> None:
    """Bring a version's bundle to `folder`, which must not exist yet: from DVC's cache, or else from its remote.

    Raises: ConfigError when there is no such version; DataError when its files are not to be had.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    tag = tag_of(start)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        DVCFileSystem(".", rev=tag).get(_BUNDLE, str(folder), recursive=True)
    except (DvcException, OSError) as error:
        raise DataError(
            f"{start}: its files cannot be had: {error}",
            "dvc pull --all-tags models/recognizer; or push them from where they are: dvc push --all-tags",
        ) from error


def _git(*command: str, fails: str) -> str:
    done = subprocess.run(["git", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{fails}: {done.stderr.strip()}", "run it in your clone of the project")
    return done.stdout

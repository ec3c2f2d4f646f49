"""Which models there are to be tried: the one of the working folder, and the versions that were released."""

import math
import re
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TypeGuard
from uuid import uuid4

from castline.errors import BundleError, CastlineError, DataError
from castline.files.bundle import Bundle, read_bundle
from castline.files.weights import sha256_of
from castline.machine import versions
from castline.runtime.cast import Cast
from castline.text import short

__all__ = [
    "BUNDLE",
    "REPORT",
    "WORKSPACE",
    "Fetch",
    "Fetches",
    "Model",
    "Released",
    "files_of",
    "is_number",
    "open_model",
    "opened",
    "released",
]

WORKSPACE = "workspace"
"""The name of the model that `dvc repro` made last, which need not be released."""
# Where they are in a project, and in what is fetched of one.
BUNDLE, REPORT = Path("models/recognizer"), Path("reports/index.html")
# What `castline release` gives. They become names of folders.
_VERSION = re.compile(r"v\d{1,9}\.\d{1,9}\.\d{1,9}", re.ASCII)
_MD5 = re.compile(r"([0-9a-f]{32})\.dir")


@dataclass(frozen=True, eq=False)
class Model:
    """A model that is chosen. Pages share it: nothing of it changes.

    name: a version such as v1.2.0, or "workspace". folder: of the bundle. file: float32, float16 or int8. key: the same
    for the same model and file, whatever they are called; what was seen is cached by it.
    """

    name: str
    folder: Path
    file: str
    bundle: Bundle
    cast: Cast
    key: str


@dataclass(frozen=True)
class Released:
    """A version. name: such as v1.2.0. stages: that it is in, such as prod. commit: 40 hex digits."""

    name: str
    stages: tuple[str, ...]
    commit: str


def released() -> list[Released]:
    """The versions of this folder's project, newest first; none where this is no project.

    Raises: CastlineError when git cannot be asked.
    """
    from castline.versions.git import check_root
    from castline.versions.tags import read_registry

    try:
        check_root()
    except CastlineError:  # a folder with a bundle is enough to try it
        return []
    registry = read_registry()
    return [
        Released(name, tuple(registry.stages_of(name)), version.commit)
        for name, version in registry.versions.items()
        if _VERSION.fullmatch(name)
    ]


def files_of(bundle: Bundle) -> list[str]:
    """The files of a bundle that the app can run."""
    return [file for file in ("float32", "float16", "int8") if file in bundle.files]


def open_model(name: str, folder: Path, file: str = "") -> Model:
    """The model in `folder`. file: by default the first that there is of float32, float16, int8.

    Raises: BundleError when it cannot be used.
    """
    bundle = read_bundle(folder)
    _check(folder, bundle)
    file = file or next(iter(files_of(bundle)), "float32")
    cast = Cast.read(folder, bundle, file)
    return Model(name, folder, file, bundle, cast, f"{sha256_of(folder / 'bundle.json')}-{file}")


def opened(name: str, folder: Path, file: str = "") -> Model:
    """`open_model`, once for as long as bundle.json stays what it is, so that what `dvc repro` makes is noticed.

    Raises: BundleError, also while the bundle is being written, and for whatever a stranger's version may hold.
    """
    try:
        read_bundle(folder)
        digest = sha256_of(folder / "bundle.json")
        model = _opened(name, folder, file, digest)
        if not model.key.startswith(digest):
            raise BundleError(f"{folder}: it has just been written anew", "reload the page")
    except CastlineError:
        raise
    except Exception as error:  # files that vanish meanwhile, values of any type, lists in lists in lists
        raise BundleError(f"{folder}: not a bundle that can be used ({type(error).__name__})", "dvc repro") from error
    return model


@lru_cache(maxsize=8)
def _opened(name: str, folder: Path, file: str, digest: str) -> Model:
    return open_model(name, folder, file)


def _check(folder: Path, bundle: Bundle) -> None:
    """Raises: BundleError for what pages would stumble over."""
    for file in bundle.files.values():
        if not all(is_number(getattr(file, field)) for field in ("bytes", "top1", "latency_ms", "temperature")):
            raise BundleError(f"{folder}: bundle.json has something else where numbers should be", "dvc repro export")
        if not all(value is None or is_number(value) for value in (file.threshold, file.tpir)):
            raise BundleError(f"{folder}: bundle.json has a threshold that is no number", "dvc repro export")
    if not (all(isinstance(person, str) for person in bundle.people) and isinstance(bundle.unknown, dict)):
        raise BundleError(f"{folder}: not as Castline writes it", "dvc repro export")


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is one, and finite: of what somebody else has written."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, eq=False)
class Fetch:
    """A version that is being brought here, or that could not be. size: of it all, bytes, or None if unknown.
    partial: where it is meanwhile. ended: its end.
    """

    size: int | None
    partial: Path
    ended: "Future[None]"

    @property
    def share(self) -> float | None:
        """How much of it is here, 0 to 1; None where that is not known."""
        if not self.size:
            return None
        return min(1.0, sum(_sizes(self.partial)) / self.size)

    @property
    def error(self) -> CastlineError | None:
        """Why it is not to be had; None while that is not known."""
        error = self.ended.exception() if self.ended.done() else None
        return error if isinstance(error, CastlineError) or error is None else DataError(type(error).__name__)


class Fetches:
    """Brings versions here, each once, in threads of its own. One of these serves all visitors.

    They lie in castline.machine.versions()/VERSION-MD5 as in a project.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2, "fetch")
        self._lock = Lock()
        self._fetches: dict[Path, Fetch] = {}

    def bundle(self, version: Released) -> Path | Fetch:
        """Where a version's bundle is, or how it is getting here. One that could not be had is not tried again before
        `again` is called.

        Raises: DataError when its commit has no bundle.
        """
        folder, size = _place(version)
        with self._lock:
            if (folder / BUNDLE).is_dir():
                return folder / BUNDLE
            found = self._fetches.get(folder)
            if found is None or (found.ended.done() and found.error is None):  # it was there, and was removed
                partial = folder.with_name(f".{folder.name}-{uuid4().hex}")
                ended = self._threads.submit(_fetch, version.name, partial, folder)
                found = self._fetches[folder] = Fetch(size, partial, ended)
            return found

    def again(self, version: Released) -> None:
        """Forget that it could not be had."""
        with self._lock:
            self._fetches.pop(_place(version)[0], None)


@lru_cache(maxsize=64)  # a commit does not change; its dvc.lock takes a while to read
def _bundle_at(commit: str) -> tuple[str | None, int | None]:
    from castline.versions.facts import facts_at

    facts = facts_at(commit)
    return facts.bundle_md5, facts.bundle_bytes


def _place(version: Released) -> tuple[Path, int | None]:
    """Where it is to be, and how many bytes it has. Of its name and its hash, which are its author's, only what looks
    like one gets into the path.
    """
    md5, size = _bundle_at(version.commit)
    hexadecimal = _MD5.fullmatch(md5 or "")
    if not (hexadecimal and _VERSION.fullmatch(version.name)):
        raise DataError(f"{version.name}: its dvc.lock does not say which model it has", "choose another version")
    return versions() / f"{version.name}-{hexadecimal[1]}", size


def _fetch(version: str, partial: Path, folder: Path) -> None:
    """The version's bundle and report to `folder`, all of it or nothing."""
    from dvc.api import DVCFileSystem

    from castline.released import fetch
    from castline.versions.tags import tag_of

    try:
        fetch(tag_of(version), partial / BUNDLE)
        with suppress(Exception):  # a version can be tried without its report
            (partial / REPORT).parent.mkdir()
            DVCFileSystem(".", rev=tag_of(version)).get_file(str(REPORT), str(partial / REPORT))
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # nobody else has brought it meanwhile
                raise
    except Exception as error:  # DVC's are of many kinds; see also castline.released
        raise DataError(
            f"{version}: its files are not in DVC's cache here, and were not to be had from a remote: "
            + short(getattr(error, "what", str(error)).splitlines()[0] if str(error) else type(error).__name__, 200),
            "dvc fetch --all-tags models/recognizer; or, where they are, dvc push --all-tags",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sizes(folder: Path) -> list[int]:
    with suppress(OSError):  # it is renamed meanwhile
        return [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return []

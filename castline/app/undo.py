"""Changes to the project that are made wholly or not at all, by one visitor at a time.

Before anything is changed, the files that will be are copied to .castline/app/before; that folder going away is what
makes the changes hold. Where it is still there, because the process was killed, the next to come puts the files back.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from castline.errors import DataError

__all__ = ["all_or_nothing", "alone"]

_STATE = Path(".castline/app")
_BEFORE = _STATE / "before"
_IMPORT, _DATA, _SAMPLE = Path("data.dvc"), Path("data"), Path("sample/photos")


@contextmanager
def alone() -> Iterator[None]:
    """Nobody else is in here meanwhile, in this process or another; and what was left half done is undone.

    Raises: DataError when the disk does not let itself be written.
    """
    try:
        _STATE.mkdir(parents=True, exist_ok=True)
        with (_STATE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go by the system when this process ends, however it does
            if _BEFORE.is_dir():
                _put_back()
            yield
    except OSError as error:
        raise DataError(
            f"{error.filename or _STATE}: {error.strerror or error}; nothing was written",
            "see that the project's folder can be written and the disk is not full",
        ) from error


@contextmanager
def all_or_nothing(files: Sequence[Path], made: Sequence[Path]) -> Iterator[None]:
    """What happens in here to `files`, and the files, links and folders `made`, stays only if nothing is raised.

    All of them lie in the working folder. Where it leaves the sample (castline.project), data/ is the sample's again.
    To be used `alone`.
    """
    part = _BEFORE.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    there = [path for path in files if path.is_file()]
    for number, path in enumerate(there):
        shutil.copy2(path, part / str(number))
    index = {
        "there": [str(path) for path in there],
        "made": [*map(str, made), *(str(path) for path in files if path not in there)],
        "sample": _IMPORT.is_file() and _DATA.is_dir(),
    }
    (part / "index.json").write_text(json.dumps(index), encoding="utf-8")
    part.replace(_BEFORE)
    try:
        yield
    except BaseException:
        try:
            _put_back()
        except OSError as error:
            raise DataError(
                f"{error.filename}: {error.strerror}; what was begun could not be undone",
                "see that the project's folder can be written: the next that is written from here undoes it first",
            ) from error
        raise
    _done()


def _put_back() -> None:
    """May itself be interrupted, and begun again."""
    index = json.loads((_BEFORE / "index.json").read_text(encoding="utf-8"))
    for path in map(Path, index["made"]):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_symlink() or path.exists():
            path.unlink()
    if index["sample"] and not _IMPORT.is_file():
        shutil.rmtree(_DATA, ignore_errors=True)
        shutil.copytree(_SAMPLE, _DATA)
    for number, path in enumerate(index["there"]):
        if (_BEFORE / str(number)).is_file():  # else it is back already
            (_BEFORE / str(number)).replace(path)
    _done()


def _done() -> None:
    after = _BEFORE.with_suffix(".done")
    shutil.rmtree(after, ignore_errors=True)
    _BEFORE.replace(after)
    shutil.rmtree(after, ignore_errors=True)

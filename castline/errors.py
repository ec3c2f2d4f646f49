"""What can go wrong through no fault of Castline's, said so that the reader can act on it.

CastlineError
├── ConfigError     a setting that does not fit: key, value, what is allowed
├── DataError       photos, labels or tables that cannot be used as they are
├── WeightsError    a weight file that is absent or is not the one that was asked for
├── MissingExtra    an optional dependency that is not installed
├── BundleError     a released model that cannot be used
├── GateError       an exported file that is not as good as the model it came from
├── ReleaseError    a release that a device must not run
└── StoreError      a device's store that cannot be read or written
"""

import functools
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import ParamSpec, TypeVar

__all__ = [
    "BundleError",
    "CastlineError",
    "ConfigError",
    "DataError",
    "GateError",
    "MissingExtra",
    "ReleaseError",
    "StoreError",
    "WeightsError",
    "exits_cleanly",
    "optional_import",
]

P = ParamSpec("P")
R = TypeVar("R")


class CastlineError(Exception):
    """Something the user can mend: `what` happened (and where), and what to type or do `next`.

    >>> print(CastlineError("photo.jpg: not a picture", "remove it, or save it again as JPEG"))
    photo.jpg: not a picture
      next: remove it, or save it again as JPEG
    """

    def __init__(self, what: str, next: str = "") -> None:
        super().__init__(f"{what}\n  next: {next}" if next else what)
        self.what, self.next = what, next


class ConfigError(CastlineError):
    """A setting that does not fit: key, value, what is allowed."""


class DataError(CastlineError):
    """Photos, labels or tables that cannot be used as they are."""


class WeightsError(CastlineError):
    """A weight file that is absent or is not the one that was asked for."""


class MissingExtra(CastlineError):
    """An optional dependency that is not installed."""


class BundleError(CastlineError):
    """A released model that cannot be used."""


class GateError(CastlineError):
    """An exported file that is not as good as the model it came from."""


class ReleaseError(CastlineError):
    """A release that a device must not run: damaged, incomplete, or not what it says it is."""


class StoreError(CastlineError):
    """A device's store of releases that cannot be read or written: a full disk, a missing folder."""


def optional_import(module: str, extra: str) -> ModuleType:
    """Import `module`, or say which extra brings it.

    Raises: MissingExtra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(f"{module} could not be imported ({error})", f"pip install 'castline[{extra}]'") from error


def exits_cleanly(main: Callable[P, R]) -> Callable[P, R]:
    """Make a command print a `CastlineError` and exit with 1 instead of showing a traceback."""

    @functools.wraps(main)
    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return main(*args, **kwargs)
        except CastlineError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from error

    return command

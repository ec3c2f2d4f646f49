"""The frame of a stage's script. It stands first among the script's imports, before anything that imports NumPy."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from importlib.machinery import ModuleSpec
from typing import NoReturn, ParamSpec, TypeVar

# NumPy's linear algebra takes its number of threads when it is imported (OpenBLAS; on macOS Accelerate). One, so that
# sums are added up in one order however many processors there are, and none waits for work, busily. PyTorch and
# programs that a stage starts come later and know nothing of it.
_THREADS = ("OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_before = {name: os.environ.pop(name, None) for name in _THREADS}
os.environ |= dict.fromkeys(_THREADS, "1")

import numpy  # noqa: E402, F401

for _name, _value in _before.items():
    if _value is None:
        del os.environ[_name]
    else:
        os.environ[_name] = _value

from castline.errors import exits_cleanly  # noqa: E402

__all__ = ["stage", "without_pandas"]

P = ParamSpec("P")
R = TypeVar("R")


def stage(main: Callable[P, R]) -> Callable[P, R]:
    """Make a function a stage: what is wrong with its input is said without a traceback, and pandas is left alone."""

    @exits_cleanly
    @wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        without_pandas()
        return main(*args, **kwargs)

    return run


def without_pandas() -> None:
    """Spare this process pandas, which no stage uses. Where it is installed (the app's extra brings it), pyarrow
    imports it at the first conversion, to see whether it was handed something of it: a third of a CPU second each time.

    To be called by a program, not a library: `import pandas` fails from here on, as if it were not installed.
    """
    sys.meta_path.insert(0, _NoPandas())


class _NoPandas:
    """Finds pandas, and cannot load it. (None in sys.modules Cython, and so pyarrow, takes for the module; PyTorch asks
    where pandas is, and expects an answer.)"""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == "pandas" else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> NoReturn:
        raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name)

    def exec_module(self, module: object) -> None:
        """Never called: asked for because the import system looks whether it is there."""

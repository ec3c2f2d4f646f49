"""LiteRT, loaded late and quiet."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["interpreter"]


def interpreter(file: Path, threads: int = 1) -> Any:
    """An `Interpreter` of a TFLite file, its tensors allocated.

    Raises: ValueError or RuntimeError, as LiteRT does, for a file that it cannot load.
    """
    from ai_edge_litert.interpreter import Interpreter

    with _quiet():
        loaded = Interpreter(model_path=str(file), num_threads=threads)
        loaded.allocate_tensors()
    return loaded


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep LiteRT's own lines off standard error: it reports each delegate there, and has no switch for that.

    What it wrote is passed on when it fails.
    """
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no standard error, as in some services
        yield
        return
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            log.seek(0)
            os.write(2, log.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)

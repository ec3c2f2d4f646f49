"""Bars on terminals, for what takes longer than a look. Elsewhere nothing is drawn, and tqdm, which would draw it, is
not imported: of some stages that is a fifth of their time."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

__all__ = ["Bar", "counted"]

T = TypeVar("T")


class Bar:
    """A bar of `total` units, in a `with`."""

    def __init__(self, title: str, unit: str, total: int) -> None:
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm  # type: ignore[import-untyped]

            self._bar = tqdm(desc=title, unit=unit, total=total)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, count: int = 1) -> None:
        if self._bar is not None:
            self._bar.update(count)


def counted(things: Iterable[T], title: str, unit: str, total: int) -> Iterator[T]:
    """`things`, of which there are `total`, with a bar that counts those that are done."""
    with Bar(title, unit, total) as bar:
        for thing in things:
            yield thing
            bar.update()

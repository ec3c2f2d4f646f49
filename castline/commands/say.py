"""What commands have in common: an option, and how they end."""

from typing import Annotated

import typer

__all__ = ["AsJson", "say_next"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def say_next(*lines: str) -> None:
    """What to type now."""
    print("next: " + "\n      ".join(lines))

"""What training says of each epoch, as it goes, to whoever asked for it. No result depends on it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["VARIABLE", "epoch"]

VARIABLE = "CASTLINE_PROGRESS"


def epoch(row: Mapping[str, float]) -> None:
    """Append a row (epoch, from 0, and its losses and accuracies) as a line of JSON to the file that CASTLINE_PROGRESS
    names; without it, nothing. That the file cannot be written is no reason to stop training."""
    if path := os.environ.get(VARIABLE):
        try:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(dict(row)) + "\n")
        except OSError:
            pass

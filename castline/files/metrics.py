"""Metrics as `dvc metrics show` reads them: JSON whose order and digits do not depend on the run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["write_metrics"]


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write a mapping of numbers, and of mappings of numbers, as JSON with sorted keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(metrics, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")

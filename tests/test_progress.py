"""Epochs, as they go, to whoever asked."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from castline import progress


def rows(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_epochs_go_to_everybody_who_asked_and_to_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CASTLINE_PROGRESS", raising=False)
    one, two = tmp_path / "one", tmp_path / "t w:o"
    before = time.time_ns() // 1_000_000
    progress.epoch({"epoch": 0})
    with progress.written(one):
        progress.epoch({"epoch": 1, "val_loss": 0.5})
        with progress.written(two):
            progress.epoch({"epoch": 2, "val_loss": 0.25})
    progress.epoch({"epoch": 3})
    assert [row["epoch"] for row in rows(one)] == [1, 2]
    assert [row["val_loss"] for row in rows(two)] == [0.25]
    assert all(before <= row["time"] <= time.time_ns() // 1_000_000 for row in rows(one))


def test_a_process_that_is_started_says_its_epochs_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    with progress.written(outer):
        code = "from castline import progress; progress.epoch({'epoch': 7})"
        monkeypatch.setenv(*progress.asked(inner).popitem())
        subprocess.run([sys.executable, "-c", code], check=True)
        assert [row["epoch"] for row in rows(inner)] == [row["epoch"] for row in rows(outer)] == [7]


def test_what_cannot_be_written_stops_no_training(tmp_path: Path) -> None:
    with progress.written(tmp_path / "absent" / "rows"):
        progress.epoch({"epoch": 0})
    assert not (tmp_path / "absent").exists()

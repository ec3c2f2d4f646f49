"""Environments of their own, with a double of uv that installs nothing."""

import multiprocessing
import os
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from castline import environments
from castline.cloud.sagemaker_send import SDK
from castline.cloud.sagemaker_send import VERSION as SDK_VERSION
from castline.environments import Environment
from castline.errors import CastlineError
from castline.label_studio.environment import LABEL_STUDIO, VERSION
from castline.tracking import environment as mlflow

PROGRAM = Environment("A program", "program-1.0", LABEL_STUDIO.lock, size=1)
UV = """#!/bin/sh
echo called >> "$UV_DOUBLE/calls"
if [ -e "$UV_DOUBLE/fails" ]; then echo "no route to host" >&2; exit 2; fi
sleep 0.2
"""


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with uv's double and what it was called for; the cache is beside it."""
    folder = tmp_path / "uv"
    folder.mkdir()
    (folder / "uv").write_text(UV)
    (folder / "uv").chmod(0o755)
    monkeypatch.setattr(environments, "find_uv", lambda: str(folder / "uv"))
    monkeypatch.setenv("UV_DOUBLE", str(folder))
    monkeypatch.setenv("CASTLINE_CACHE", str(tmp_path / "cache"))
    return folder


def calls(double: Path) -> int:
    path = double / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_it_is_made_once_and_again_where_an_installation_was_killed(double: Path) -> None:
    made = PROGRAM.made()
    assert (made / "bin" / "python").exists()
    assert PROGRAM.made() == made == PROGRAM.folder()
    assert calls(double) == 1
    (made / ".complete").unlink()  # as a kill leaves it
    (made / "half").touch()
    PROGRAM.made()
    assert calls(double) == 2
    assert not (made / "half").exists()


def test_it_is_made_again_when_the_python_that_it_stands_on_is_gone(double: Path) -> None:
    python = PROGRAM.made() / "bin" / "python"
    python.unlink()
    python.symlink_to("/absent/python3")
    assert (PROGRAM.made() / "bin" / "python").exists()
    assert calls(double) == 2


def test_two_that_ask_at_once_get_one(double: Path) -> None:
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=PROGRAM.made) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert [one.exitcode for one in both] == [0, 0]
    assert calls(double) == 1


def test_a_failed_installation_is_said_and_tried_again(double: Path) -> None:
    (double / "fails").touch()
    for _ in range(2):
        with pytest.raises(CastlineError, match=r"(?s)no route to host.*package index"):
            PROGRAM.made()
    (double / "fails").unlink()
    assert PROGRAM.made().is_dir()
    assert calls(double) == 3


def test_no_room_is_said_before_anything_is_fetched(double: Path) -> None:
    with pytest.raises(CastlineError, match=r"(?s)GB are free, A program needs .*CASTLINE_CACHE"):
        replace(PROGRAM, size=1 << 70).made()
    assert calls(double) == 0


@pytest.mark.parametrize(
    ("lock", "pin"),
    [
        (LABEL_STUDIO.lock, f"label-studio=={VERSION}"),
        (mlflow.MLFLOW.lock, f"mlflow=={mlflow.VERSION}"),
        (SDK.lock, f"sagemaker-train=={SDK_VERSION}"),
    ],
    ids=["label-studio", "mlflow", "sagemaker"],
)
def test_locks_name_exact_versions_and_no_host(lock: tuple[str, str], pin: str) -> None:
    package, file = lock
    pins = [line for line in resources.files(package).joinpath(file).read_text().splitlines() if line[:1] != "#"]
    assert pin in pins
    assert all("==" in line and "://" not in line and not line.startswith("-") for line in pins)


def test_the_servers_python_is_not_led_into_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    assert "PYTHONPATH" not in environments.clean()
    assert environments.clean()["PATH"] == os.environ["PATH"]

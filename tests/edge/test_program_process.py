"""The program as it is started on a device: by Greengrass, on a laptop, wrongly."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from edge_program import ROOT, program, spooled
from nucleus import Nucleus
from test_greengrass import until

from castline.edge.model import open_model
from castline.edge.settings import Settings
from castline.edge.store import Store
from castline.errors import CastlineError


def test_greengrass_configures_it_and_survives_a_restart_of_the_nucleus(tmp_path: Path, photo: Path) -> None:
    topic = "ml/tflite/image-classification"
    values = {"ImageName": "a.jpg", "ImageDirectory": str(tmp_path), "InferenceInterval": "0.05", "LocalTopic": "seen"}
    with Nucleus(values, iot={topic, "ml/b"}, local={"seen"}) as nucleus:
        with program(tmp_path / "work", **nucleus.environment) as running:
            until(lambda: len(nucleus.published) > 6)
            assert nucleus.states == ["RUNNING"]
            assert {kind for kind, _, _ in nucleus.published} == {"iot", "local"}
            nucleus.configure(PublishResultsOnTopic="ml/b")
            until(lambda: nucleus.published[-1][1] == "ml/b" or nucleus.published[-2][1] == "ml/b")
            nucleus.end()
            time.sleep(0.3)
            nucleus.configuration["PublishResultsOnTopic"] = topic
            nucleus.start()
            until(lambda: nucleus.published[-1][1] == topic or nucleus.published[-2][1] == topic)
            running.send_signal(signal.SIGTERM)
            _, log = running.communicate(timeout=20)
        assert running.returncode == 0, log
        said = [json.loads(payload) for kind, _, payload in nucleus.published if kind == "iot"]
        numbers = [one["sequence"] for one in said]
        assert list(dict.fromkeys(numbers)) == list(range(1, max(numbers) + 1)), "none is lost, and the order holds"
        assert said[0]["device"] == "test-thing"

        before = spooled(tmp_path / "work")
        # Without a nucleus it begins with the configuration that was last good, and keeps what it cannot deliver.
        nucleus.end()
        with program(tmp_path / "work", **nucleus.environment) as running:
            until(lambda: spooled(tmp_path / "work") > before + 3)
            running.send_signal(signal.SIGTERM)
            _, log = running.communicate(timeout=20)
        assert running.returncode == 0, log
        assert "the last good configuration is used" in log
        nucleus.start()
        with program(tmp_path / "work", **nucleus.environment) as running:
            until(lambda: len({one["sequence"] for one in told(nucleus)} - set(numbers)) > 4)
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=20)
        numbers = list(dict.fromkeys(one["sequence"] for one in told(nucleus)))
        assert numbers == list(range(1, max(numbers) + 1))
        assert spooled(tmp_path / "work") > before


def told(nucleus: Nucleus) -> list[dict[str, Any]]:
    return [json.loads(payload) for kind, _, payload in nucleus.published if kind == "iot"]


def test_it_ends_at_once_while_a_release_is_tested(tmp_path: Path, old: Path, photo: Path) -> None:
    """A script stands for the Python that runs the self-test and hangs."""
    python, pid, store = tmp_path / "python", tmp_path / "pid", tmp_path / "store"
    python.write_text(f"#!/bin/sh\necho $$ > {pid}.part; mv {pid}.part {pid}\nexec sleep 600\n")
    python.chmod(0o755)
    config = tmp_path / "edge.json"
    config.write_text(json.dumps({"Source": f"image:{photo}", "StorePath": str(store)}))
    with program(tmp_path / "work", "--config", str(config), "--install", str(old), TESTING=str(python)) as running:
        until(pid.exists)
        running.send_signal(signal.SIGTERM)
        out, log = running.communicate(timeout=60)
    assert (running.returncode, out, "Traceback" in log) == (0, "", False), log
    assert "told to end during the self-test" in log
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    found = Store(store, test=lambda folder: None)
    assert (found.current, found.versions, found.refused, spooled(tmp_path / "work")) == (None, [], [], 0)
    assert {path.name for path in store.iterdir()} == {"lock", "releases"}, "no start was counted either"
    assert found.install(old).result == "installed"


def test_a_stolen_token_ends_it_with_a_clear_error(tmp_path: Path) -> None:
    with (
        Nucleus({"Source": "image:a"}) as nucleus,
        program(tmp_path / "work", **{**nucleus.environment, "SVCUID": "stolen"}) as running,
    ):
        _, log = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "does not take this component's token" in log
    assert "next: let Greengrass start the program" in log
    assert "Traceback" not in log


def test_on_a_laptop_results_are_lines_and_the_file_is_watched(tmp_path: Path, photo: Path) -> None:
    config = tmp_path / "edge.json"
    config.write_text(json.dumps({"Source": f"image:{photo}"}))
    done = program(tmp_path / "work", "--config", str(config), "--once")
    out, log = done.communicate(timeout=30)
    assert done.returncode == 0, log
    assert [json.loads(line)["source"] for line in out.splitlines()] == [str(photo)]

    config.write_text(json.dumps({"Source": f"image:{photo}", "InferenceInterval": 0.05}))
    with program(tmp_path / "work", "--config", str(config)) as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["source"] == str(photo)
        config.write_text(json.dumps({"Source": f"directory:{tmp_path}"}))
        until(lambda: running.stdout is not None and json.loads(running.stdout.readline())["frame"] == 0)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=20)
    assert running.returncode == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [("{}", "no Source"), ("[", "no configuration that can be read"), ('{"Source": "x"}', "Source is")],
)
def test_a_wrong_file_is_an_error_in_words(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "edge.json").write_text(text)
    done = program(tmp_path / "work", "--config", str(tmp_path / "edge.json"))
    _, log = done.communicate(timeout=30)
    assert (done.returncode, "Traceback" in log) == (1, False)
    assert said in log
    assert "next:" in log


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CastlineError, match="no bundle here"):
        open_model(Settings("image:a", model=str(tmp_path)))
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(CastlineError, match="manifest cannot be read"):
        open_model(Settings("image:a", model=str(tmp_path)))


def test_releases_are_brought_in_tested_run_and_told_of(tmp_path: Path, old: Path, new: Path, sample: Path) -> None:
    """The real store and real models, as a device runs them."""
    scene = next((sample / "scenes").glob("*.jpg"))
    config = tmp_path / "edge.json"
    config.write_text(json.dumps({"Source": f"image:{scene}", "StorePath": str(tmp_path / "store")}))
    broken = tmp_path / "recognizer-3.0.0.zip"
    broken.write_bytes(new.read_bytes()[:-1000])

    def run(*more: str) -> list[tuple[Any, ...]]:
        done = subprocess.run(
            [sys.executable, "-m", "castline.edge", "--config", config, "--work", tmp_path / "work", "--once", *more],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said = [json.loads(line) for line in done.stdout.splitlines()]
        return [(one["event"], one["from"], one["to"]) if "event" in one else (one["model-version"],) for one in said]

    assert run("--install", str(old)) == [("model-update", None, "1.0.0"), ("1.0.0",)]
    assert run("--install", str(new)) == [("model-update", "1.0.0", "2.0.0"), ("2.0.0",)]
    (refused, *_), *rest = run("--install", str(broken))
    assert (refused, rest) == ("model-refused", [("2.0.0",)])
    assert run() == [("2.0.0",)]

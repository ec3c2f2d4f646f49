"""The self-test of a release: what is a refusal, and what is none."""

import fcntl
import os
import sys
import threading

import pytest
from edge_shop import Shop
from test_greengrass import until

from castline.edge import trial
from castline.edge.store import Outcome, Store
from castline.edge.trial import self_tested
from castline.errors import StoreError


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("kill -SEGV $$", "self-test: ended by signal 11 (Segmentation fault)"),
        ("exec sleep 60", "self-test: no answer in 0.3 s"),
        ("echo too slow; exit 1", "self-test: too slow"),
        ("echo Traceback >&2; echo 'MemoryError: 1' >&2; exit 1", "self-test: MemoryError: 1"),
        ("exit 3", "self-test: exit code 3"),
    ],
)
def test_an_interpreter_that_breaks_down_is_a_refusal(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    """A script stands for Python, whose LiteRT crashes or hangs."""
    python = shop.folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(trial, "_TIMEOUT", 0.3)
    store = Store(shop.root, test=self_tested)
    assert store.install(shop.zip("1.0.0")) == Outcome("refused", "1.0.0", reason)
    assert store.current is None


def nothing_came_of_it(shop: Shop, store: Store, reason: str) -> None:
    """An update ends with that reason, and 1.0.0 runs as if nobody had tried."""
    with pytest.raises(StoreError, match=reason):
        store.install(shop.zip("2.0.0"))
    assert (shop.told(), store.refused) == ([("model-update", None, "1.0.0")], [])
    names = {path.name for path in shop.root.iterdir()}
    assert names == {"current", "lock", "releases", "state.json"} and store.versions == ["1.0.0"]
    assert shop.install("2.0.0").result == "installed"


def test_a_self_test_ends_with_the_program_that_waits_for_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.install("1.0.0")
    python, pid = shop.folder / "python", shop.folder / "pid"
    python.write_text(f"#!/bin/sh\necho $$ > {pid}.part; mv {pid}.part {pid}\nexec sleep 600\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    ending = threading.Event()

    def end() -> None:
        until(pid.exists)
        ending.set()

    thread = threading.Thread(target=end)
    thread.start()
    nothing_came_of_it(shop, Store(shop.root, tell=shop.events.append, ending=ending), "told to end during the self-")
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP"])
def test_a_self_test_that_somebody_ended_is_no_refusal(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, signal: str
) -> None:
    """systemd sends SIGTERM to all that a unit has started, the self-test included."""
    shop.install("1.0.0")
    python = shop.folder / "python"
    python.write_text(f"#!/bin/sh\nkill -{signal} $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    nothing_came_of_it(shop, Store(shop.root, tell=shop.events.append), "told to end during the self-test")


def test_nobody_waits_for_another_process_once_told_to_end(shop: Shop) -> None:
    shop.install("1.0.0")
    ending = threading.Event()
    store = Store(shop.root, tell=shop.events.append, ending=ending)
    with (shop.root / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ending.set()
        with pytest.raises(StoreError, match="told to end while another process"):
            store.install(shop.zip("2.0.0"))
        assert store.started().version == "1.0.0"


def test_no_python_to_test_with_is_no_refusal(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(shop.folder / "absent"))
    store = Store(shop.root, test=self_tested)
    with pytest.raises(StoreError, match="absent: No such file"):
        store.install(shop.zip("1.0.0"))
    assert store.refused == []

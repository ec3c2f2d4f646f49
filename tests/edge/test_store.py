"""Releases on a device: only what is whole and tests well becomes current, and what does not hold is left again."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_releases import rezip
from edge_shop import Shop
from hypothesis import given, settings
from hypothesis import strategies as st

from castline.edge import bookkeeping, layout
from castline.edge.golden import self_test
from castline.edge.store import Event, Outcome, Store
from castline.errors import StoreError


def test_an_update(shop: Shop) -> None:
    with pytest.raises(StoreError, match=r"no release is installed\n  next: .*--install"):
        shop.store.started()
    assert shop.install("1.0.0") == Outcome("installed", "1.0.0")
    assert shop.install("1.1.0+abc") == Outcome("installed", "1.1.0+abc")
    assert shop.told() == [("model-update", None, "1.0.0"), ("model-update", "1.0.0", "1.1.0+abc")]
    release = shop.store.started()
    assert (release.version, release.model) == ("1.1.0+abc", "float32")
    assert release.folder == (shop.root / "current").resolve()
    assert (release.folder / "model.bin").read_bytes() == b"1.1.0+abc"
    assert shop.store.previous == "1.0.0"
    described = Event("model-update", None, "1.0.0").described()
    assert described == {"event": "model-update", "from": None, "to": "1.0.0", "reason": ""}


def test_the_same_again_changes_nothing(shop: Shop) -> None:
    shop.install("1.0.0")
    shop.told()
    files = {path: path.lstat().st_mtime_ns for path in shop.root.rglob("*") if path.parent != shop.root}
    assert shop.install("1.0.0") == Outcome("unchanged", "1.0.0")
    assert shop.told() == [] and shop.tested == ["1.0.0"]
    assert files == {path: path.lstat().st_mtime_ns for path in shop.root.rglob("*") if path.parent != shop.root}


def test_an_older_version_is_taken_like_any_other(shop: Shop) -> None:
    """Who deploys decides, and goes back by deploying what was before."""
    for version in ("1.0.0", "2.0.0", "1.0.0"):
        assert shop.install(version).result == "installed"
    assert (shop.store.current, shop.store.previous) == ("1.0.0", "2.0.0")
    assert shop.told()[-1] == ("model-update", "2.0.0", "1.0.0")


def test_a_version_is_one_release(shop: Shop) -> None:
    shop.install("1.0.0")
    outcome = shop.install("1.0.0", head=b"2")
    assert outcome.result == "refused" and "another release runs as 1.0.0" in outcome.reason
    shop.install("2.0.0")
    assert shop.install("1.0.0", head=b"3").result == "installed", "nothing runs as 1.0.0 now"
    assert (shop.store.started().folder / "head.bin").read_bytes() == b"3"


def test_few_are_kept_and_always_the_current_and_the_previous(shop: Shop) -> None:
    for minor in range(6):
        shop.install(f"1.{minor}.0")
    assert set(shop.store.versions) == {"1.5.0", "1.4.0", "1.3.0"}
    small = Store(shop.root, keep=1, test=lambda folder: None)
    small.install(shop.zip("2.0.0"))
    assert set(small.versions) == {"2.0.0", "1.5.0"}


def test_a_refused_release_is_not_tried_again_by_itself(shop: Shop) -> None:
    shop.install("1.0.0")
    shop.bad["2.0.0"] = "too slow"
    assert shop.install("2.0.0") == Outcome("refused", "2.0.0", "too slow")
    assert shop.told()[1:] == [("model-refused", "1.0.0", "2.0.0")]
    assert shop.install("2.0.0") == Outcome("refused", "2.0.0", "too slow")
    assert shop.told() == [] and shop.tested == ["1.0.0", "2.0.0"]
    assert shop.store.refused == [{"version": "2.0.0", "reason": "too slow", "castline": bookkeeping.__version__}]
    assert shop.store.current == "1.0.0" and shop.store.versions == ["1.0.0"]
    shop.bad.clear()
    assert shop.install("2.0.0", again=True) == Outcome("installed", "2.0.0")
    assert shop.store.refused == []


def test_another_program_may_do_better(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.bad["2.0.0"] = "killed by SIGSEGV"
    shop.install("2.0.0")
    shop.bad.clear()
    monkeypatch.setattr(bookkeeping, "__version__", "0.2.0")
    assert shop.install("2.0.0").result == "installed"


def test_refusals_are_remembered_to_a_bound(shop: Shop) -> None:
    for minor in range(25):
        shop.bad[f"1.{minor}.0"] = "no"
        shop.install(f"1.{minor}.0")
    assert [entry["version"] for entry in shop.store.refused] == [f"1.{minor}.0" for minor in range(5, 25)]


def test_starts_that_fail_in_a_row_lead_back(shop: Shop) -> None:
    shop.install("1.0.0")
    shop.start()
    shop.store.healthy()
    shop.install("2.0.0")
    shop.told()
    assert [shop.start() for _ in range(4)] == ["2.0.0", "2.0.0", "1.0.0", "1.0.0"], (
        "nucleus lite starts it three times"
    )
    (event,) = shop.events
    assert event == Event("model-rollback", "2.0.0", "1.0.0", "2 starts in a row that did not get as far as working")
    assert shop.install("2.0.0").result == "refused" and shop.store.versions == ["1.0.0"]
    assert shop.install("2.0.0", again=True).result == "installed"
    assert [shop.start() for _ in range(3)] == ["2.0.0", "2.0.0", "1.0.0"]


def test_a_release_that_has_worked_is_not_counted_any_more(shop: Shop) -> None:
    """A camera that is unplugged, or a device that is switched off often, is no reason to go back."""
    shop.install("1.0.0")
    shop.install("2.0.0")
    shop.start()
    shop.store.healthy()
    written = (shop.root / "state.json").stat().st_ino
    shop.store.healthy()
    assert [shop.start() for _ in range(5)] == ["2.0.0"] * 5
    assert (shop.root / "state.json").stat().st_ino == written, "and nothing is written at each start"


def test_healthy_speaks_of_the_release_that_was_started(shop: Shop) -> None:
    shop.install("1.0.0")
    running = shop.store
    running.started()
    Store(shop.root, test=lambda folder: None).install(shop.zip("2.0.0"))
    running.healthy()
    assert [shop.start() for _ in range(3)] == ["2.0.0", "2.0.0", "1.0.0"]


def test_without_another_release_the_only_one_is_tried_for_ever(shop: Shop) -> None:
    shop.install("1.0.0")
    assert [shop.start() for _ in range(5)] == ["1.0.0"] * 5
    with pytest.raises(StoreError, match=r"1\.0\.0 cannot be run .*: no such file"):
        shop.store.failed("no such file")
    assert shop.start() == "1.0.0" and shop.told() == [("model-update", None, "1.0.0")]


def test_a_release_that_cannot_be_opened_is_left_at_once(shop: Shop) -> None:
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        shop.install(version)
    shop.start()
    shop.told()
    assert shop.store.failed("LiteRT cannot load it").version == "2.0.0"
    assert shop.told() == [("model-rollback", "3.0.0", "2.0.0")]
    assert (shop.store.current, shop.store.previous) == ("2.0.0", "1.0.0")
    assert shop.install("3.0.0") == Outcome("refused", "3.0.0", "LiteRT cannot load it")


def test_a_damaged_copy_is_left_and_brought_in_anew(shop: Shop) -> None:
    """A bit that fell over on the disk says nothing about the release."""
    for version in ("1.0.0", "2.0.0"):
        shop.install(version)
        shop.start()
        shop.store.healthy()
    (shop.root / "current" / "model.bin").write_bytes(b"2.0.1")
    assert shop.store.failed("damaged").version == "1.0.0"
    assert shop.store.versions == ["1.0.0"] and shop.store.refused == []
    assert shop.install("2.0.0").result == "installed"
    (shop.root / "current" / "model.bin").unlink()
    assert shop.install("2.0.0").result == "installed", "also while it is the current one"
    assert (shop.root / "current" / "model.bin").read_bytes() == b"2.0.0"
    assert shop.told()[-2:] == [("model-rollback", "2.0.0", "1.0.0"), ("model-update", "1.0.0", "2.0.0")]


def test_a_link_that_leads_nowhere_is_mended(shop: Shop) -> None:
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        shop.install(version)
    subprocess.run(["rm", "-r", shop.root / "releases" / "3.0.0"], check=True)
    shop.told()
    assert shop.start() == "2.0.0"
    assert shop.told() == [("model-rollback", "3.0.0", "2.0.0")]
    (shop.root / "current").unlink()
    (shop.root / "previous").unlink(missing_ok=True)
    assert shop.start() == "2.0.0"
    (shop.root / "current").unlink()
    elsewhere = shop.folder / "elsewhere"
    (shop.root / "releases" / "1.0.0").rename(elsewhere)
    (shop.root / "current").symlink_to(elsewhere)
    assert shop.start() == "2.0.0", "only what is in releases/ is a release"


@pytest.mark.parametrize("left", ["folder", "file", "link"])
def test_unfinished_work_is_cleared_away(shop: Shop, left: str) -> None:
    shop.install("1.0.0")
    precious = shop.folder / "precious"
    precious.mkdir()
    (precious / "file").touch()
    remains = shop.root / ".tmp-2.0.0"
    if left == "folder":
        remains.mkdir()
        (remains / "model.bin").write_bytes(b"2.")
    elif left == "file":
        remains.write_bytes(b"2.")
    else:
        remains.symlink_to(precious)
    assert shop.start() == "1.0.0" and not remains.exists() and not remains.is_symlink()
    assert (precious / "file").exists()


states = st.binary(max_size=30) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda values: (
        st.dictionaries(
            st.sampled_from(["current", "starts", "proven", "leaving", "refused", "version", "reason", "castline"]),
            values,
        )
        | st.lists(values, max_size=3)
    ),
).map(lambda value: json.dumps(value).encode())


@given(states)
@settings(deadline=None, max_examples=30)
def test_with_any_state_a_device_starts(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        shop = Shop(Path(name))
        shop.install("1.0.0")
        (shop.root / "state.json").write_bytes(data)
        assert shop.start() == "1.0.0"
        assert shop.install("2.0.0").result == "installed"
        shop.store.healthy()
        assert shop.start() == "2.0.0"


def test_what_is_no_refusal(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=r"absent\.zip: No such file"):
        shop.store.install(shop.folder / "absent.zip")
    path = shop.zip("1.0.0")
    with monkeypatch.context() as patch:
        patch.setattr(layout, "_SPARE", 2**62)
        with pytest.raises(StoreError, match=r"MB are needed for 1\.0\.0"):
            shop.store.install(path)
    assert shop.events == [] and shop.store.refused == [] and shop.store.install(path).result == "installed"


def test_a_disk_that_is_full_in_the_middle(shop: Shop) -> None:
    """A limit on the size of files stands for it: what is larger cannot be written."""
    shop.install("1.0.0")
    path = shop.zip("2.0.0", large=os.urandom(500_000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(StoreError, match="File too large"):
            shop.store.install(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(shop.root.glob(".tmp-*")), "and what was written of it is gone"
    assert shop.start() == "1.0.0" and shop.store.install(path).result == "installed"


def unprivileged(do: Callable[[], object]) -> int:
    """Do it as a user who may read and not write, in a process of its own. 0: it went well."""
    child = os.fork()
    if not child:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            do()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that other users may look into, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        subprocess.run(["chmod", "-R", "u+w", name], check=True)


def test_a_store_that_cannot_be_written(open_folder: Path) -> None:
    shop = Shop(open_folder)
    shop.install("1.0.0")
    shop.install("2.0.0")
    path = shop.zip("3.0.0")
    shop.root.joinpath(".tmp-left").mkdir()
    subprocess.run(["chmod", "-R", "a-w,a+rX", shop.root], check=True)

    def use() -> None:
        store = Store(shop.root, test=lambda folder: None)
        assert [store.started().version for _ in range(4)] == ["2.0.0"] * 4
        store.healthy()
        for work in (lambda: store.install(path), lambda: store.failed("x")):
            with pytest.raises(StoreError, match="Permission denied"):
                work()

    assert unprivileged(use) == 0
    (shop.root / "releases" / "2.0.0").rename(shop.root / "releases" / "gone")
    assert unprivileged(lambda: Store(shop.root).started().version == "1.0.0" or 1 / 0) == 0


def test_two_at_once_take_turns(old: Path, new: Path, tmp_path: Path) -> None:
    """The real thing: two processes, self-tests and all, and a third with the same as the first."""
    command = [sys.executable, "-m", "castline.edge.store", tmp_path, "--install"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen([*command, path], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for path in (old, new, old)
    ]
    done = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], done
    store = Store(tmp_path)
    assert {store.current, store.previous} == {"1.0.0", "2.0.0"} == set(store.versions)
    self_test(store.started().folder)


def test_the_command(old: Path, tmp_path: Path) -> None:
    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "castline.edge.store", *map(str, words)]
        return subprocess.run(
            command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True
        )

    root, bad = tmp_path / "store", tmp_path / "bad.zip"
    done = run(root, "--install", rezip(old, bad, {"model.tflite": b"TFL3"}))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert (
        done.stderr.startswith(f"error: {bad}: refused: self-test: it cannot be opened: ") and "--again" in done.stderr
    )
    assert json.loads(done.stdout) == {
        "event": "model-refused", "from": None, "to": "1.0.0", "reason": json.loads(done.stdout)["reason"],
    }  # fmt: skip
    state = json.loads(run(root).stdout)
    assert state["current"] is None and [entry["version"] for entry in state["refused"]] == ["1.0.0"]

"""Releases on a device: only what is whole and tests well becomes current, and what does not hold is left again."""

import fcntl
import json
import os
import resource
import stat
import subprocess
import sys
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_releases import contents_of, fake_release, rezip, with_manifest, write_zip
from hypothesis import given, settings
from hypothesis import strategies as st
from test_greengrass import until

from castline.edge import bookkeeping, layout, trial
from castline.edge.golden import self_test
from castline.edge.manifest import MANIFEST
from castline.edge.store import Event, Outcome, Store
from castline.edge.trial import self_tested
from castline.errors import ReleaseError, StoreError


class Shop:
    """Fake releases, and a store that heard what was told and takes everything but what it is told to refuse."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "store"
        self.events: list[Event] = []
        self.tested: list[str] = []
        self.bad: dict[str, str] = {}
        self.store = self.again()

    def again(self) -> Store:
        """The device is switched off and on."""
        self.store = Store(self.root, tell=self.events.append, test=self._test)
        return self.store

    def _test(self, folder: Path) -> None:
        version = json.loads((folder / MANIFEST).read_text())["version"]
        self.tested.append(version)
        if version in self.bad:
            raise ReleaseError(self.bad[version])

    def zip(self, version: str, **contents: bytes) -> Path:
        return fake_release(self.folder / "zips", version, **contents)

    def install(self, version: str, again: bool = False, **contents: bytes) -> Outcome:
        return self.store.install(self.zip(version, **contents), again)

    def told(self) -> list[tuple[str, str | None, str | None]]:
        told = [(event.event, event.source, event.target) for event in self.events]
        self.events.clear()
        return told

    def start(self) -> str:
        return self.again().started().version


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


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


HOSTILE: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes] | bytes], str]] = {
    "no zip": (lambda files: b"<html>404</html>", "damaged"),
    "empty": (lambda files: b"", "damaged"),
    "no manifest": (lambda files: files | {MANIFEST: None}, "no manifest.json"),
    "a manifest that is no JSON": (lambda files: files | {MANIFEST: b"{"}, "not as Castline writes it"),
    "a manifest of a list": (lambda files: files | {MANIFEST: b"[]"}, "not as Castline writes it"),
    "a deep manifest": (lambda files: files | {MANIFEST: b"[" * 100_000}, "not as Castline writes it"),
    "a large manifest": (lambda files: files | {MANIFEST: b" " * 2**21}, "larger than it may be"),
    "a later format": (lambda files: replaced(files, b'"format": 1', b'"format": 2'), "format 2"),
    "a later program": (lambda files: with_manifest(rest(files), "2.0.0", castline="99.0.0"), "needs castline 99.0.0"),
    "a file too many": (lambda files: files | {"more.bin": b"1"}, "'more.bin': in the zip or in manifest.json"),
    "a file too few": (lambda files: files | {"head.bin": None}, "'head.bin': in the zip or in manifest.json"),
    "another file": (lambda files: files | {"head.bin": b"2"}, "head.bin: not the file that"),
    "a shorter file": (lambda files: files | {"head.bin": b""}, "head.bin: not the file that"),
    "a bomb": (lambda files: files | {"head.bin": bytes(5_000_000)}, "'head.bin': larger than it may be"),
    "another version": (lambda files: renamed(files, "../../x"), "the version"),
    "a version to break out": (lambda files: renamed(files, "2.0.0/.."), "the version"),
    "a name to break out": (lambda files: listing(files, "../x.bin"), "no name for a file"),
    "an absolute name": (lambda files: listing(files, "/tmp/x.bin"), "no name for a file"),
    "a name in a folder": (lambda files: listing(files, "a/x.bin"), "no name for a file"),
    "a hidden name": (lambda files: listing(files, ".tmp-x.bin"), "no name for a file"),
    "the manifest in itself": (lambda files: listing(files, MANIFEST), "no name for a file"),
    "too much to unpack": (
        lambda files: replaced(files, b'"bytes": 1,', b'"bytes": 268435455,'),
        "more than 256 MiB",
    ),
}  # fmt: skip


def rest(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name != MANIFEST}


def replaced(files: dict[str, bytes], old: bytes, new: bytes) -> dict[str, bytes]:
    """With something else in its manifest."""
    assert old in files[MANIFEST]
    return files | {MANIFEST: files[MANIFEST].replace(old, new)}


def renamed(files: dict[str, bytes], version: str) -> dict[str, bytes]:
    return replaced(files, b'"2.0.0"', json.dumps(version).encode())


def listing(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    """With a file of that name, in the zip and in the manifest."""
    entry = json.loads(files[MANIFEST])
    entry["files"][name] = entry["files"]["head.bin"]
    return {name: b"1"} | files | {MANIFEST: (json.dumps(entry, indent=2, sort_keys=True) + "\n").encode()}


def is_refused(shop: Shop, path: Path, reason: str) -> None:
    """It is refused for that reason, told once, and nothing is left of it."""
    before = sorted(shop.folder.parent.rglob("*"))
    outcome = shop.store.install(path)
    assert outcome.result == "refused" and reason in outcome.reason, outcome
    assert [event[:2] for event in shop.told()] == [("model-refused", "1.0.0")]
    assert shop.store.install(path) == outcome and shop.told() == []
    assert shop.store.current == "1.0.0" and "2.0.0" not in shop.tested
    assert set(before) | {shop.root / "state.json"} == set(shop.folder.parent.rglob("*"))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_zips_are_refused(shop: Shop, name: str) -> None:
    shop.install("1.0.0")
    shop.told()
    change, reason = HOSTILE[name]
    path = shop.folder / "hostile.zip"
    made = change(contents_of(shop.zip("2.0.0")))
    if isinstance(made, bytes):
        path.write_bytes(made)
    else:
        write_zip(path, {key: data for key, data in made.items() if data is not None})
    is_refused(shop, path, reason)


@pytest.mark.parametrize("kind", ["twice", "link", "lzma", "encrypted"])
def test_odd_members_are_refused(shop: Shop, kind: str) -> None:
    shop.install("1.0.0")
    shop.told()
    path = shop.folder / "hostile.zip"
    contents = contents_of(shop.zip("2.0.0"))
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, data in contents.items():
            info = zipfile.ZipInfo(name)
            if name == "head.bin":
                info.external_attr = (stat.S_IFLNK if kind == "link" else stat.S_IFREG) << 16
                info.compress_type = zipfile.ZIP_LZMA if kind == "lzma" else zipfile.ZIP_STORED
                if kind == "twice":
                    archive.writestr(info, data)
            archive.writestr(info, data)
            if name == "head.bin" and kind == "encrypted":
                info.flag_bits |= 1
    is_refused(shop, path, "not once in both" if kind == "twice" else "not a plain file")


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_a_damaged_zip_is_refused_or_is_the_release(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        shop = Shop(Path(name))
        path = shop.zip("2.0.0", large=b"0123456789" * 50)
        whole, files = bytearray(path.read_bytes()), contents_of(path)
        if data.draw(st.booleans()):
            del whole[data.draw(st.integers(0, len(whole) - 1)) :]
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(whole)))
            whole[at : at + 1] = data.draw(st.sampled_from([b"\x00", b"\xff", b"PK", b"1"]))
        path.write_bytes(whole)
        if shop.store.install(path).result == "installed":
            folder = shop.store.started().folder
            assert {file.name: file.read_bytes() for file in folder.iterdir()} == files
        else:
            assert [event.event for event in shop.events] == ["model-refused"]
            assert shop.store.current is None and not list((shop.root / "releases").iterdir())


@pytest.mark.parametrize(
    ("taken", "reason"),
    [
        ("model.tflite", "not the file that bundle.json speaks of"),
        ("head.safetensors", "not the file that bundle.json speaks of"),
        ("bundle.json", "not the file that bundle.json speaks of"),
        ("golden.json", "expected"),
        ("labels", "bundle.json lists other people"),
    ],
)
def test_releases_mixed_of_two_are_refused(old: Path, new: Path, tmp_path: Path, taken: str, reason: str) -> None:
    """Each with a manifest that is true of it: no damage, but the mistake of whoever packed it."""
    one, two = contents_of(old), contents_of(new)
    if taken == "labels":  # the model of one release with the names of the people of another
        bundle = json.loads(two["bundle.json"]) | {"people": json.loads(one["bundle.json"])["people"]}
        changes = {"bundle.json": json.dumps(bundle).encode()}
    else:
        changes = {taken: one[taken]}
    store = Store(tmp_path / "store", test=self_test)
    store.install(old)
    outcome = store.install(rezip(new, tmp_path / "mixed.zip", changes))
    assert outcome.result == "refused" and reason in outcome.reason, outcome
    assert store.current == "1.0.0"


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

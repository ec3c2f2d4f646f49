"""What a store refuses: zips that are hostile, odd, damaged, or mixed of two."""

import json
import stat
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_releases import contents_of, rezip, with_manifest, write_zip
from edge_shop import Shop
from hypothesis import given, settings
from hypothesis import strategies as st

from castline.edge.golden import self_test
from castline.edge.manifest import MANIFEST
from castline.edge.store import Store

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

"""A release: one zip with what a device needs and nothing else, the same bytes for the same bundle."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from edge_releases import contents_of

from castline.edge.manifest import MANIFEST, Manifest, numbers_of
from castline.edge.package import pack_release
from castline.errors import BundleError, ReleaseError
from castline.runtime import Recognizer


def test_the_same_bundle_gives_the_same_bytes(bundle: Path, old: Path, tmp_path: Path) -> None:
    again = pack_release(bundle, tmp_path, "float32", "1.0.0")
    assert again.name == "recognizer-1.0.0.zip" and again.read_bytes() == old.read_bytes()


def test_what_is_in_it(old: Path) -> None:
    contents = contents_of(old)
    assert list(contents) == [
        MANIFEST, "bundle.json", "detector.tflite", "golden.jpg", "golden.json", "head.safetensors", "model.tflite",
    ]  # fmt: skip
    manifest = Manifest.parse(contents[MANIFEST])
    assert (manifest.version, manifest.model) == ("1.0.0", "float32")
    assert manifest.files.keys() == contents.keys() - {MANIFEST}
    assert all(file.bytes == len(contents[name]) for name, file in manifest.files.items())
    with zipfile.ZipFile(old) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_unpacked_it_names_people_as_the_bundle_does(bundle: Path, old: Path, sample: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(old) as archive:
        archive.extractall(tmp_path)
    scene = sample / "scenes" / "scene_01.jpg"
    ours, theirs = (Recognizer(folder).identify(scene) for folder in (tmp_path, bundle))
    assert len(ours) == 2
    for one, other in zip(ours, theirs, strict=True):
        assert one.name.shown == other.name.shown and np.array_equal(one.name.scores, other.name.scores)


def test_what_stays_at_home(bundle: Path, tmp_path: Path) -> None:
    """Of where a bundle comes from, no more than a licence asks for."""
    source = tmp_path / "bundle"
    source.mkdir()
    for file in bundle.iterdir():
        (source / file.name).symlink_to(file)
    values = json.loads((source / "bundle.json").read_text())
    base = {"name": "dlib", "licence": "CC0-1.0", "file": "/home/anna/weights.pt"}
    values["provenance"] = {"base_model": base, "params": {"data": ["/secret"]}, "git_commit": "abc"}
    (source / "bundle.json").unlink()
    (source / "bundle.json").write_text(json.dumps(values))
    (source / "memory.parquet").write_bytes(b"faces")
    contents = contents_of(pack_release(source, tmp_path, "float32", "1.0.0"))
    kept = {"base_model": {"name": "dlib", "licence": "CC0-1.0"}, "git_commit": "abc"}
    assert json.loads(contents["bundle.json"])["provenance"] == kept and "memory.parquet" not in contents


def test_what_cannot_be_packed(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no float16 file for devices\n  next: it has: float32"):
        pack_release(bundle, tmp_path, "float16", "1.0.0")
    for version in ("1.0", "v1.0.0", "1.0.0-rc1", "01.0.0", "1.0.0+A", "1.0.0\n", "../1.0.0"):
        with pytest.raises(ReleaseError, match="is not one"):
            pack_release(bundle, tmp_path, "float32", version)
    assert list(tmp_path.iterdir()) == []


def test_versions_are_compared_as_numbers() -> None:
    assert numbers_of("0.9.12") < numbers_of("0.10.0") == numbers_of("0.10.0.dev3")
    with pytest.raises(ReleaseError):
        numbers_of("x")

"""Names for the rows of a faces table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sample_faces import sample_chips
from sample_recognizer import sample_recognizer

from castline.errors import BundleError, DataError
from castline.files.bundle import Bundle, write_bundle
from castline.label_studio import naming
from castline.label_studio.naming import model_version, names, raw_embeddings


def test_each_face_is_named(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "Recognizer", lambda bundle, threads: sample_recognizer(sample))
    chips, labels = sample_chips(sample, 5)
    found = names(pa.table({"chip": pa.array(chips, pa.binary())}), Path("models/recognizer"))
    right = [name.shown == label for name, label in zip(found, labels, strict=True)]
    assert np.mean(right) > 0.8
    assert all(name.scores.shape == (len(set(labels)),) for name in found)


def test_no_face_no_name(sample: Path) -> None:
    assert raw_embeddings(pa.table({"chip": pa.array([], pa.binary())}), sample_recognizer(sample)).shape == (0, 0)


def test_what_cannot_be_named(sample: Path, tmp_path: Path) -> None:
    faces = pa.table({"chip": pa.array([b"<html>"], pa.binary())})
    with pytest.raises(DataError, match="a chip cannot be decoded"):
        raw_embeddings(faces, sample_recognizer(sample))
    with pytest.raises(BundleError, match="no bundle here"):
        names(faces, tmp_path)


def test_another_bundle_is_another_version(tmp_path: Path) -> None:
    bundle = Bundle(("anna",), 8, "head", {}, "", {}, {})
    write_bundle(bundle, tmp_path)
    version = model_version(tmp_path)
    assert version == model_version(tmp_path)
    write_bundle(replace(bundle, head_sha256="0"), tmp_path)
    assert model_version(tmp_path) != version
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(BundleError, match="format"):
        model_version(tmp_path)

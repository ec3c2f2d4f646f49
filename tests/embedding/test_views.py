"""Views: several pictures of each face in the feature tables, for training alone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from finetune_run import LIGHT, SMALL
from sample_faces import sample_chips

from castline.embedding import base_models
from castline.embedding.feature_tables import check_made_by, write_features
from castline.embedding.onnx import export_base
from castline.errors import DataError
from castline.files import tables
from castline.training.examples import read_examples

THREE = replace(LIGHT, views=3)
KEY = ["batch", "photo", "face"]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """Base model, faces of two people; of the dataset, one to test on, one left out, the rest to learn from."""
    folder = tmp_path_factory.mktemp("build")
    model = base_models.build(SMALL, "scratch", seed=0)
    base_models.save(model, SMALL, folder / "base")
    export_base(model, SMALL.input_size, folder / "base")
    chips, names = sample_chips(sample, each=4)
    rows = [
        {"batch": "one", "photo": f"{name}/{i}.jpg", "face": 0, "person": name, "chip": chip}
        for i, (chip, name) in enumerate(zip(chips[:8], names[:8], strict=True))
    ]
    tables.write(folder / "faces" / "one.parquet", tables.FACES, rows)
    dataset = [
        {**{key: row[key] for key in (*KEY, "person")}, "stranger": False, "kept": i != 3}
        | {"split": None if i == 3 else "test" if i == 5 else "train"}
        for i, row in enumerate(rows)
    ]
    tables.write(folder / "dataset.parquet", tables.DATASET, dataset)
    return folder


@pytest.fixture(scope="module")
def plain(build: Path) -> pa.Table:
    path = build / "plain.parquet"
    assert write_features(path, build / "base", build / "faces" / "one.parquet").startswith("computed")
    return tables.read(path)


@pytest.fixture
def features(build: Path) -> Iterator[Path]:
    path = build / "features" / "one.parquet"
    yield path
    path.unlink(missing_ok=True)


def test_views_follow_each_face_and_the_plain_one_is_first(build: Path, plain: pa.Table, features: Path) -> None:
    assert plain.column("view").to_pylist() == [0] * 8
    faces = build / "faces" / "one.parquet"
    how = write_features(features, build / "base", faces, augmentation=THREE)
    assert how == "computed by small, 3 views of each face"
    table = tables.read(features)
    assert table.column("view").to_pylist() == [0, 1, 2] * 8
    tables.check_same_rows(table.filter(table.column("view").to_numpy() == 0), tables.read(faces, KEY))
    rows = tables.matrix(table, "feature").reshape(8, 3, 96)
    assert np.array_equal(rows[:, 0], tables.matrix(plain, "feature"))
    assert (np.abs(rows[:, 1:] - rows[:, :1]).max((1, 2)) > 0).all()
    assert (np.abs(rows[:, 1] - rows[:, 2]).max(1) > 0).all()

    before = features.read_bytes()
    how = write_features(features, build / "base", faces, build / "plain.parquet", THREE)
    assert how == "taken over and completed by small, 3 views of each face"
    assert features.read_bytes() == before


def test_one_view_is_taken_over_whole(build: Path, plain: pa.Table, features: Path) -> None:
    known = build / "plain.parquet"
    assert write_features(features, build / "base", build / "faces" / "one.parquet", known) == "taken over"
    assert features.read_bytes() == known.read_bytes()


def test_a_faces_views_are_its_own(build: Path, plain: pa.Table, features: Path) -> None:
    """Other faces beside it, and their order, change none of them."""
    faces = tables.read(build / "faces" / "one.parquet", [*KEY, "chip"])
    write_features(features, build / "base", build / "faces" / "one.parquet", augmentation=THREE)
    whole = tables.matrix(tables.read(features), "feature").reshape(8, 3, 96)
    tables.write(build / "some.parquet", tables.FACES, faces.take([6, 1]).to_pylist())
    write_features(features, build / "base", build / "some.parquet", augmentation=THREE)
    assert np.array_equal(tables.matrix(tables.read(features), "feature").reshape(2, 3, 96), whole[[6, 1]])


def test_only_training_sees_them(build: Path, plain: pa.Table, features: Path) -> None:
    write_features(features, build / "base", build / "faces" / "one.parquet", augmentation=THREE)
    examples = read_examples(build / "dataset.parquet", [features])
    own = tables.matrix(plain, "feature")
    assert np.array_equal(examples.features, own)
    test, train, few = examples.part("test"), examples.part("train"), examples.part("train", plain=True)
    assert test.rows.tolist() == [5] and np.array_equal(test.features, own[[5]])
    assert few.rows.tolist() == [0, 1, 2, 4, 6, 7] and np.array_equal(few.features, own[few.rows])
    assert train.rows.tolist() == few.rows.repeat(3).tolist() and train.people.tolist() == few.people.repeat(3).tolist()
    assert np.array_equal(train.features[::3], few.features) and len(examples.part("val")) == 0

    write_features(features, build / "base", build / "faces" / "one.parquet")
    once = read_examples(build / "dataset.parquet", [features])
    assert once.views is None and np.array_equal(once.part("train").features, few.features)


def test_batches_with_different_numbers_of_views_are_refused(build: Path, plain: pa.Table, features: Path) -> None:
    write_features(features, build / "base", build / "faces" / "one.parquet", augmentation=THREE)
    table = tables.read(features)
    tables.write(features, table.schema, table.slice(0, 23).to_pylist())
    with pytest.raises(DataError, match="different numbers of views"):
        read_examples(build / "dataset.parquet", [features])


def test_features_of_another_network_are_refused(build: Path, plain: pa.Table, features: Path) -> None:
    write_features(features, build / "base", build / "faces" / "one.parquet")
    check_made_by(build / "base", [features])
    tables.write(features, plain.schema, plain, {"base": "another"})
    with pytest.raises(DataError, match=r"features/one\.parquet has the features of another network than .*base"):
        check_made_by(build / "base", [features])

"""Whom a model knows, and what they look like: from its memory and the tables of faces, where those are."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from face_tables import faces_of, sha_of, write_batch
from PIL import Image

from castline.app import gallery
from castline.app.models import WORKSPACE, Model, open_model
from castline.files import tables
from castline.forgetting.register import Register, Spot, read_register

PHOTOS = 6  # of each person: four to train on, one to stop by, one to test on
SIDES = ("train", "train", "train", "train", "val", "test")


@pytest.fixture
def project(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A working folder with the tables that the model of four people could be made from; chips are of one colour."""
    monkeypatch.chdir(tmp_path)
    model = open_model(WORKSPACE, model_folder)
    people = model.cast.people
    photos = [f"{person}/{i}.jpg" for person in people for i in range(PHOTOS)]
    write_batch(
        Path("build"),
        "first",
        photos,
        faces_of([i // PHOTOS for i in range(len(photos))]),
        chip=[chip_of(40 * (i % PHOTOS)) for i in range(len(photos))],
        eye_distance=[50.0 + i % PHOTOS for i in range(len(photos))],
    )
    write_dataset(people)
    return model


def chip_of(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (256, 256), (grey, grey, grey)).save(file, "JPEG")
    return file.getvalue()


def write_dataset(people: tuple[str, ...], change: Callable[[dict[str, object]], dict[str, object]] = dict) -> None:
    """A later photo of a person is more typical than an earlier one."""
    hashes = tables.read(Path("build/faces/first.parquet"), ["chip_hash"]).column("chip_hash").to_pylist()
    rows = [
        {
            "batch": "first", "photo": f"{person}/{i}.jpg", "face": 0, "photo_sha256": sha_of(f"{person}/{i}.jpg"),
            "chip_hash": hashes[p * PHOTOS + i], "person": person, "stranger": False, "group": f"{person}{i}",
            "split": SIDES[i], "kept": True, "reason": "", "score": i / 10, "doubt": "", "random_split": None,
        }
        for p, person in enumerate(people)
        for i in range(PHOTOS)
    ]  # fmt: skip
    tables.write(Path("build/dataset.parquet"), tables.DATASET, [change(row) for row in rows])


def greys(pictures: list[bytes]) -> list[int]:
    found = []
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as image:
            assert (image.format, image.size) == ("JPEG", (96, 96))
            found.append(round(np.asarray(image).mean() / 40))
    return found


def test_exemplars_are_the_most_typical_faces(project: Model) -> None:
    anna, *_ = project.cast.people
    assert greys(gallery.exemplars(project, anna)) == [5, 4, 3]
    assert greys(gallery.exemplars(project, anna, 1)) == [5]
    assert gallery.exemplars(project, "nobody") == []


def test_near_duplicates_and_faces_that_were_left_out_are_not_shown(project: Model) -> None:
    anna, *_ = project.cast.people

    def change(row: dict[str, object]) -> dict[str, object]:
        number = str(row["photo"]).split("/")[1]
        if number == "5.jpg":
            return row | {"kept": False, "split": None, "reason": "too small: 9 pixels between the eyes"}
        return row | {"group": "burst"} if number in ("3.jpg", "4.jpg") else row

    write_dataset(project.cast.people, change)
    assert greys(gallery.exemplars(project, anna)) == [4, 2, 1]
    assert gallery.people_of(project)[0].left_out == {"too small": 1}


def test_a_face_that_was_found_anew_is_not_taken_for_the_one_that_was_trained_on(project: Model) -> None:
    anna, *_ = project.cast.people
    write_dataset(project.cast.people, lambda row: row | {"chip_hash": bytes(32)})
    assert gallery.exemplars(project, anna) == []
    assert gallery.people_of(project)[0].eye_distance is None


def test_counts_are_those_of_the_table(project: Model) -> None:
    people = gallery.people_of(project)
    assert [person.name for person in people] == list(project.cast.people)
    assert {person.trained for person in people} == {4}
    assert {person.eye_distance for person in people} == {52.5}
    assert {person.result for person in people} == {None}  # neither memory nor report
    write_report([(project.cast.people[0], project.cast.people[1]), (project.cast.people[0],) * 2])


def write_report(pairs: list[tuple[str, ...]]) -> None:
    lines = ["actual,predicted", *(",".join(pair) for pair in pairs)]
    Path("reports").mkdir(exist_ok=True)
    Path("reports/confusion.csv").write_text("\n".join(lines) + "\n")


def test_without_a_memory_results_are_the_reports(project: Model) -> None:
    anna, ben, *_ = project.cast.people
    write_report([(anna, anna), (anna, ben), (anna, ben), ("=nobody", anna)])
    result = gallery.people_of(project)[0].result
    assert result is not None
    assert (result.n, result.correct, result.confused_with, result.confused) == (3, 1, ben, 2)
    assert gallery.people_of(project)[0].named is None


def test_a_forgotten_person_is_not_shown_from_tables_that_are_older(project: Model) -> None:
    anna, ben, *_ = project.cast.people
    assert gallery.exemplars(project, anna)
    register = read_register()
    Register(frozenset({Spot(register.person(anna), "first")})).write()
    assert gallery.exemplars(project, anna) == []
    assert [person.name for person in gallery.people_of(project)] == list(project.cast.people)[1:]
    assert gallery.exemplars(project, ben)


def test_a_forgotten_face_in_somebody_elses_photo_is_not_shown(project: Model) -> None:
    anna, *_ = project.cast.people
    person = read_register().person("somebody else")
    Register(frozenset({Spot(person, "first", sha_of(f"{anna}/5.jpg"), 0)})).write()
    assert greys(gallery.exemplars(project, anna)) == [4, 3, 2]


def test_a_version_on_another_machine_has_neither_pictures_nor_counts(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = open_model("v1.0.0", model_folder)
    assert gallery.exemplars(model, model.cast.people[0]) == []
    assert gallery.people_of(model) == [gallery.Known(name) for name in model.cast.people]


def test_a_released_version_is_not_described_by_the_working_folder(project: Model) -> None:
    """Without a memory of its own nothing says that the dataset here is what it was made from."""
    released = open_model("v1.0.0", project.folder)
    write_report([(project.cast.people[0],) * 2])
    assert gallery.people_of(released) == [gallery.Known(name) for name in released.cast.people]
    assert gallery.exemplars(released, released.cast.people[0]) == []


def test_tables_that_cannot_be_read_show_nobody(project: Model) -> None:
    anna, *_ = project.cast.people
    Path("build/faces/first.parquet").write_bytes(b"no table")
    assert gallery.exemplars(project, anna) == []


def test_a_memory_says_how_each_person_fares_with_the_file_that_is_chosen(project: Model, tmp_path: Path) -> None:
    """The test face of the first person is like the second, and that of the last overdoes what is its own."""
    people, scorer = project.cast.people, project.cast.scorer
    assert scorer.gallery is not None
    raw = np.repeat(scorer.gallery, PHOTOS, axis=0)
    raw[PHOTOS - 1] = scorer.gallery[1]
    raw[-1] = scorer.mean + 1000 * (scorer.gallery[-1] - scorer.mean)
    dataset = tables.read(Path("build/dataset.parquet"))
    everywhere = np.ones(len(dataset), np.bool_)
    memory = dataset.append_column("feature", tables.sparse_column(np.zeros_like(raw), everywhere))
    memory = memory.append_column("float32", tables.sparse_column(raw, everywhere))
    released = copied(project, tmp_path / "recognizer", memory)
    by_name = {person.name: person for person in gallery.people_of(released)}
    first, second, last = by_name[people[0]], by_name[people[1]], by_name[people[-1]]
    assert first.result is not None and second.result is not None and last.result is not None
    assert (first.result.correct, first.result.n, first.result.confused_with) == (0, 1, people[1])
    assert (second.result.correct, second.named) == (1, 1)
    assert (last.result.correct, last.named) == (1, 0)
    assert gallery.exemplars(released, people[0])  # the photos of that version are here


def copied(model: Model, folder: Path, memory: pa.Table) -> Model:
    shutil.copytree(model.folder, folder)
    tables.write(folder / "memory.parquet", memory.schema, memory)
    return open_model("v1.0.0", folder)

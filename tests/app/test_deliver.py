"""What the app writes into the project: on request, whole or not at all, and as the pipeline reads it."""

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from face_tables import faces_of
from face_tables import write_batch as write_tables
from projects import ROOT, copy

from castline import project
from castline.app import deliver
from castline.app.deliver import Delivered, FaceLabel, tasks_of, write_batch
from castline.app.session import Upload
from castline.labels.gather import hear
from castline.labels.said import Said
from castline.labels.settings import LabelsSettings

BOX, OTHER = (10.0, 10.0, 40.0, 50.0), (60.0, 10.0, 90.0, 50.0)


def upload(name: str = "holiday.jpg", content: bytes = b"") -> Upload:
    return Upload.of(name, b"\xff\xd8\xff" + (content or name.encode("utf-8", "surrogatepass")))


def enrolled(person: str, count: int = 2) -> list[Delivered]:
    return [Delivered(upload(f"{number}.jpg", f"{person!r} {number}".encode()), person) for number in range(count)]


def corrected(*people: str | None, name: str = "holiday.jpg", said: str = "") -> Delivered:
    faces = tuple(FaceLabel(box, person, said) for box, person in zip((BOX, OTHER), people, strict=False))
    return Delivered(upload(name), faces=faces, width=100, height=80, version="castline-0123456789ab")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose only batch, `here`, has two people; what is needed to compose its settings, and no stage."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("conf", "labels", "hydra_plugins", "params.yaml", ".gitignore", ".dvcignore"):
        copy(ROOT / name, folder / name)
    for number, person in enumerate(("ann", "ann", "bob", "bob")):
        path = folder / "data" / "here" / person / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(upload(f"{person} {number}").data)
    (folder / "conf" / "data.yaml").write_text("data:\n  batches:\n  - here\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        project.compose()
    return folder


@pytest.fixture
def clone(made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Such a project."""
    shutil.copytree(made_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found_in(batch: str, uploads: dict[str, Upload], **changes: Any) -> None:
    """The tables of a batch whose photos show a face each, in BOX; by path below the batch."""
    count = len(uploads)
    write_tables(
        Path("build"),
        batch,
        list(uploads),
        faces_of([0] * count),
        **{
            "photo_sha256": [one.sha256 for one in uploads.values()],
            "photo_height": [80] * count,
            "box": [BOX] * count,
            **changes,
        },
    )


def files() -> dict[str, bytes]:
    """All that is in the project, as far as anybody but the app's own lock may read it."""
    return {
        str(path): path.read_bytes() if path.is_file() else os.fsencode(os.readlink(path))
        for path in Path().rglob("*")
        if (path.is_file() or path.is_symlink()) and path.parts[:1] != (".castline",)
    }


def batches() -> list[str]:
    conf = yaml.safe_load(Path("conf/data.yaml").read_text())["data"]["batches"]
    assert yaml.safe_load(Path("params.yaml").read_text())["data"]["batches"] == conf
    return list(conf)


def test_enrolled_pictures_lie_in_a_folder_of_the_person_under_their_content(clone: Path) -> None:
    given = enrolled("zoë", 2)
    folder = write_batch(given, "app-2026-11-22")
    assert folder == Path("deliveries/app-2026-11-22")
    assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")} == {
        f"zoë/{one.upload.sha256}.jpg": one.upload.data for one in given
    }
    assert batches() == ["here", "app-2026-11-22"]
    assert Path("data/app-2026-11-22").resolve() == folder.resolve()
    assert not Path("labels/batches").exists()
    subprocess.run(["git", "init", "-q"], check=True)
    ignored = subprocess.run(["git", "check-ignore", folder], capture_output=True, text=True)
    assert ignored.stdout.strip() == str(folder)


def test_corrected_faces_become_labels_that_are_heard(clone: Path) -> None:
    """Somebody, nobody of the cast, and a face that nobody was asked about: of that one nothing is said."""
    one, two = corrected("ann", "", said="bob"), corrected("carl", None, name="two.jpg")
    folder = write_batch([one, two], "app")
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{d.upload.sha256}.jpg" for d in (one, two))
    faces = [
        {
            "batch": "app",
            "photo": f"{d.upload.sha256}.jpg",
            "face": 1 - number,  # the detector's order is another
            "photo_sha256": d.upload.sha256,
            "photo_width": 100,
            "photo_height": 80,
            "box": box,
        }
        for d in (one, two)
        for number, box in enumerate((BOX, OTHER))
    ]
    heard = hear(["app"], faces, [], LabelsSettings())
    assert heard.said == {
        (one.upload.sha256, 1): Said("ann"),
        (one.upload.sha256, 0): Said(stranger=True),
        (two.upload.sha256, 1): Said("carl"),
        (two.upload.sha256, 0): Said(problem="boxed, but with no name to use"),
    }
    assert heard.problems == {"no name": 1}
    assert heard.first[two.upload.sha256].people == {"carl"}
    assert [set(photo.answers) for photo in heard.photos] == [{deliver.APP}] * 2


def test_a_task_says_who_when_and_what_the_model_had_said() -> None:
    moment = datetime(2026, 11, 22, 10, tzinfo=UTC)
    (task,) = tasks_of([corrected("ann", None, said="bob")], "app", moment)
    (answer,), (prediction,) = task["annotations"], task["predictions"]
    assert (answer["completed_by"], answer["created_at"]) == (0, "2026-11-22T10:00:00+00:00")
    assert [region["value"]["rectanglelabels"] for region in answer["result"]] == [["ann"], ["not_named_yet"]]
    assert prediction["model_version"] == "castline-0123456789ab"
    assert [region["value"]["rectanglelabels"] for region in prediction["result"]] == [["bob"]]
    assert task["data"]["people"] == [{"value": "ann"}]

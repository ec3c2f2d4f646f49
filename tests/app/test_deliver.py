"""What the app writes into the project: on request, whole or not at all, and as the pipeline reads it."""

import io
import json
import os
import resource
import runpy
import shutil
import signal
import subprocess
import threading
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from face_tables import faces_of
from face_tables import write_batch as write_tables
from PIL import Image
from projects import ROOT, copy

from castline import project
from castline.app import deliver
from castline.app.deliver import Delivered, FaceLabel, next_commands, plan, tasks_of, write_batch
from castline.app.names import checked_name
from castline.app.session import Upload
from castline.app.undo import alone
from castline.curation.decisions import Decision, read_decisions
from castline.errors import ConfigError, DataError
from castline.files import tables
from castline.forgetting.labels import Theirs, edited
from castline.forgetting.register import Register, Spot
from castline.label_studio import pull
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
def composed(made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Such a project."""
    shutil.copytree(made_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def clone(composed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Such a project, in which composing is a double that writes the batches alone: Hydra takes its time."""

    def compose() -> None:
        params = Path("params.yaml")
        content = yaml.safe_load(params.read_text()) | yaml.safe_load(Path("conf/data.yaml").read_text())
        params.write_text(yaml.safe_dump(content))

    monkeypatch.setattr(project, "compose", compose)
    return composed


def files() -> dict[str, bytes]:
    """All that is in the project, as far as anybody but the app's own lock may read it."""
    return {
        str(path): path.read_bytes() if path.is_file() else bytes(path.readlink())
        for path in Path().rglob("*")
        if (path.is_file() or path.is_symlink()) and path.parts[:1] != (".castline",)
    }


def batches() -> list[str]:
    conf = yaml.safe_load(Path("conf/data.yaml").read_text())["data"]["batches"]
    assert yaml.safe_load(Path("params.yaml").read_text())["data"]["batches"] == conf
    return list(conf)


def test_enrolled_pictures_lie_in_a_folder_of_the_person_under_their_content(composed: Path) -> None:
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


def test_what_was_corrected_is_that_persons_or_a_strangers_in_the_dataset(composed: Path) -> None:
    """A picture from outside, by labels, and a photo that the project has, by a decision."""
    here = {
        path.relative_to("data/here").as_posix(): path.read_bytes() for path in sorted(Path("data/here").rglob("*.*"))
    }
    uploads = {name: Upload.of(name, data) for name, data in here.items()}
    whose = {"ann/0.jpg": 0, "ann/1.jpg": 0, "bob/2.jpg": 1, "bob/3.jpg": 1}
    tabulated("here", [(name, 0, uploads[name], BOX, whose[name]) for name in here])
    mine, theirs = corrected("bob", "", said="ann"), uploads["ann/1.jpg"]
    write_batch([mine, Delivered(theirs, faces=(FaceLabel(BOX, "bob"),), width=100, height=80)], "app")
    photo = f"{mine.upload.sha256}.jpg"
    tabulated("app", [(photo, 0, mine.upload, BOX, 1), (photo, 1, mine.upload, OTHER, 2)])
    conf = Path("conf/curation.yaml")
    conf.write_text(conf.read_text().replace("min_faces: 2", "min_faces: 1"))
    project.compose()
    tables.write(Path("build/seen.parquet"), tables.SEEN, [])
    Path("reports").mkdir()
    runpy.run_path(str(ROOT / "stages" / "dataset.py"))["main"]()
    rows = tables.read(Path("build/dataset.parquet")).to_pylist()
    found = {(row["photo"], row["face"]): (row["person"], row["stranger"], row["kept"]) for row in rows}
    assert found[photo, 0] == ("bob", False, True)
    assert found[photo, 1] == (f"{photo}, face 1", True, True)
    assert found["ann/1.jpg", 0] == ("bob", False, True)
    assert found["ann/0.jpg", 0] == ("ann", False, True)


def tabulated(batch: str, faces: list[tuple[str, int, Upload, tuple[float, ...], int]]) -> None:
    """The tables of a batch: photo, number, file, box and whose face; good enough to learn from, no two alike."""
    rng = np.random.default_rng(list(batch.encode()))
    chips = []
    for _ in faces:
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(stream, "JPEG")
        chips.append(stream.getvalue())
    write_tables(
        Path("build"),
        batch,
        [photo for photo, *_ in faces],
        faces_of([who for *_, who in faces], seed=len(faces)),
        face=[number for _, number, *_ in faces],
        photo_sha256=[one.sha256 for _, _, one, *_ in faces],
        photo_height=[80] * len(faces),
        box=[box for *_, box, _ in faces],
        landmarks=[[20, 20, 35, 20, 28, 30, 22, 40, 33, 40]] * len(faces),
        chip=chips,
        chip_hash=[rng.bytes(32) for _ in faces],
    )
    tables.write(Path(f"build/faces/{batch}.rejects.parquet"), tables.REJECTS, [])


def in_project(*boxes: tuple[float, ...], name: str = "holiday.jpg", photo: str = "pile/1.jpg") -> Upload:
    """A photo that the last run has found faces in."""
    one = upload(name)
    tabulated("here", [(photo, number, one, box, 0) for number, box in enumerate(boxes)])
    return one


def test_a_photo_of_the_project_is_not_copied_and_its_faces_are_known_by_their_boxes(clone: Path) -> None:
    """The app counts faces from the left, tables by the detector's score."""
    one = in_project(OTHER, BOX)
    assert write_batch([corrected("bob", "")], "app") == Path("labels/review.json")
    assert read_decisions(Path("labels/review.json")) == {
        (one.sha256, 1): Decision("it is", "bob"),
        (one.sha256, 0): Decision("leave out"),
    }
    assert not Path("deliveries").exists()
    assert batches() == ["here"]
    assert next_commands(Path("labels/review.json"))[1].startswith("git add labels && ")


def test_a_face_that_the_project_has_not_found_is_said(clone: Path) -> None:
    in_project(OTHER)
    with pytest.raises(DataError, match="no face was found there"):
        write_batch([corrected("bob")], "app")


@pytest.mark.parametrize(
    ("photo", "person", "decided"), [("ann/1.jpg", "ann", 0), ("bob/1.jpg", "ann", 1), ("1.jpg", "ann", 1)]
)
def test_a_whole_photo_of_the_project_is_a_decision_unless_its_folder_says_the_same(
    clone: Path, photo: str, person: str, decided: int
) -> None:
    one = in_project(BOX, photo=photo)
    planned = plan([Delivered(one, person)])
    assert (len(planned.decisions), planned.settled, planned.pictures) == (decided, 1 - decided, ())
    if not decided:
        with pytest.raises(DataError, match="has all of these photos already"):
            write_batch([Delivered(one, person)], "app")


def test_a_whole_photo_with_several_faces_is_not_guessed_at(clone: Path) -> None:
    one = in_project(BOX, OTHER)
    with pytest.raises(DataError, match="2 faces were found in it"):
        plan([Delivered(one, "ann")])


def test_decisions_join_those_that_are_there(clone: Path) -> None:
    one = in_project(BOX, OTHER)
    review = Path("labels/review.json")
    others = [{"sha256": "a" * 64, "face": 0, "decision": "keep", "note": "sure"}]
    empty = {"photo": "here/1.jpg", "sha256": one.sha256.upper(), "face": 0, "decision": "", "person": "", "why": "?"}
    review.write_text(json.dumps({"decisions": [*others, empty], "by": "me"}))
    write_batch([corrected("bob", "ann")], "app")
    content = json.loads(review.read_text())
    assert content["by"] == "me"
    assert content["decisions"] == [
        *others,
        {**empty, "decision": "it is", "person": "bob"},
        {"sha256": one.sha256, "face": 1, "decision": "it is", "person": "ann"},
    ]
    before = files()
    write_batch([corrected("bob", "ann")], "app")  # the same again says nothing new
    assert files() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"decisions": [{"sha256": "SHA", "face": 0, "decision": "keep"}]}', "says otherwise of face 0"),
        ('{"decisions": [{"sha256": "SHA", "face": 0, "decision": "it is", "person": "eve"}]}', "it is eve"),
        ("[]", "export of Label Studio and is left as it is"),
        ("{", "not readable as JSON"),
    ],
)
def test_a_file_of_decisions_that_does_not_agree_is_left_as_it_is(clone: Path, content: str, message: str) -> None:
    """Nothing is written then, not even what could be."""
    one = in_project(BOX)
    Path("labels/review.json").write_text(content.replace("SHA", one.sha256))
    before = files()
    with pytest.raises(DataError, match=message):
        write_batch([corrected("bob"), corrected("ann", name="new.jpg")], "app")
    assert files() == before


def test_a_picture_that_waits_for_the_next_run_is_not_written_again(clone: Path) -> None:
    write_batch([corrected("ann", "bob")], "app")
    with pytest.raises(DataError, match=r"into the batch app, whose faces.*\n.*dvc repro"):
        write_batch([corrected("bob", "ann")], "app")


def test_who_was_forgotten_does_not_come_back(clone: Path) -> None:
    register = Register()
    person = register.person("eve")
    photo = upload("eve.jpg").sha256
    Register(frozenset({Spot(person, "here", photo)})).write()
    before = files()
    for given in (
        [corrected("ann", "eve")],
        enrolled(unicodedata.normalize("NFD", " eve ")),
        [corrected("ann", name="eve.jpg")],
    ):
        with pytest.raises(DataError, match="asked to be forgotten"):
            write_batch(given, "app")
    assert files() == before


def test_who_asks_to_be_forgotten_goes_from_what_the_model_had_said_too(clone: Path) -> None:
    write_batch([corrected("ann", said="bob"), corrected("bob", name="two.jpg")], "app")
    after = edited(Path("labels/batches/app.json"), Theirs("bob"))
    assert "bob" not in after.text
    assert "ann" in after.text


def test_a_name_that_is_taken_gets_a_number(clone: Path) -> None:
    Path("labels/batches").mkdir()
    Path("labels/batches/app.json").write_text("[]")
    assert write_batch(enrolled("carl"), "app") == Path("deliveries/app-2")
    assert write_batch(enrolled("dora"), "app") == Path("deliveries/app-3")
    assert Path("labels/batches/app.json").read_text() == "[]"
    assert next_commands(Path("deliveries/app-3")) == [
        "dvc repro",
        'git add conf labels data/app-3 && git commit -a -m "Batch app-3 from the app"',
    ]  # data/here holds photos, which git has not been given


def test_a_batch_is_called_as_batches_can_be(clone: Path) -> None:
    before = files()
    for batch in ("", "../up", "labels", "-rf", "a b", "x" * 65, "a\n"):
        with pytest.raises(ConfigError, match="cannot be the name of a batch"):
            write_batch(enrolled("carl"), batch)
    assert files() == before


HOSTILE = [
    "", "  ", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", ".ssh", "_strangers", "a\x00b", "a\nb", "a\u202egpj.exe",
    "\ud800", "x" * 300, "語" * 90, "unknown_person", "not_named_yet", "Unknown",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_could_be_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a person"):
        checked_name(name)


def test_with_such_a_name_nothing_is_written(clone: Path) -> None:
    before = files()
    for name in filter(None, HOSTILE):
        for given in ([corrected("ann", name)], [Delivered(upload(), name)]):
            with pytest.raises(ConfigError, match="cannot be the name of a person"):
                write_batch(given, "app")
    assert files() == before


def test_odd_names_are_names(clone: Path) -> None:
    """As text, in one Unicode form; what a file was called is kept nowhere."""
    odd = ["CON", "=cmd()", "O'Neil; rm -rf ~", "-rf", "zoe\u0308", "a<b>&amp;*", "سلام", "🙂"]
    given = [
        Delivered(Upload.of(f"../../{i}/{name}\n.exe", upload(f"{name} {i}").data), name)
        for name in odd
        for i in range(2)
    ]
    labels = corrected(*odd[:2], name="x")
    folder = write_batch([*given, labels], "app")
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {*odd[:4], "zoë", *odd[5:]}
    assert all(path.stem in {one.upload.sha256 for one in [*given, labels]} for path in folder.rglob("*.*"))
    assert all("exe" not in path.name for path in Path().rglob("*") if path.is_file())
    (task,) = json.loads(Path("labels/batches/app.json").read_text())
    said = [region["value"]["rectanglelabels"][0] for region in task["annotations"][0]["result"]]
    assert said == ["CON", "=cmd()"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "jpg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        (b"GIF89a", "gif"), (b"BM....", "bmp"), (b"II*\0", "tif"), (b"MM\0*", "tif"), (b"\0\0\0\x20ftypavif", "avif"),
    ],
)  # fmt: skip
def test_a_file_is_called_by_what_it_is(content: bytes, kind: str) -> None:
    (task,) = tasks_of(
        [Delivered(Upload.of("x.exe", content), faces=(FaceLabel(BOX, "ann"),), width=9, height=9)], "app"
    )
    assert task["data"]["photo"].endswith(f".{kind}")


def test_what_is_no_picture_is_refused(clone: Path) -> None:
    for content in (b"", b"<html>", b"MZ", b"RIFF\0\0\0\0WAVE", b"%PDF-1.7"):
        with pytest.raises(DataError, match="not a picture"):
            write_batch([Delivered(Upload.of("photo.jpg", content), "carl")], "app")


def test_what_does_not_fit_together_is_refused(clone: Path) -> None:
    for given, message in (
        ([], "nothing to write"),
        ([Delivered(upload())], "either the whole picture"),
        ([Delivered(upload(), "ann", (FaceLabel(BOX, "bob"),), 100, 80)], "either the whole picture"),
        ([Delivered(upload(), faces=(FaceLabel(BOX, "bob"),))], "either the whole picture"),
        ([Delivered(upload(), "ann"), Delivered(upload(), "bob")], "is there twice"),
    ):
        with pytest.raises(DataError, match=message):
            write_batch(given, "app")


def test_one_photo_of_somebody_new_is_too_few(clone: Path) -> None:
    before = files()
    with pytest.raises(DataError, match="one photo only of 'carl'"):
        write_batch(enrolled("carl", 1), "app")
    assert files() == before
    assert plan(enrolled("ann", 1)).pictures  # of somebody with more elsewhere it is enough
    write_batch(enrolled("ann", 1), "app")


def sampled() -> None:
    """The project as a fresh clone has it: data/ is a copy of the sample, and DVC's."""
    shutil.copytree("data/here", "sample/photos/here")
    Path("data.dvc").write_text("outs: []\n")
    ignore = Path(".gitignore")
    assert "/data" in ignore.read_text().split()


def test_the_sample_gives_way_as_it_does_to_any_batch(clone: Path) -> None:
    sampled()
    folder = write_batch(enrolled("carl"), "app")
    assert not Path("data.dvc").exists()
    assert Path("data/here").is_symlink()
    assert next_commands(folder)[1].startswith("git add conf labels data && ")


def fail(*_: object, **__: object) -> None:
    raise ConfigError("conf/ cannot be composed")


def test_when_registering_fails_nothing_was_written(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled()
    before = files()
    monkeypatch.setattr(project, "compose", fail)
    with pytest.raises(ConfigError, match="cannot be composed"):
        write_batch([*enrolled("carl"), corrected("ann")], "app")
    assert files() == before


def test_a_folder_that_cannot_be_written_is_said(clone: Path) -> None:
    Path("deliveries").write_text("in the way")
    before = files()
    with pytest.raises(DataError, match=r"deliveries.*nothing was written"):
        write_batch(enrolled("carl"), "app")
    assert files() == before


def test_a_disk_that_is_full_is_said(clone: Path) -> None:
    """As the system says it, of files that grow beyond what is allowed."""
    before = files()
    given = [*enrolled("carl"), Delivered(upload("big.jpg", b"\0" * 3_000_000), "carl")]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        with pytest.raises(DataError, match="nothing was written"):
            write_batch(given, "app")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files() == before


def test_two_visitors_write_one_after_the_other(composed: Path) -> None:
    written: list[Path] = []
    visitors = [
        threading.Thread(target=lambda who=who: written.append(write_batch(enrolled(who), "app")))
        for who in ("carl", "dora")
    ]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert sorted(map(str, written)) == ["deliveries/app", "deliveries/app-2"]
    assert batches() == ["here", "app", "app-2"]
    assert sorted(path.parent.name for path in Path("deliveries").rglob("*.jpg")) == ["carl", "carl", "dora", "dora"]


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("where", "what"),
    [(deliver, "_decide"), (Path, "write_bytes"), (pull, "write"), (project, "add_batch"), (project, "compose")],
)
def test_whoever_is_killed_in_the_middle_has_written_nothing(
    clone: Path, monkeypatch: pytest.MonkeyPatch, where: Any, what: str
) -> None:
    """The next to come puts back what was there."""
    sampled()
    tabulated("here", [("ann/0.jpg", 0, one := upload("ann 0"), BOX, 0)])
    known = Delivered(one, faces=(FaceLabel(BOX, "bob"),), width=100, height=80)
    before = files()
    child = os.fork()
    if not child:
        try:
            monkeypatch.setattr(where, what, die)
            write_batch([*enrolled("carl"), corrected("ann"), known], "app")
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    with alone():
        assert files() == before
    assert not list(Path(".castline/app").glob("before*"))


def test_a_file_for_a_project_elsewhere_is_heard_there(clone: Path) -> None:
    """By content, wherever the pictures lie and whatever they are called there."""
    one = corrected("ann", "")
    path = Path("labels/batches/pile.json")
    path.parent.mkdir()
    path.write_text(json.dumps(tasks_of([one], "app-2026-11-22")))
    row = {
        "batch": "pile",
        "photo": "IMG 1.JPG",
        "photo_sha256": one.upload.sha256,
        "photo_width": 100,
        "photo_height": 80,
    }
    heard = hear(["pile"], [{**row, "face": 0, "box": BOX}, {**row, "face": 1, "box": OTHER}], [], LabelsSettings())
    assert heard.said == {(one.upload.sha256, 0): Said("ann"), (one.upload.sha256, 1): Said(stranger=True)}


def test_outside_a_project_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for write in (lambda: plan(enrolled("ann")), lambda: write_batch(enrolled("ann"), "app")):  # type: Callable[[], object]
        with pytest.raises(ConfigError, match="no Castline project here"):
            write()
    assert files() == {}

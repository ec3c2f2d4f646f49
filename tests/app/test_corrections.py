"""What a visitor says of faces: kept, shown, undone, and written when asked."""

import io
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from castline.app.context import Context
from castline.app.corrections import as_json, batch_name, correct, deliveries, version_of
from castline.app.deliver import FaceLabel, Plan
from castline.app.limits import Limits
from castline.app.models import Model, open_model
from castline.app.pages import corrections as page
from castline.app.seen import Picture, SeenFace
from castline.app.session import Session, Upload
from castline.app.work import Workers
from castline.curation.decisions import Decision
from castline.errors import ConfigError, DataError
from castline.faces.quality import Quality
from castline.label_studio.naming import model_version
from castline.runtime import Name

BOXES = ((10.0, 10.0, 40.0, 50.0), (60.0, 10.0, 90.0, 50.0), (95.0, 1.0, 99.0, 9.0))
HOSTILE = "../<b>*x*</b>\u202egpj :red[!].jpg"


def picture(faces: int = 2, name: str = "holiday.jpg") -> tuple[Upload, Picture]:
    stream = io.BytesIO()
    Image.new("RGB", (128, 128), (90, 120, 150)).save(stream, "JPEG")
    upload = Upload.of(name, b"\xff\xd8\xff" + name.encode())
    seen = tuple(
        SeenFace(
            box,
            np.zeros((5, 2), np.float32),
            0.9,
            np.zeros(8, np.float32),
            Quality(60, 1, 120, 40, 0, 0),
            stream.getvalue(),
        )
        for box in BOXES[:faces]
    )
    return upload, Picture(upload.sha256, 100, 80, stream.getvalue(), seen, 0.1)


def name(nearest: str, known: bool = True) -> Name:
    return Name(known, nearest, 0.9, 0.8, np.zeros(1, np.float32), np.zeros(8, np.float32))


def model(*people: str) -> Model:
    return cast(
        Model, SimpleNamespace(cast=SimpleNamespace(people=people), key="0123456789abcdef-float32", name="workspace")
    )


def context(session: Session, chosen: Model | None = None) -> Context:
    return Context(chosen, Workers(Limits()), Limits(), session)


def waiting(*people: str, said: str = "bob", file: str = "holiday.jpg") -> Session:
    """A session in which faces of one picture were corrected."""
    session, (upload, seen) = Session(), picture(len(people), file)
    for face, person in enumerate(people):
        correct(session, upload, seen, face, person, model("ann", "bob"), name(said))
    return session


def test_of_a_face_the_last_word_counts() -> None:
    session, (upload, seen) = Session(), picture()
    correct(session, upload, seen, 1, " zoe\u0308 ", model(), name("bob"))
    correct(session, upload, seen, 1, "", model(), name("bob", known=False))
    (one,) = session.corrections.values()
    assert (one.face, one.box, one.person, one.said) == (1, BOXES[1], "", "")
    correct(session, upload, seen, 1, " zoe\u0308 ", model(), name("bob"))
    assert session.corrections[upload.sha256, 1].person == "zoë"
    with pytest.raises(ConfigError, match="cannot be the name"):
        correct(session, upload, seen, 1, "../x", model(), name("bob"))
    assert session.corrections[upload.sha256, 1].person == "zoë"


def test_a_model_is_called_as_label_studio_calls_it(model_folder: Path) -> None:
    assert version_of(open_model("workspace", model_folder)) == model_version(model_folder)


def test_a_picture_is_delivered_once_with_all_its_faces() -> None:
    session, (upload, seen), (other, alone) = Session(), picture(3), picture(1, "alone.jpg")
    correct(session, upload, seen, 2, "ann", model(), name("bob"))
    correct(session, other, alone, 0, "", model(), name("bob"))
    correct(session, upload, seen, 0, "", model(), name("ann"))
    one, two = deliveries(session.corrections.values())
    assert (one.upload, one.width, one.height, one.version) == (upload, 100, 80, "castline-0123456789ab")
    assert one.faces == (FaceLabel(BOXES[0], "", "ann"), FaceLabel(BOXES[1], None), FaceLabel(BOXES[2], "ann", "bob"))
    assert (two.upload, two.faces) == (other, (FaceLabel(BOXES[0], "", "bob"),))


def test_as_a_file_they_are_what_label_studio_exports() -> None:
    (task,) = json.loads(as_json(waiting("ann", "").corrections.values(), batch_name(date(2026, 11, 22))))
    assert task["data"]["photo"].startswith("app-2026-11-22/")
    assert [region["value"]["rectanglelabels"] for region in task["annotations"][0]["result"]] == [
        ["ann"],
        ["unknown_person"],
    ]


# Pages: a script that AppTest runs cannot close over anything, so what it is given lies here.
GIVEN: dict[str, Any] = {}


def run(script: Callable[[], None], **given: Any) -> AppTest:
    GIVEN.clear()
    GIVEN.update(given)
    return AppTest.from_function(script, default_timeout=30).run()


def asking() -> None:
    import test_corrections as here

    from castline.app.pages.parts import ask_about

    ask_about(here.GIVEN["context"], *here.GIVEN["picture"], here.GIVEN["index"], here.GIVEN["name"])


def showing() -> None:
    import test_corrections as here

    from castline.app.pages.corrections import show

    show(here.GIVEN["context"])


def ask(session: Session, who: Name, chosen: Model | None = None, index: int = 1) -> AppTest:
    return run(
        asking, context=context(session, chosen or model("ann", "bob")), picture=picture(), index=index, name=who
    )


def words(app: AppTest) -> str:
    return "\n".join(one.value for kind in ("markdown", "caption", "error", "success", "code") for one in app.get(kind))


def test_right_is_nothing_to_do() -> None:
    session = Session()
    app = ask(session, name("bob"))
    assert app.radio[0].value is None
    app.radio[0].set_value("Right").run()
    assert not app.exception
    assert "nothing is to be done" in words(app)
    assert not app.button
    assert not session.corrections


def test_a_face_is_said_to_be_somebody_else_and_that_is_undone() -> None:
    session = Session()
    app = ask(session, name("bob"))
    app.radio[0].set_value("Wrong: it is somebody else").run()
    assert app.selectbox[0].options == ["ann"]  # bob is what was said
    app.button[0].click().run()
    assert "Choose a person, or type a name" in words(app)
    assert not session.corrections
    app.selectbox[0].set_value("ann").run()
    app.button[0].click().run()
    assert not app.exception
    (one,) = session.corrections.values()
    assert (one.person, one.said, one.face, one.others) == ("ann", "bob", 1, (BOXES[0],))
    assert "Nothing is written yet: 1 correction waits on the page Corrections" in words(app)
    app.button[0].click().run()
    assert not session.corrections
    assert app.radio[0].value is None


def test_a_new_name_is_typed_and_checked() -> None:
    session = Session()
    app = ask(session, name("bob"))
    app.radio[0].set_value("Wrong: it is somebody else").run()
    app.text_input[0].set_value("../x").run()
    app.button[0].click().run()
    assert "cannot be the name of a person" in app.error[0].value
    assert not session.corrections
    app.text_input[0].set_value("*zoe\u0308*").run()
    app.button[0].click().run()
    assert [one.person for one in session.corrections.values()] == ["*zoë*"]
    assert "**\\*zoë\\***" in words(app)


def test_a_face_is_said_to_be_nobodys() -> None:
    session = Session()
    app = ask(session, name("bob"))
    app.radio[0].set_value("Nobody of the cast").run()
    app.button[0].click().run()
    assert [(one.person, one.said) for one in session.corrections.values()] == [("", "bob")]
    assert "nobody of the cast" in words(app)


def test_whom_the_model_does_not_know_can_be_anybody() -> None:
    """Also who was most like it; and "unknown" is right where it is nobody of the cast."""
    session = Session()
    app = ask(session, name("bob", known=False))
    assert app.radio[0].options == ["Right", "Wrong: it is somebody else"]
    assert "unknown" in app.radio[0].label
    app.radio[0].set_value("Wrong: it is somebody else").run()
    assert app.selectbox[0].options == ["ann", "bob"]


def test_without_a_model_nothing_is_asked() -> None:
    app = run(asking, context=context(Session()), picture=picture(), index=0, name=name("bob"))
    assert not app.radio
    assert not app.exception


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the page has written, in no project: a new batch of all but photos called known.jpg."""
    done: list[Any] = []

    def plan(given: list[Any]) -> Plan:
        new = [one for one in given if one.upload.name != "known.jpg"]
        old = [one for one in given if one.upload.name == "known.jpg"]
        return Plan(new, {(one.upload.sha256, i): Decision("leave out") for one in old for i in range(len(one.faces))})

    def write(given: list[Any], batch: str) -> Path:
        done.append((given, batch))
        return Path("deliveries", batch)

    monkeypatch.setattr(page.project, "check_in_project", lambda: None)
    monkeypatch.setattr(page, "plan", plan)
    monkeypatch.setattr(page, "write_batch", write)
    monkeypatch.setattr(page, "next_commands", lambda path: ["dvc repro", f"git add {path.name}"])
    return done


def test_when_nothing_waits_it_is_said_how_corrections_come_about(written: list[Any]) -> None:
    app = run(showing, context=context(Session()))
    assert "choose a face and say that its name is wrong" in words(app)
    assert not app.button


def test_all_that_waits_is_listed_written_and_gone(written: list[Any]) -> None:
    session = waiting("ann", "", file=HOSTILE)
    session.corrections |= waiting("ann", file="known.jpg").corrections
    app = run(showing, context=context(session))
    assert not app.exception
    text = words(app)
    assert "said bob → is **ann**" in text
    assert "said bob → is **nobody of the cast**" in text
    assert "<b>" not in text  # escaped, and the end of the line is where it was
    assert "\u202e" not in text
    assert "the picture as uploaded" in text
    assert "Decisions about one face in photos that the project has already" in text
    app.text_input[0].set_value("autumn").run()
    app.button[-1].click().run()
    assert not app.exception
    assert not session.corrections
    ((given, batch),) = written
    assert (len(given), batch) == (2, "autumn")
    text = words(app)
    assert "3 corrections written" in text
    assert "deliveries" in text
    assert app.code[0].value == "dvc repro\ngit add autumn"


def test_one_is_removed(written: list[Any]) -> None:
    session = waiting("ann", "")
    app = run(showing, context=context(session))
    assert [button.label for button in app.button] == ["Remove", "Remove", "Write 2 corrections"]
    app.button[0].click().run()
    assert [one.person for one in session.corrections.values()] == [""]
    assert app.button[-1].label == "Write 1 correction"


def test_what_could_not_be_written_stays(written: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Path:
        raise DataError("disk *full*", "make room")

    monkeypatch.setattr(page, "write_batch", fail)
    session = waiting("ann")
    app = run(showing, context=context(session))
    app.button[-1].click().run()
    assert not app.exception
    assert "disk \\*full\\*" in app.error[0].value
    assert "make room" in app.error[0].value
    assert len(session.corrections) == 1
    assert app.button[-1].label == "Write 1 correction"


def test_what_cannot_be_written_is_said_before_it_is_tried(written: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Plan:
        raise DataError("no face was found there")

    monkeypatch.setattr(page, "plan", fail)
    app = run(showing, context=context(waiting("ann")))
    assert "no face was found there" in app.error[0].value
    assert [button.label for button in app.button] == ["Remove"]


def test_without_a_project_there_is_a_file_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = run(showing, context=context(waiting("ann", "")))
    assert not app.exception
    assert "not started in a project" in words(app)
    assert [button.label for button in app.button] == ["Remove", "Remove"]
    assert app.get("download_button")[0].label == "Download as JSON"
    assert list(tmp_path.iterdir()) == []

"""The page of people, as a visitor sees it: real gallery and enrolling, and workers that see what the test says."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from castline.app.context import Context
from castline.app.enrol import Chosen, deliveries, doubts, try_out
from castline.app.gallery import Known, in_words, worries
from castline.app.limits import Limits
from castline.app.models import WORKSPACE, Model, open_model
from castline.app.pages import enrolling, forgetting, people
from castline.app.seen import Picture, SeenFace
from castline.app.session import Enrolled, Session, Upload
from castline.app.work import Job
from castline.curation.settings import CurationSettings
from castline.errors import ConfigError, DataError
from castline.evaluation.measures import PersonResult
from castline.faces.quality import Quality
from castline.forgetting.forget import Plan
from castline.forgetting.holders import Holder
from castline.forgetting.register import Register, Spot, read_register

GOOD = Quality(60.0, 2.0, 120.0, 40.0, 0.0, 0.0)
CLICK = "a*b :red[x] $y$ <b>"


class Workers:
    """A double: in a file whose content is the digits 0 to 9, each digit is a face; anything else is none."""

    def __init__(self, model: Model, waiting: bool = False) -> None:
        self.model, self.waiting = model, waiting

    def picture(self, data: bytes, model: Model, *, sha256: str = "", again: bool = False) -> Job:
        job = Job()
        if self.waiting:
            return job
        job.ended.set()
        if data.isdigit() or not data:
            job.state, job.result = "done", picture_of(model, [int(digit) for digit in data.decode()])
        else:
            job.state, job.error, job.again = "failed", "This file is not a picture.", True
        return job


def chip() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (128, 128)).save(file, "JPEG")
    return file.getvalue()


def raw_of(model: Model, number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Of a face: 0 to 3 are the model's own people, others are like nobody, and each like itself."""
    scorer = model.cast.scorer
    assert scorer.gallery is not None
    if number < len(scorer.people):
        return scorer.gallery[number]
    return (scorer.mean + 1000 * np.random.default_rng(number).normal(size=scorer.mean.size)).astype(np.float32)


def picture_of(model: Model, numbers: Sequence[int], quality: Quality = GOOD) -> Picture:
    faces = [
        SeenFace(
            (10.0 * i, 0.0, 10.0 * i + 8, 8.0), np.zeros((5, 2), np.float32), 1.0, raw_of(model, n), quality, chip()
        )
        for i, n in enumerate(numbers)
    ]
    return Picture("", 100, 80, chip(), tuple(faces), 0.1)


def chosen(model: Model, *numbers: int) -> list[Chosen]:
    return [Chosen(Upload.of("a.jpg", str(n).encode()), picture_of(model, [n]), 0) for n in numbers]


@pytest.fixture
def model(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """In a folder of its own, which is no project."""
    monkeypatch.chdir(tmp_path)
    return open_model(WORKSPACE, model_folder)


def page(context: Context, tab: str = "Known") -> AppTest:
    def script(context: "Context") -> None:  # its text is run elsewhere
        from castline.app.pages import people

        people.show(context)

    app = AppTest.from_function(script, kwargs={"context": context}, default_timeout=30)
    app.session_state["people-tab"] = tab
    return app.run()


def context_of(model: Model | None, workers: Any = None) -> Context:
    return Context(model, workers, Limits(), Session())


def words(app: AppTest) -> str:
    assert not app.exception, app.exception
    kinds = (app.markdown, app.header, app.info, app.warning, app.error, app.success, app.code)
    return "\n".join(str(one.value) for kind in kinds for one in kind)


def button(app: AppTest, label: str) -> Any:
    (found,) = [one for one in app.button if one.label == label]
    return found


def test_without_a_model_the_page_says_what_to_do(model: Model) -> None:
    assert "dvc repro" in words(page(context_of(None)))


def test_everybody_has_a_card_and_can_be_searched_for(model: Model) -> None:
    app = page(context_of(model))
    said = words(app)
    assert all(f"**{name}**" in said for name in model.cast.people)
    assert "no pictures of them here" in said and "4 people" in said
    name = model.cast.people[0]
    app.text_input[0].set_value(f" {name[:3].upper()}").run()
    assert f"**{name}**" in words(app) and "1 of 4 people" in words(app)
    app.text_input[0].set_value("nobody at all").run()
    assert "Nobody is called so" in words(app)


def test_a_hundred_people_are_shown_in_parts(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def result(right: int) -> PersonResult:
        return PersonResult("", 10, right, right / 10, (0.0, 1.0), 1.0, "", 0)

    everybody = [Known(f"p{i:02}{CLICK}", i + 1, result(i % 11), i % 11) for i in range(100)]
    monkeypatch.setattr(people, "people_of", lambda model: everybody)
    monkeypatch.setattr(people, "exemplars", lambda model, name: [])
    app = page(context_of(model))
    assert "100 people" in words(app)
    assert ("p23" in words(app), "p24" in words(app)) == (True, False)
    app.button_group[0].set_value(5).run()
    assert ("p96" in words(app), "p23" in words(app)) == (True, False)
    app.selectbox[0].set_value("Lowest accuracy").run()
    assert ("p11" in words(app), "p10" in words(app)) == (True, False)
    assert "a*b" not in words(app) and ":red[" not in words(app)


def test_a_forgotten_person_has_no_card(model: Model) -> None:
    name = model.cast.people[0]
    Register(frozenset({Spot(read_register().person(name), "first")})).write()
    said = words(page(context_of(model)))
    assert f"**{name}**" not in said and "asked to be forgotten" in said


def test_a_person_in_words() -> None:
    person = Known("anna", 3, PersonResult("anna", 10, 7, 0.7, (0, 1), 1.0, "ben", 2), 6, {"too small": 2}, 48.2)
    assert in_words(person) == [
        "3 faces trained on, 10 tested on.",
        "Of 10 test faces, 7 are named right. Most often taken for ben: 2. "
        "Of those named right, 1 would be called unknown.",
        "48 pixels between the eyes (median); left out: too small 2.",
    ]
    assert worries(person) == ["Few photos: more would help.", "Often named wrong."]
    assert in_words(Known("anna")) == worries(Known("anna")) == []


def test_who_is_tried_out_is_known_for_this_visit_and_can_be_removed(model: Model) -> None:
    context = context_of(model, Workers(model))
    app = page(context, "Enrol")
    app.text_input[0].set_value(f" {CLICK}").run()
    app.file_uploader[0].set_value([("1.jpg", b"5", "image/jpeg"), ("2.jpg", b"15", "image/jpeg")]).run()
    assert "Which of the 2 faces" in app.radio[0].label
    assert "One face" in words(app)
    app.radio[0].set_value(1).run()
    assert "2 faces, which look like one person" in words(app)
    assert button(app, "Write as a batch").disabled  # this is no project
    button(app, "Try out now").click().run()
    assert "is known for this visit" in words(app)
    (made,) = context.session.enrolled
    assert (made.name, made.key, made.raw.shape, len(made.chips)) == (CLICK, model.key, (2, 128), 2)

    app = page(context)
    assert "For this visit only" in words(app) and "a\\*b" in words(app)
    button(app, "Remove").click().run()
    assert context.session.enrolled == []


def test_a_picture_without_a_face_and_one_that_is_none_are_said_to_be_so(model: Model) -> None:
    app = page(context_of(model, Workers(model)), "Enrol")
    app.file_uploader[0].set_value([("1.jpg", b"", "image/jpeg"), (f"{CLICK}.jpg", b"x", "image/jpeg")]).run()
    said = words(app)
    assert "No face was found" in said and "not a picture" in said and "no face to go on with" in said
    assert "Try again" in [one.label for one in app.button]
    assert button(app, "Try out now").disabled


def test_while_pictures_are_looked_at_the_page_says_how_far_it_is(model: Model) -> None:
    app = page(context_of(model, Workers(model, waiting=True)), "Enrol")
    app.file_uploader[0].set_value([("1.jpg", b"5", "image/jpeg")]).run()
    assert not app.exception
    assert "Try out now" not in [one.label for one in app.button]


def test_pictures_are_written_on_request(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []

    def write(given: Any, batch: str) -> Path:
        written.append((given, batch))
        return Path("deliveries") / batch

    monkeypatch.setattr(enrolling, "write_batch", write)
    monkeypatch.setattr(enrolling, "next_commands", lambda path: ["dvc repro"])
    monkeypatch.setattr(enrolling, "_in_project", lambda: True)
    app = page(context_of(model, Workers(model)), "Enrol")
    app.text_input[0].set_value("nora").run()
    app.file_uploader[0].set_value([("1.jpg", b"5", "image/jpeg")]).run()
    assert not written
    app.text_input(key="people-batch").set_value("visit").run()
    button(app, "Write as a batch").click().run()
    (((given,), batch),) = written
    assert (given.person, given.faces, batch) == ("nora", (), "visit")
    assert "deliveries/visit" in words(app).replace("\\", "") and "dvc repro" in words(app)


def test_whom_the_model_knows_and_who_is_forgotten_are_not_tried_out(model: Model) -> None:
    session = Session()
    for name in (model.cast.people[0], model.cast.people[0].upper()):
        with pytest.raises(ConfigError, match="knows"):
            try_out(session, model, name, chosen(model, 5))
    Register(frozenset({Spot(read_register().person("nora"), "")})).write()
    with pytest.raises(DataError, match="forgotten"):
        try_out(session, model, "nora", chosen(model, 5))
    with pytest.raises(ConfigError):
        try_out(session, model, "a/b", chosen(model, 5))
    with pytest.raises(DataError, match="no face"):
        try_out(session, model, "olga", [])
    assert session.enrolled == []
    try_out(session, model, "olga", chosen(model, 5))
    try_out(session, model, "olga", chosen(model, 6, 6))
    assert [len(one.raw) for one in session.enrolled] == [2]


def test_doubts(model: Model) -> None:
    def of(*numbers: int) -> list[str]:
        return doubts(model.cast, CurationSettings(), np.stack([raw_of(model, n) for n in numbers]))

    assert of(5) == of(5, 5, 5) == []
    assert of(5, 6) == ["The two faces do not look like one person."]
    assert of(5, 5, 5, 6) == ["Face 4 does not look like the others."]
    assert of(0, 0) == [f"To this model they look like {model.cast.people[0]}."]


def test_of_a_picture_with_others_only_the_face_is_written(model: Model) -> None:
    upload, seen = Upload.of("a.jpg", b"05"), picture_of(model, [0, 5])
    (one,) = deliveries(model.cast, "v", "nora", [Chosen(upload, seen, 0)])
    assert [(face.person, face.said) for face in one.faces] == [("nora", model.cast.people[0]), (None, "")]
    assert (one.person, one.width, one.height, one.version) == ("", 100, 80, "v")


def plan_of(name: str) -> Plan:
    holder = Holder("DVC's cache", "It has the tables.", ["dvc gc --workspace --all-tags"])
    photos = {f"first/{name}/1.jpg": "0" * 64}
    return Plan(name, read_register(), True, photos, 2, {"build/dataset.parquet": 3}, {}, [], [], [], [holder])


def test_somebody_is_forgotten_only_once_the_name_was_typed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    name, done = model.cast.people[0], []
    monkeypatch.setattr(forgetting, "look", plan_of)
    monkeypatch.setattr(forgetting, "forget", lambda plan, reason: done.append((plan.name, reason)))
    monkeypatch.setattr(forgetting.project, "check_in_project", lambda: None)
    context = context_of(model)
    context.session.enrolled = [Enrolled(name, "another model", np.zeros((1, 3), np.float32), (), ())]
    app = page(context, "Forget")
    app.selectbox[0].set_value(name).run()
    app = settled(button(app, "Look what there is").click().run())
    assert "1 photos, and 2 faces" in words(app)
    assert not done
    typed, reason = app.text_input
    typed.set_value(name[:-1])
    button(app, "Forget").click().run()
    assert "not the name" in words(app)
    typed, reason = app.text_input
    typed.set_value(name)
    reason.set_value(f"asked by {name}")
    button(app, "Forget").click().run()
    assert "has the name in it" in words(app) and not done
    typed, reason = app.text_input
    reason.set_value("request 17")
    app = settled(button(app, "Forget").click().run())
    assert done == [(name, "request 17")]
    said = words(app)
    assert "is taken out" in said and "dvc repro" in said and "dvc gc --workspace --all-tags" in said
    assert context.session.enrolled == []


def test_what_has_changed_since_it_was_shown_is_not_done(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan_of("anna")
    monkeypatch.setattr(forgetting, "look", lambda name: Plan(**{**vars(before), "faces": 3}))
    monkeypatch.setattr(forgetting, "forget", lambda plan, reason: pytest.fail("it was done"))
    with pytest.raises(DataError, match="changed"):
        forgetting._carried_out(before, "")


def test_a_name_that_occurs_nowhere_is_said_to(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(name: str) -> Plan:
        raise DataError(f"there is nobody called {name!r} here", "give the name as the folder has it")

    monkeypatch.setattr(forgetting, "look", look)
    monkeypatch.setattr(forgetting.project, "check_in_project", lambda: None)
    app = page(context_of(model), "Forget")
    app.selectbox[0].set_value(model.cast.people[1]).run()
    app = settled(button(app, "Look what there is").click().run())
    assert "there is nobody called" in words(app)


def test_without_a_project_nobody_can_be_forgotten(model: Model) -> None:
    app = page(context_of(model), "Forget")
    assert "not started in a project" in words(app)
    assert button(app, "Look what there is").disabled


def settled(app: AppTest) -> AppTest:
    """Once the thread has ended."""
    work = app.session_state["people-forget"].work
    if work is not None:
        work.exception(timeout=30)
        app.run()
    return app

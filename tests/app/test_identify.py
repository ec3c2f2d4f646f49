"""The page that names who is in pictures and videos, as a visitor sees it; workers see what the test says."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import streamlit
from numpy.typing import NDArray
from PIL import Image
from streamlit.testing.v1 import AppTest

from castline.app import uploads
from castline.app.components.paste import pasted
from castline.app.context import Context
from castline.app.limits import Limits
from castline.app.models import WORKSPACE, Model, open_model
from castline.app.pages import identify
from castline.app.seen import Footage, Picture, SeenFace
from castline.app.session import Enrolled, Session, Upload
from castline.app.words import plain
from castline.app.work import Job
from castline.app.work import Workers as RealWorkers
from castline.faces.quality import Quality
from castline.runtime import Appearance, Cast

GOOD, BLURRED = Quality(60.0, 1.0, 120.0, 40.0, 0.0, 0.0), Quality(60.0, 0.01, 120.0, 40.0, 0.0, 0.0)
CLICK = "a*b :red[x] $y$ <b>.jpg"
FILM = b"\x00\x00\x00\x18ftypmp42"


def chip() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (128, 128)).save(stream, "JPEG")
    return stream.getvalue()


def jpeg(what: str) -> bytes:
    """What begins as a JPEG, and tells the double of the workers what to see."""
    return b"\xff\xd8\xff" + what.encode()


def raw_of(model: Model, number: int) -> NDArray[np.float32]:
    """Of a face: 0 to 3 are the model's own people, another is like nobody."""
    scorer = model.cast.scorer
    assert scorer.gallery is not None
    far = scorer.mean + 1000 * np.random.default_rng(number).normal(size=scorer.mean.size)
    return np.asarray([*scorer.gallery, far][min(number, len(scorer.people))], np.float32)


def picture_of(model: Model, numbers: Sequence[int]) -> Picture:
    faces = [
        SeenFace(
            (20.0 * i, 0.0, 20.0 * i + 15, 15.0),
            np.zeros((5, 2), np.float32),
            1.0,
            raw_of(model, number),
            BLURRED if number == 3 else GOOD,
            chip(),
        )
        for i, number in enumerate(numbers)
    ]
    return Picture("", 100, 80, chip(), tuple(faces), 0.1)


def footage(appearances: int = 3) -> Footage:
    seen = [
        Appearance("alma", None, True, 0.0, 3.4, "alma", 0.999, 0.7),
        Appearance("unknown", 1, False, 1.0, 2.0, "bruno", 0.4, 0.2),
        Appearance("a*b", None, True, 4.0, 8.0, "a*b", 0.8, 0.6),
    ][:appearances]
    return Footage("", 320, 240, 9.0, 108, "frames damaged or lost: 2", tuple(seen), (chip(),) * len(seen), 2.0)


class Workers:
    """A double. Of a picture, each digit is a face; after `still:` it is never done, after `bad:` it fails, and
    `broken:` is a result that cannot be shown. `asked`: what was asked for. `cancelled`: what was given up.
    """

    def __init__(self, model: Model | None) -> None:
        self.model = model
        self.asked: list[tuple[str, bool]] = []
        self.cancelled: list[tuple[str, str]] = []
        self.jobs: dict[bytes, Job] = {}
        self.film = footage()

    def picture(self, data: bytes, model: Model, *, sha256: str = "", visitor: str = "", again: bool = False) -> Job:
        what = data[3:].decode(errors="replace")
        self.asked.append((what, again))
        if data in self.jobs and not again:
            return self.jobs[data]
        job = self.jobs[data] = Job()
        kind, _, faces = what.rpartition(":")
        if kind == "still":
            job.state = "working"
            return job
        if kind == "bad" and not again:
            job.state, job.error, job.again = "failed", "It *broke* off.", True
        else:
            job.state, job.result = "done", picture_of(model, [int(face) for face in faces if face.isdigit()])
        if kind == "broken":
            job.result = Picture("", 100, 80, cast(bytes, None), (), 0.1)
        job.ended.set()
        return job

    def video(
        self, data: bytes, model: Model, cast: Cast, *, sha256: str = "", visitor: str = "", again: bool = False
    ) -> Job:
        self.asked.append((",".join(cast.people), again))
        if data.endswith(b"still"):
            return self.jobs.setdefault(data, Job("working", 0.25))
        job = Job("done", 1.0, result=self.film)
        job.ended.set()
        return job

    def cancel(self, jobs: Sequence[Job], visitor: str = "") -> None:
        for data, job in self.jobs.items():
            if job in jobs:
                self.cancelled.append((data[3:].decode(errors="replace"), visitor))


@pytest.fixture
def model(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """In a folder of its own, which has no samples."""
    monkeypatch.chdir(tmp_path)
    return open_model(WORKSPACE, model_folder)


def context_of(model: Model | None, *files: tuple[str, bytes], limits: Limits | None = None) -> Context:
    context = Context(model, cast(RealWorkers, Workers(model)), limits or Limits(), Session())
    uploads.take(context.session, files, context.limits)
    return context


def page(context: Context) -> AppTest:
    def script(context: "Context") -> None:  # its text is run elsewhere
        from castline.app.pages import identify

        identify.show(context)

    return AppTest.from_function(script, args=(context,), default_timeout=30).run()


def double(context: Context) -> Workers:
    return cast(Workers, context.workers)


def words(app: AppTest) -> str:
    assert not app.exception
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error, app.header)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def chosen(app: AppTest) -> list[str]:
    return [value.removeprefix("### ") for element in app.markdown if (value := element.value).startswith("### ")]


def button(app: AppTest, words: str) -> Any:
    return next(one for one in app.button if one.label == words)


def test_without_a_model_the_page_says_what_to_do() -> None:
    app = page(context_of(None))
    assert "dvc repro" in app.info[0].value
    assert not app.button


def test_an_empty_page_offers_the_samples(model: Model, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sample.parent)
    context = context_of(model)
    app = page(context)
    assert [one.label for one in app.button] == [*(f"Scene {i:02}" for i in range(1, 9)), plain("Clip (video)")]
    app.button[1].click().run()
    assert [upload.name for upload in context.session.uploads] == ["scene_02.jpg"]
    assert app.header[0].value == plain("scene_02.jpg")


def test_files_are_taken_by_what_they_hold(model: Model) -> None:
    context = context_of(model)
    app = page(context)
    files = [(CLICK, jpeg("0"), "text/plain"), ("a.jpg", b"no picture", "image/jpeg"), ("b.png", jpeg("12"), "")]
    app.file_uploader[0].set_value(files).run()
    assert [one.value for one in app.header] == [plain(CLICK), plain("b.png")]
    assert "neither a picture nor a video" in app.warning[0].value
    assert not app.file_uploader[0].value  # what was taken is not held twice
    app.file_uploader[0].set_value([("c.png", jpeg("12"), "")]).run()
    assert app.warning[0].value == plain("c.png is shown already.")


def test_a_callback_that_comes_twice_takes_nothing_twice(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of(model)
    state: dict[str, Any] = {"identify-turn": 1, "identify-camera-0": io.BytesIO(jpeg("0"))}
    monkeypatch.setattr(streamlit, "session_state", state)
    identify._take_shot(context, 0)
    assert not context.session.uploads
    state["identify-camera-1"] = io.BytesIO(jpeg("0"))
    identify._take_shot(context, 1)
    assert (context.session.uploads[0].name, state["identify-turn"]) == ("camera.jpg", 2)


def test_a_face_is_explained(model: Model) -> None:
    app = page(context_of(model, ("a.jpg", jpeg("0"))))
    first = model.cast.people[0]
    name = model.cast.name(raw_of(model, 0))
    said = words(app)
    assert chosen(app) == [plain(name.shown)]
    assert f"the threshold of {model.cast.threshold:.2f}" in said
    assert "Eyes 60 pixels apart." in said
    assert "percentage points" in said
    bars = [str(one.proto.text) for one in app.get("progress")]
    assert len(bars) == min(5, len(model.cast.people))
    assert bars[0].startswith(plain(first) if name.nearest == first else plain(name.nearest))
    assert app.radio  # the question whether it is right


def test_another_face_is_chosen_in_the_list_or_in_the_picture(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of(model, ("a.jpg", jpeg("039")))
    app = page(context)
    names = [model.cast.name(raw_of(model, i)).shown for i in (0, 3, 9)]
    faces = next(one for one in app.button_group if one.options != ["Files", "Camera"])
    assert [option.split("\\,")[0] for option in faces.options] == [plain(f"{i + 1}: {n}") for i, n in enumerate(names)]
    assert chosen(app) == [plain(names[0])]
    faces.set_value(1).run()
    assert chosen(app) == [plain(names[1])]
    assert "Poor: too blurred" in words(app).replace("\\", "")
    state: dict[str, Any] = {"place": {"chosen": 2}}
    monkeypatch.setattr(streamlit, "session_state", state)
    identify._on_chosen("place", "choice")
    assert state["choice"] == 2


def test_who_is_enrolled_is_named_at_once(model: Model) -> None:
    context = context_of(model, ("a.jpg", jpeg("9")))
    app = page(context)
    assert chosen(app) == ["unknown"]
    raw = raw_of(model, 9)[np.newaxis]
    context.session.enrolled.append(Enrolled("zoë *x*", model.key, raw, (), (chip(),)))
    app.run()
    assert chosen(app) == [plain("zoë *x*")]
    assert not double(context).cancelled and len(double(context).jobs) == 1


def test_a_picture_without_faces_says_so(model: Model) -> None:
    assert "No face was found." in words(page(context_of(model, ("a.jpg", jpeg("none")))))


def test_one_that_waits_or_fails_does_not_hold_up_the_others(model: Model) -> None:
    files = [("1.jpg", jpeg("still:0")), ("2.jpg", jpeg("bad:1")), ("3.jpg", jpeg("broken:")), ("4.jpg", jpeg("2"))]
    context = context_of(model, *files)
    app = page(context)
    assert "3 of 4 looked at" in words(app)
    assert "Looking for faces" in words(app)
    assert [one.value for one in app.error] == [
        plain("It *broke* off."),
        "This result cannot be shown. The server's log says why.",
    ]
    assert chosen(app) == [plain(model.cast.name(raw_of(model, 2)).shown)]
    button(app, "Try again").click().run()
    assert ("bad:1", True) in double(context).asked
    assert len(app.error) == 1


def test_a_page_goes_on_by_itself_once_something_is_done(model: Model) -> None:
    context = context_of(model, ("1.jpg", jpeg("still:0")))
    app = page(context)
    job = double(context).jobs[jpeg("still:0")]
    job.state, job.result = "done", picture_of(model, [0])
    job.ended.set()
    app.run()
    assert chosen(app)


def test_what_is_removed_is_given_up_and_only_that(model: Model) -> None:
    context = context_of(model, ("1.jpg", jpeg("still:0")), ("2.jpg", jpeg("1")), ("3.jpg", jpeg("still:2")))
    app = page(context)
    button(app, "Cancel").click().run()
    assert double(context).cancelled == [("still:0", context.session.visitor)]
    assert [one.value for one in app.header] == [plain("2.jpg"), plain("3.jpg")]
    button(app, "Remove all").click().run()
    assert double(context).cancelled[1:] == [("still:2", context.session.visitor)]
    assert not context.session.uploads and not app.header


def test_a_video_has_a_table_and_says_what_could_not_be_read(model: Model) -> None:
    context = context_of(model, ("a.jpg", FILM))
    app = page(context)
    said = words(app)
    assert plain("Not all of it can be read: frames damaged or lost: 2.") in said
    assert "0:09.0 long, 108 frames looked at" in said
    table = app.table[0].value
    assert list(table["Who"]) == ["alma", "unknown 1", plain("a*b")]
    assert list(table["Confidence"]) == [plain(">99%"), "", plain("80%")]
    double(context).film = footage(0)
    assert "No face was found in this video." in words(app.run())


def test_a_video_shows_how_far_it_is(model: Model) -> None:
    app = page(context_of(model, ("a.mp4", FILM + b"still")))
    (bar,) = app.get("progress")
    assert (bar.proto.value, bar.proto.text) == (25, "Looking for faces: 25% of the video")


def test_a_video_is_looked_at_with_who_is_enrolled(model: Model) -> None:
    context = context_of(model, ("a.mp4", FILM))
    context.session.enrolled.append(Enrolled("zoë", model.key, raw_of(model, 9)[np.newaxis], (), ()))
    page(context)
    assert double(context).asked[-1][0].split(",")[-1] == "zoë"


def test_limits_are_told_and_kept() -> None:
    session, limits = Session(), Limits(picture_mb=0.001, video_mb=0.002, pictures=2)
    big = b"x" * 1500
    said = uploads.take(
        session,
        [
            ("empty.jpg", b""),
            ("big.jpg", jpeg("") + big),
            ("film.jpg", FILM + big),
            ("long.mp4", FILM + big + big),
            ("a.jpg", jpeg("1")),
            ("b.jpg", jpeg("2")),
            ("c.jpg", jpeg("3")),
        ],
        limits,
    )
    assert [upload.name for upload in session.uploads] == ["film.jpg", "a.jpg"]
    assert [uploads.is_video(upload) for upload in session.uploads] == [True, False]
    assert said[0] == "empty.jpg is empty."
    assert "The limit for pictures is 0.001 MB" in said[1]
    assert "The limit for videos is 0.002 MB" in said[2]
    assert said[3:] == ["2 files were left out: at most 2 are shown at once. Remove some first."]


def test_players_are_told_what_a_video_is() -> None:
    kinds = {b"\x1aE\xdf\xa3": "video/webm", b"OggS": "video/ogg", FILM: "video/mp4"}
    for head, kind in kinds.items():
        assert uploads.video_type(Upload.of("a", head)) == kind


def test_only_a_picture_can_be_pasted() -> None:
    assert pasted({"name": "a.png", "data": "AAEC"}) == [("a.png", b"\x00\x01\x02")]
    wrongs: list[Any] = [None, "x", [], {"name": 1, "data": "AAEC"}, {"name": "a"}, {"name": "a", "data": "*"}]
    for wrong in wrongs:
        assert pasted(wrong) == []

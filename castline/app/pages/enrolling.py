"""The part of the page People that adds somebody: for this visit, or to the photos of the next training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import streamlit as st

from castline import project
from castline.app.context import Context
from castline.app.corrections import batch_name, version_of
from castline.app.deliver import next_commands, write_batch
from castline.app.enrol import Chosen, cast_of, deliveries, doubts, poor, try_out
from castline.app.models import WORKSPACE, Model
from castline.app.names import checked_name
from castline.app.pages.parts import tell
from castline.app.seen import Picture
from castline.app.session import Upload
from castline.app.words import plain
from castline.app.work import Job
from castline.curation.settings import CurationSettings
from castline.errors import CastlineError
from castline.files import params
from castline.text import short

__all__ = ["show"]

_KINDS = ["jpg", "jpeg", "png", "webp", "avif", "gif", "bmp", "tif", "tiff"]
_DRAFT = "people-draft"


@dataclass
class _Draft:
    """What is being prepared. whose: by picture, the number of the face. round: counts on, so that widgets are empty
    again once what was in them is here. said: what became of it last.
    """

    name: str = ""
    pictures: dict[str, Upload] = field(default_factory=dict)
    whose: dict[str, int | None] = field(default_factory=dict)
    round: int = 0
    left_out: list[str] = field(default_factory=list)
    said: Callable[[], None] | None = None


def show(context: Context, model: Model) -> None:
    """Ask for a name and pictures; show what was found in them; offer to try it out and to write it."""
    draft: _Draft = st.session_state.setdefault(_DRAFT, _Draft())
    st.markdown(
        "Add somebody by a few pictures: five or more, of different days, show a person best. Nothing is written "
        "unless you ask for it."
    )
    draft.name = st.text_input("Name", draft.name, max_chars=100, key=f"people-name-{draft.round}")
    _take(context, draft)
    for name in draft.left_out:
        st.warning(plain(name))
    jobs = {key: context.workers.picture(one.data, model, sha256=key) for key, one in draft.pictures.items()}
    if not jobs:
        _said(draft)
        return
    if not all(job.ended.is_set() for job in jobs.values()):
        _wait(list(jobs.values()))
        return
    chosen = [
        one
        for number, (key, job) in enumerate(jobs.items(), 1)
        if (one := _looked_at(context, model, draft, number, key, job))
    ]
    st.header("What it comes to")
    _tell_doubts(context, model, draft, chosen)
    _offer(context, model, draft, chosen)
    _said(draft)


def _take(context: Context, draft: _Draft) -> None:
    """Take what is given out of the widgets, which then are empty and ready for more."""
    limit = int(context.limits.picture_mb)
    given = list(
        st.file_uploader(
            "Pictures",
            _KINDS,
            accept_multiple_files=True,
            key=f"people-files-{draft.round}",
            max_upload_size=limit,
            help=f"At most {context.limits.pictures} of {limit} MB each",
        )
    )
    if st.toggle("Use the camera", key="people-camera") and (
        shot := st.camera_input("A picture by the camera", key=f"people-shot-{draft.round}")
    ):
        given.append(shot)
    if not given:
        return
    draft.left_out, draft.said = [], None
    for file in given:
        upload = Upload.of(file.name, file.getvalue())
        if upload.sha256 in draft.pictures:
            draft.left_out.append(f"{short(file.name)} is there already.")
        elif len(draft.pictures) >= context.limits.pictures:
            draft.left_out.append(f"{short(file.name)} was left out: at most {context.limits.pictures} at once.")
        else:
            draft.pictures[upload.sha256] = upload
    draft.round += 1
    st.rerun()


@st.fragment(run_every=0.5)
def _wait(jobs: Sequence[Job]) -> None:
    ended = sum(job.ended.is_set() for job in jobs)
    st.progress(ended / len(jobs), f"Looking at the pictures: {ended} of {len(jobs)}")
    if ended == len(jobs):
        st.rerun()


def _looked_at(context: Context, model: Model, draft: _Draft, number: int, key: str, job: Job) -> Chosen | None:
    """A picture with what was found in it; the visitor says whose face it is where there are several."""
    upload, seen = draft.pictures[key], job.result
    chosen = None
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            if isinstance(seen, Picture) and len(seen.faces) == 1:
                chosen = Chosen(upload, seen, 0)
                st.image(seen.faces[0].chip, width=96, alt=f"The face in picture {number}")
            st.markdown(f"**{number}.** {plain(short(upload.name))}", width="stretch")
            if st.button(
                "Remove", key=f"people-drop-{key}", icon=":material/close:", help=f"Leave picture {number} out"
            ):
                del draft.pictures[key]
                st.rerun()
        if not isinstance(seen, Picture):
            st.error(plain(job.error or "This is not a picture."))
            if job.again and st.button("Try again", key=f"people-again-{key}", icon=":material/refresh:"):
                context.workers.picture(upload.data, model, sha256=key, again=True)
                st.rerun()
        elif not seen.faces:
            st.warning("No face was found. Take a picture in which the face is larger, in light, and not turned away.")
        elif chosen is None:
            numbers = range(1, len(seen.faces) + 1)
            st.image(
                [face.chip for face in seen.faces],
                [str(i) for i in numbers],
                width=96,
                alt=[f"Face {i} from the left" for i in numbers],
            )
            draft.whose[key] = st.radio(
                f"Which of the {len(seen.faces)} faces is it?",
                range(len(seen.faces)),
                index=draft.whose.get(key),
                format_func=lambda i: str(i + 1),
                horizontal=True,
                key=f"people-whose-{key}",
            )
            if (index := draft.whose[key]) is not None:
                chosen = Chosen(upload, seen, index)
        if chosen is not None and (why := poor(_curation(), [chosen])[0]):
            st.warning(f"{plain(why[0].upper() + why[1:])}. Training would leave this face out.")
    return chosen


def _tell_doubts(context: Context, model: Model, draft: _Draft, chosen: Sequence[Chosen]) -> None:
    if not chosen:
        st.info("There is no face to go on with yet.")
        return
    others = [one for one in context.session.enrolled if one.name != draft.name.strip()]
    try:
        found = doubts(cast_of(model, others), _curation(), np.stack([one.face.raw for one in chosen]))
    except CastlineError as error:
        tell(error)
        return
    for doubt in found:
        st.warning(plain(doubt), icon=":material/warning:")
    if not found:
        faces = "One face" if len(chosen) == 1 else f"{len(chosen)} faces, which look like one person"
        st.markdown(f"{faces}.")


def _offer(context: Context, model: Model, draft: _Draft, chosen: Sequence[Chosen]) -> None:
    ready = bool(chosen and draft.name.strip())
    if chosen and not ready:
        st.info("Give a name above.")
    there = _in_project()
    batch = batch_name()
    with st.container(border=True):
        st.markdown("**For this visit.** The model names this person until you close or reload the page.")
        if st.button("Try out now", type="primary", icon=":material/person_add:", disabled=not ready):
            _try_out(context, model, draft, chosen)
    with st.container(border=True):
        st.markdown(
            "**For the next training.** The pictures are written into this project as a new batch: into "
            f"{plain('deliveries/')}, which git ignores, with what is needed in {plain('conf/data.yaml')}. "
            "The model that runs here stays as it is until it is trained again."
        )
        if not there:
            st.markdown("The app was not started in a project's folder, so there is nothing to write into.")
        else:
            if model.name != WORKSPACE:
                st.markdown(f"It is this folder's project that is written into, whatever became {plain(model.name)}.")
            batch = st.text_input("Name of the batch", batch, max_chars=64, key="people-batch").strip()
        if st.button("Write as a batch", icon=":material/save:", disabled=not (ready and there)):
            _write(model, draft, chosen, batch)


def _try_out(context: Context, model: Model, draft: _Draft, chosen: Sequence[Chosen]) -> None:
    try:
        made = try_out(context.session, model, draft.name, chosen)
    except CastlineError as error:
        tell(error)
        return
    said = (
        f"{plain(short(made.name))} is known for this visit. Look at pictures of this person on the page Identify, "
        "and take care to use others than these."
    )
    draft.said = lambda: _succeeded(said)
    st.rerun()


def _write(model: Model, draft: _Draft, chosen: Sequence[Chosen], batch: str) -> None:
    try:
        name = checked_name(draft.name)
        with st.spinner("Writing"):
            path = write_batch(deliveries(model.cast, version_of(model), name, chosen), batch)
    except CastlineError as error:
        tell(error)
        return
    draft.said = lambda: _written(path)
    st.rerun()


def _said(draft: _Draft) -> None:
    if draft.said is None:
        return
    draft.said()
    if draft.pictures and st.button("Enrol somebody else", icon=":material/refresh:"):
        st.session_state[_DRAFT] = _Draft(round=draft.round + 1)
        st.rerun()


def _succeeded(words: str) -> None:
    st.success(words, icon=":material/check:")


def _written(path: Path) -> None:
    _succeeded(f"Written: {plain(str(path))}. Next, in the project's folder:")
    st.code("\n".join(next_commands(path)), language=None, wrap_lines=True)
    st.markdown("Or, where a released version is to learn only what is new:")
    st.code("dvc exp run -S training=incremental -S training.start=recognizer@v1.0.0", language=None, wrap_lines=True)


def _curation() -> CurationSettings:
    """The project's, or what a project starts with."""
    try:
        return params.read("curation", CurationSettings)
    except CastlineError:
        return CurationSettings()


def _in_project() -> bool:
    try:
        project.check_in_project()
    except CastlineError:
        return False
    return True

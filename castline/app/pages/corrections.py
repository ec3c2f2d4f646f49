"""What was said to be wrong, before it is written as labels."""

from pathlib import Path

import streamlit as st

from castline import project
from castline.app.context import Context
from castline.app.corrections import as_json, batch_name, deliveries
from castline.app.deliver import REVIEW, Plan, next_commands, plan, write_batch
from castline.app.pages.parts import tell
from castline.app.session import Correction, Session
from castline.app.words import plain
from castline.errors import CastlineError
from castline.text import short

__all__ = ["show"]

_WRITTEN = "corrections-written"


def show(context: Context) -> None:
    """The page."""
    st.title("Corrections")
    waiting = dict(context.session.corrections)
    if not waiting:
        if _WRITTEN in st.session_state:
            _say_written(*st.session_state[_WRITTEN])
        else:
            st.markdown(
                "Nothing waits here. On the page Identify, choose a face and say that its name is wrong: whose face it "
                "is, or that it is nobody of the cast. What you say is collected here, and written when you ask for it."
            )
        return
    st.session_state.pop(_WRITTEN, None)
    st.markdown("Said, and not written yet. It is gone when you close or reload the page.")
    for place, one in waiting.items():
        _line(context.session, place, one)
    try:
        project.check_in_project()
    except CastlineError:
        _offer_file(list(waiting.values()))
        return
    try:
        planned = plan(deliveries(waiting.values()))
    except CastlineError as error:
        tell(error)
        return
    _offer(context.session, waiting, planned)


def _line(session: Session, place: tuple[str, int], one: Correction) -> None:
    said, person = one.said or "unknown", one.person or "nobody of the cast"
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.image(one.chip, width=64, alt=f"Face {one.face + 1}")
        with st.container(width="stretch"):
            st.markdown(f"said {plain(short(said))} → is **{plain(short(person))}**")
            st.markdown(f":small[{plain(short(one.upload.name))}]")
        if st.button("Remove", key=f"remove-{place[0]}-{place[1]}", icon=":material/close:"):
            del session.corrections[place]
            st.rerun()


def _offer(session: Session, waiting: dict[tuple[str, int], Correction], planned: Plan) -> None:
    """Say what would be written where, and write it when asked."""
    st.header("What will be written")
    name = batch_name()
    if planned.pictures:
        name = st.text_input("Name of the new batch", name, max_chars=64, key="corrections-batch").strip()
        what = "the picture" if len(planned.pictures) == 1 else f"the {len(planned.pictures)} pictures"
        st.markdown(
            f"- A new batch, {plain(name)}: {what} as uploaded, into {plain(f'deliveries/{name}/')}, which git "
            f"ignores, and whose the faces are into {plain(f'labels/batches/{name}.json')}. Where the name is "
            "taken, a number is added."
        )
    if planned.decisions:
        faces = "one face" if len(planned.decisions) == 1 else f"{len(planned.decisions)} faces"
        st.markdown(f"- Decisions about {faces} in photos that the project has already, into {plain(str(REVIEW))}.")
    st.markdown("The model that runs here stays as it is until it is trained again.")
    count = "1 correction" if len(waiting) == 1 else f"{len(waiting)} corrections"
    if not st.button(f"Write {count}", type="primary", icon=":material/save:"):
        return
    try:
        with st.spinner("Writing"):
            path = write_batch(deliveries(waiting.values()), name)
    except CastlineError as error:
        tell(error)
        return
    for place, one in waiting.items():
        if session.corrections.get(place) is one:
            del session.corrections[place]
    st.session_state[_WRITTEN] = (count, path, bool(planned.decisions))
    st.rerun()


def _say_written(count: str, path: Path, decided: bool) -> None:
    paths = [str(path)] if path == REVIEW else [f"{path}/", f"labels/batches/{path.name}.json", "conf/data.yaml"]
    if decided and path != REVIEW:
        paths.append(str(REVIEW))
    st.success(f"{count} written: {plain(', '.join(paths))}", icon=":material/check:")
    st.markdown("Next, in the project's folder:")
    st.code("\n".join(next_commands(path)), language=None, wrap_lines=True)


def _offer_file(corrections: list[Correction]) -> None:
    """There is no project to write into, but there may be one elsewhere."""
    name = batch_name()
    st.header("No project here")
    st.markdown(
        "The app was not started in a project's folder, so there is nothing to write into. Take the corrections as a "
        "file to where the project is: the pictures as a batch, the file as its labels."
    )
    commands = f"castline data add PICTURES --batch {name}\nmv corrections.json labels/batches/{name}.json"
    st.code(commands, language=None, wrap_lines=True)
    st.download_button(
        "Download as JSON",
        as_json(corrections, name),
        "corrections.json",
        "application/json",
        type="primary",
        icon=":material/download:",
    )

"""Parts that several pages have."""

import streamlit as st

from castline.app.context import Context
from castline.app.corrections import correct
from castline.app.seen import Picture
from castline.app.session import Upload
from castline.app.words import plain
from castline.errors import CastlineError
from castline.runtime import Name
from castline.text import short, shown

__all__ = ["ask_about", "tell", "waiting"]

_RIGHT, _OTHER, _NOBODY = "Right", "Wrong: it is somebody else", "Nobody of the cast"


def ask_about(context: Context, upload: Upload, picture: Picture, index: int, name: Name) -> None:
    """Ask whether a face is named rightly, and keep the answer until it is written. name: what the model said of it."""
    if context.model is None:
        return
    session, place = context.session, (upload.sha256, index)
    key = f"ask-{upload.sha256}-{index}"
    before = session.corrections.get(place)
    if before is not None:
        who = plain(short(before.person)) if before.person else "nobody of the cast"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"You said that this is **{who}**.", width="content")
            if st.button("Undo", key=f"{key}-undo", icon=":material/undo:"):
                del session.corrections[place]
                st.rerun()
        st.markdown(f"Nothing is written yet: {waiting(len(session.corrections))} on the page Corrections.")
        return
    said = f"“{plain(short(name.nearest))}”" if name.known else "“unknown”"
    answer = st.radio(
        f"Is {said} right?",
        [_RIGHT, _OTHER, _NOBODY] if name.known else [_RIGHT, _OTHER],
        key=f"{key}-answer",
        index=None,
        horizontal=True,
    )
    person = ""
    if answer == _OTHER:
        known = {*context.model.cast.people, *(one.name for one in session.enrolled if one.key == context.model.key)}
        if name.known:
            known.discard(name.nearest)
        chosen = st.selectbox(
            "Who is it?",
            sorted(known, key=lambda one: (one.casefold(), one)),
            index=None,
            placeholder="Choose a person",
            format_func=shown,
            key=f"{key}-person",
        )
        typed = st.text_input(
            "Or somebody who is not in the list", placeholder="A new name", max_chars=100, key=f"{key}-typed"
        )
        person = typed.strip() or chosen or ""
    if answer == _RIGHT:
        st.markdown("Then nothing is to be done.")
    elif answer is not None and st.button("Keep this correction", key=f"{key}-keep", icon=":material/check:"):
        if answer == _OTHER and not person:
            st.error("Choose a person, or type a name.")
            return
        try:
            correct(session, upload, picture, index, person, context.model, name)
        except CastlineError as error:
            tell(error)
        else:
            st.rerun()


def waiting(corrections: int) -> str:
    """How many there are, in words.

    >>> waiting(1), waiting(2)
    ('1 correction waits', '2 corrections wait')
    """
    return "1 correction waits" if corrections == 1 else f"{corrections} corrections wait"


def tell(error: CastlineError) -> None:
    """What happened, and what to do about it."""
    st.error(plain(error.what) + (f"  \n{plain(error.next)}" if error.next else ""))

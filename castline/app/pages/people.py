"""Whom the model knows: look, enrol, forget."""

import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from castline.app.context import Context
from castline.app.gallery import Known, exemplars, in_words, people_of, worries
from castline.app.models import Model
from castline.app.pages import enrolling, forgetting
from castline.app.pages.parts import tell
from castline.app.session import Enrolled
from castline.app.words import plain
from castline.errors import CastlineError
from castline.forgetting.register import normal
from castline.text import short

__all__ = ["show"]

AT_ONCE = 24
"""People on a page."""

_BESIDE, _PICTURE = 3, 74  # cards; pixels of a picture, of which three fill a card on a laptop
_KNOWN, _ENROL, _FORGET = "Known", "Enrol", "Forget"
_P = TypeVar("_P")
_BY_NAME, _BY_PHOTOS, _BY_RESULT = "Name", "Fewest photos", "Lowest accuracy"


def show(context: Context) -> None:
    """The page."""
    st.title("People")
    if context.model is None:
        st.info("There is no model to ask. Choose one in the side bar, or make one: `dvc repro`.")
        return
    known, enrol, forget = st.tabs([_KNOWN, _ENROL, _FORGET], key="people-tab", on_change="rerun")
    if known.open is not False:
        with known:
            _gallery(context, context.model)
    if enrol.open:
        with enrol:
            enrolling.show(context, context.model)
    if forget.open:
        with forget:
            forgetting.show(context, context.model)


def _gallery(context: Context, model: Model) -> None:
    try:
        with st.spinner("Looking up who is known"):
            everybody = people_of(model)
            pictures = {person.name: exemplars(model, person.name) for person in everybody}
    except CastlineError as error:
        tell(error)
        return
    _gone(len(model.cast.people) - len(everybody))
    if everybody and not any(pictures.values()):
        st.info(
            "There are no pictures of them here: a model holds none, and the faces that this one was made from are not "
            "in this folder. In the project's folder, `dvc pull` or `dvc repro` brings them."
        )
    _enrolled(context, model)
    if not everybody:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = st.text_input("Search", placeholder="A name, or a part of one", key="people-search", width=312)
        order = st.selectbox("Sort by", [_BY_NAME, _BY_PHOTOS, _BY_RESULT], key="people-order", width=200)
    found = _sorted([one for one in everybody if _key(wanted) in _key(one.name)], order)
    people = "1 person" if len(everybody) == 1 else f"{len(everybody)} people"
    st.markdown(f"{len(found)} of {people}" if len(found) < len(everybody) else people)
    if not found:
        st.markdown("Nobody is called so. Clear the search to see everybody.")
        return
    for person, place in _places(_part(found, order)):
        with place:
            _card(person, pictures[person.name])


def _gone(count: int) -> None:
    if count:
        st.warning(
            f"{'Somebody whom' if count == 1 else f'{count} people whom'} this model knows asked to be forgotten, and "
            f"{'is' if count == 1 else 'are'} not shown. Until it is trained again, it still names them: `dvc repro`.",
            icon=":material/warning:",
        )


def _enrolled(context: Context, model: Model) -> None:
    session = context.session
    if not session.enrolled:
        return
    st.header("For this visit only")
    for person, place in _places(session.enrolled):
        with place:
            st.markdown(f"**{plain(short(person.name))}**")
            _pictures(person.name, person.chips[:3])
            st.markdown(_enrolled_in_words(person, model))
            if st.button("Remove", key=f"people-remove-{id(person)}", icon=":material/close:"):
                session.enrolled.remove(person)
                st.rerun()
    st.header("In the model")


def _enrolled_in_words(person: Enrolled, model: Model) -> str:
    faces = "1 face" if len(person.raw) == 1 else f"{len(person.raw)} faces"
    if person.key == model.key:
        return f"Tried out with {faces}. Gone when you close or reload the page."
    return f"Tried out with {faces}, by another model. This one does not know this person: enrol again."


def _places(people: Sequence[_P]) -> Iterator[tuple[_P, DeltaGenerator]]:
    """A card for each: beside each other, or on a phone below."""
    for start in range(0, len(people), _BESIDE):
        row = people[start : start + _BESIDE]
        for person, column in zip(row, st.columns(_BESIDE), strict=False):
            yield person, column.container(border=True, gap="xsmall")


def _card(person: Known, pictures: Sequence[bytes]) -> None:
    st.markdown(f"**{plain(short(person.name))}**")
    _pictures(person.name, pictures)
    st.markdown("  \n".join(map(plain, in_words(person))))
    for sentence in worries(person):
        st.markdown(f":material/warning: **{sentence}**")


def _pictures(name: str, pictures: Sequence[bytes]) -> None:
    if pictures:
        st.image(list(pictures), width=_PICTURE, alt=[f"{short(name)}, photo {i}" for i in range(1, len(pictures) + 1)])


def _sorted(people: Sequence[Known], order: str) -> list[Known]:
    """By name where the rest is the same; who was never tested comes last."""
    by_name = sorted(people, key=lambda one: (one.name.casefold(), one.name))
    if order == _BY_PHOTOS:
        return sorted(by_name, key=lambda one: math.inf if one.trained is None else one.trained)
    if order == _BY_RESULT:
        return sorted(by_name, key=_share)
    return by_name


def _share(person: Known) -> tuple[float, float]:
    """Of test faces named right; then of those that are not called unknown either."""
    if person.result is None or not person.result.n:
        return 2.0, 2.0
    right = person.result.correct
    return right / person.result.n, (right if person.named is None else person.named) / person.result.n


def _part(people: Sequence[Known], order: str) -> Sequence[Known]:
    """Those of the page that is turned to; in another order it is the first again."""
    pages = math.ceil(len(people) / AT_ONCE)
    if pages == 1:
        return people
    page = st.segmented_control(
        "Page", range(1, pages + 1), default=1, required=True, key=f"people-page-{order}-{len(people)}"
    )
    start = ((page or 1) - 1) * AT_ONCE
    return people[start : start + AT_ONCE]


def _key(name: str) -> str:
    return normal(name).casefold()

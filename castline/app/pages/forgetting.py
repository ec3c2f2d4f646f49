"""The part of the page People that takes somebody out, as `castline forget` does: looked at first, then confirmed."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from castline import project
from castline.app.context import Context
from castline.app.gallery import people_of
from castline.app.models import WORKSPACE, Model
from castline.app.pages.parts import tell
from castline.app.undo import alone
from castline.app.words import plain
from castline.errors import CastlineError, DataError
from castline.forgetting.forget import Plan, described, forget, look
from castline.forgetting.register import normal
from castline.text import short, shown

__all__ = ["show"]

_SHOWN = 100  # of a list
_STATE = "people-forget"
_threads = ThreadPoolExecutor(2, "forget")  # looking takes seconds: git and DVC are asked


@dataclass
class _State:
    """Where a visitor is at: something is worked on, or a plan is to be confirmed, or was carried out."""

    doing: Literal["", "looking", "forgetting"] = ""
    work: "Future[Plan] | None" = None
    plan: Plan | None = None
    done: Plan | None = None
    error: CastlineError | None = None


def show(context: Context, model: Model) -> None:
    """Choose a person; look what there is; confirm."""
    state: _State = st.session_state.setdefault(_STATE, _State())
    if state.work is not None and state.work.done():
        _finish(context, state, state.work)
    st.markdown(
        "Take a person out of the project, for good: out of labels at once, and out of tables and the model with the "
        "next `dvc repro`. First you see what there is."
    )
    try:
        project.check_in_project()
    except CastlineError:
        st.info(
            "The app was not started in a project's folder, so there is nothing that somebody could be taken out of."
        )
        there = False
    else:
        there = True
        if model.name != WORKSPACE:
            st.info(
                f"This acts on the project in this folder. {plain(model.name)} stays as it is, and still names them."
            )
    name = st.selectbox(
        "Who",
        _names(model),
        index=None,
        placeholder="Choose a person, or type the name of one",
        accept_new_options=True,
        format_func=shown,
        key="people-forget-name",
        disabled=not there,
    )
    if st.button("Look what there is", icon=":material/search:", disabled=not (there and name) or bool(state.doing)):
        wanted = str(name)
        _begin(state, "looking", lambda: look(wanted))
    if state.work is not None:
        _wait(state.work, "Looking" if state.doing == "looking" else "Taking out")
        return
    if state.error is not None:
        tell(state.error)
    if state.plan is not None:
        _confirm(state, state.plan)
    elif state.done is not None:
        _tell_done(state.done)


def _names(model: Model) -> list[str]:
    try:
        return sorted(person.name for person in people_of(model))
    except CastlineError:
        return sorted(model.cast.people)


def _begin(state: _State, doing: Literal["looking", "forgetting"], what: Callable[[], Plan]) -> None:
    def work() -> Plan:
        try:
            return what()
        except (CastlineError, OSError):
            raise
        except Exception as error:  # git's and DVC's libraries may raise anything
            raise DataError(
                f"git or DVC cannot be asked ({type(error).__name__})", "castline forget says more"
            ) from error

    state.doing, state.work = doing, _threads.submit(work)
    state.plan = state.done = state.error = None


@st.fragment(run_every=0.5)
def _wait(work: "Future[Plan]", doing: str) -> None:
    st.status(f"{doing}: git and DVC are asked for everything that holds this person")
    if work.done():
        st.rerun()


def _finish(context: Context, state: _State, work: "Future[Plan]") -> None:
    """Take over what the thread came to."""
    doing, state.work, state.doing = state.doing, None, ""
    try:
        plan = work.result()
    except CastlineError as error:
        state.error = error
    except OSError as error:
        state.error = DataError(f"{error.filename or 'a file'}: {error.strerror or 'cannot be used'}")
    else:
        if doing == "looking":
            state.plan = plan
        else:
            state.done = plan
            session = context.session
            session.enrolled = [one for one in session.enrolled if normal(one.name) != plan.name]


def _confirm(state: _State, plan: Plan) -> None:
    def dismissed() -> None:
        state.plan = None

    @st.dialog("Forget this person?", width="medium", on_dismiss=dismissed)
    def dialog() -> None:
        _describe(plan)
        with st.form("people-forget-confirm"):
            typed = st.text_input("To confirm, type the name", autocomplete="off")
            reason = st.text_input(
                "Reason, for the audit, without the name", placeholder="Such as request 17", max_chars=200
            )
            if not st.form_submit_button("Forget", type="primary", icon=":material/delete_forever:"):
                return
            if normal(typed) != plan.name:
                st.error("That is not the name. Nothing was done.")
            elif plan.name.casefold() in normal(reason).casefold():
                st.error("The reason has the name in it, and it is kept. Nothing was done.")
            else:
                _begin(state, "forgetting", lambda: _carried_out(plan, reason))
                st.rerun()

    dialog()


def _carried_out(plan: Plan, reason: str) -> Plan:
    """`plan`, done, if it is still true: others may have changed the project since it was shown.

    Raises: DataError when it is not.
    """
    with alone():
        now = look(plan.name)
        if _facts(now) != _facts(plan):
            raise DataError(
                "what there is of this person has changed since it was shown; nothing was done", "look again"
            )
        forget(now, reason)
    return now


def _facts(plan: Plan) -> dict[str, Any]:
    return {key: value for key, value in described(plan).items() if key != "held_by"}


def _describe(plan: Plan) -> None:
    """What `castline forget` prints, the long lists folded."""
    labels = sum(one.entries for one in plan.labels.values())
    batches = f", in {plain(', '.join(plan.batches))}" if plan.batches else ""
    files = f", in {plain(', '.join(map(str, plan.labels)))}" if plan.labels else ""
    st.markdown(
        f"Of **{plain(short(plan.name))}** there are:\n"
        f"- {len(plan.photos)} photos, and {plan.faces} faces in photos of others{batches}\n"
        f"- {labels} entries of labels{files}\n"
    )
    for file, tasks in plan.tasks.items():
        st.markdown(
            f"{plain(file)}: Label Studio's own tasks {', '.join(map(str, tasks))} stay: delete them there, too."
        )
    st.markdown("With the next `dvc repro` their rows of tables go, their class of the model, and all reports.")
    _some("tables with rows about this person", [f"{path}: {count}" for path, count in plan.rows.items()])
    if plan.folders:
        st.markdown("Photos in folders of that name stay where they are, and are passed over: delete them yourself.")
        _some("photos in folders of that name", plan.folders)
    if plan.alike:
        st.markdown("Faces without a name that look like theirs stay; `castline forget --alike` takes them, too.")
        _some("faces that look like theirs", [f"{o.photo}, face {o.face} ({o.similarity:.2f})" for o in plan.alike])
    if plan.still_named:
        st.markdown("The name also occurs elsewhere: change it by hand.")
        _some("other places with the name", plan.still_named)
    st.markdown("Other places hold this person afterwards; the commands that purge them are shown once it is done.")
    _some("places that hold this person", [one.place for one in plan.holders])


def _some(what: str, lines: Sequence[object]) -> None:
    if lines:
        with st.expander(f"{len(lines)} {what}"):
            st.markdown("".join(f"- {plain(short(str(line), 100))}\n" for line in lines[:_SHOWN]))
            if len(lines) > _SHOWN:
                st.markdown(f"and {len(lines) - _SHOWN} more: `castline forget NAME --json` lists all")


def _tell_done(plan: Plan) -> None:
    st.success(
        f"{plain(short(plan.name))} is taken out: {len(plan.photos)} photos, {plan.faces} faces in photos of others. "
        "Next, in the project's folder:",
        icon=":material/check:",
    )
    st.code("dvc repro && git add -A && git commit\ncastline release", language=None)
    st.markdown("Then purge what still holds this person, in this order:")
    for one in plan.holders:
        st.markdown(f"**{plain(short(one.place, 100))}** {plain(one.what)}")
        if one.commands:
            st.code("\n".join(map(shown, one.commands)), language=None, wrap_lines=True)

"""Who is in a picture or a video."""

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from castline.app import enrol, gallery, results, uploads
from castline.app.components.faces import faces
from castline.app.components.paste import paste, pasted
from castline.app.components.timeline import timeline
from castline.app.context import Context
from castline.app.models import Model
from castline.app.pages import parts
from castline.app.seen import Footage, Picture
from castline.app.session import Upload
from castline.app.words import plain
from castline.app.work import Job
from castline.runtime import Cast, Person
from castline.runtime.appearances import appearances_csv
from castline.text import certainty, clock, json_text, short

__all__ = ["show"]

_LOG = logging.getLogger(__name__)
_SAMPLE = Path("sample")
_FILES, _CAMERA, _SAMPLES = "Files", "Camera", "Samples"
_REFUSED, _TURN = "identify-refused", "identify-turn"
# How long a run of the script may wait for what is nearly done, and how often a page looks again.
_WAIT, _AGAIN = 0.3, 0.5
# Longer tables get a height of their own.
_ROWS = 12


def show(context: Context) -> None:
    """The page."""
    st.title("Identify", anchor=False)
    if context.model is None:
        st.info(
            "There is no model to try yet. Make one with `dvc repro`, or choose a released version in the side bar."
        )
        return
    samples = _samples()
    source = _ask(context, samples)
    if not context.session.uploads:
        st.markdown("Names and confidences appear here. Nothing that you give is kept once you close the page.")
        if samples and source != _SAMPLES:
            st.markdown("Nothing at hand? Take one of the samples, which show people who do not exist:")
            _choose_sample(context, samples)
        return
    _show_results(context, context.model)


# What is looked at


def _ask(context: Context, samples: Sequence[Path]) -> str:
    """Where pictures come from; the choice."""
    sources = [_FILES, _CAMERA, *([_SAMPLES] if samples else [])]
    source = st.segmented_control(
        "Where pictures come from", sources, default=_FILES, required=True, label_visibility="collapsed"
    )
    # Widgets forget what they hold once their key changes; what was taken is in the session. Their callbacks may come
    # twice when a run is broken off, so they say of which turn they are.
    turn, limits = st.session_state.setdefault(_TURN, 0), context.limits
    if source == _FILES:
        st.file_uploader(
            "Pictures and videos",
            accept_multiple_files=True,
            key=f"identify-files-{turn}",
            max_upload_size=int(max(limits.picture_mb, limits.video_mb)),
            on_change=_take_files,
            args=(context, turn),
        )
        st.caption(
            f"{uploads.FORMATS}. Pictures up to {limits.picture_mb:g} MB and {limits.megapixels:g} megapixels, videos "
            f"up to {limits.video_mb:g} MB and {limits.video_minutes:g} minutes, {limits.pictures} files at once."
        )
        paste("identify-paste", limits, partial(_take_pasted, context))
    elif source == _CAMERA:
        st.camera_input("Take a picture", key=f"identify-camera-{turn}", on_change=_take_shot, args=(context, turn))
    else:
        _choose_sample(context, samples)
    if refused := st.session_state.get(_REFUSED):
        st.warning("\n\n".join(map(plain, refused)))
    return str(source)


def _take(context: Context, files: Iterable[tuple[str, bytes]]) -> None:
    st.session_state[_REFUSED] = uploads.take(context.session, files, context.limits)
    st.session_state[_TURN] += 1


def _take_files(context: Context, turn: int) -> None:
    given = st.session_state.get(f"identify-files-{turn}")
    if given and turn == st.session_state[_TURN]:
        _take(context, [(file.name, file.getvalue()) for file in given])


def _take_shot(context: Context, turn: int) -> None:
    shot = st.session_state.get(f"identify-camera-{turn}")
    if shot is not None and turn == st.session_state[_TURN]:
        _take(context, [("camera.jpg", shot.getvalue())])


def _take_pasted(context: Context) -> None:
    if sent := st.session_state["identify-paste"].get("pasted"):
        _take(context, pasted(sent))


def _take_sample(context: Context, path: Path) -> None:
    try:
        _take(context, [(path.name, path.read_bytes())])
    except OSError as error:
        st.session_state[_REFUSED] = [f"{path.name} cannot be read: {error.strerror}."]


def _samples() -> list[Path]:
    """The sample's scenes and clip, where the app runs in a project that has them."""
    return [*sorted((_SAMPLE / "scenes").glob("*.jpg"))[:8], *_SAMPLE.glob("clip.mp4")]


def _choose_sample(context: Context, samples: Sequence[Path]) -> None:
    with st.container(horizontal=True, key="identify-samples"):
        for path in samples:
            called = path.stem.replace("_", " ").capitalize() + (" (video)" if path.suffix == ".mp4" else "")
            with st.container(width=150):
                if path.suffix == ".jpg":
                    st.image(str(path), width=150, alt="")
                st.button(
                    plain(short(called)),
                    key=f"identify-sample-{path.name}",
                    icon=":material/movie:" if path.suffix == ".mp4" else None,
                    width="stretch",
                    on_click=_take_sample,
                    args=(context, path),
                )


# What was seen


def _show_results(context: Context, model: Model) -> None:
    cast = enrol.cast_of(model, context.session.enrolled)
    shown = [(upload, _job(context, model, cast, upload)) for upload in context.session.uploads]
    _offer_all(context, cast, shown)
    pending: list[tuple[Job, DeltaGenerator]] = []
    for upload, job in shown:
        with st.container(border=True):
            ended = job.ended.is_set()
            with st.container(horizontal=True, vertical_alignment="center"):
                st.header(plain(short(upload.name, 60)), anchor=False)
                st.button(
                    "Remove" if ended else "Cancel",
                    key=f"identify-remove-{upload.sha256}",
                    icon=":material/close:",
                    type="tertiary",
                    on_click=_remove,
                    args=(context, [upload], [job]),
                )
            if ended:
                _show_one(context, model, cast, upload, job)
            else:
                pending.append((job, st.empty()))
                _show_state(*pending[-1])
    if pending:
        _look_again(pending)


def _job(context: Context, model: Model, cast: Cast, upload: Upload, again: bool = False) -> Job:
    told = {"sha256": upload.sha256, "visitor": context.session.visitor}
    if uploads.is_video(upload):
        return context.workers.video(upload.data, model, cast, **told, again=again)
    return context.workers.picture(upload.data, model, **told, again=again)


def _remove(context: Context, gone: Sequence[Upload], jobs: Sequence[Job]) -> None:
    context.workers.cancel([job for job in jobs if not job.ended.is_set()], context.session.visitor)
    context.session.uploads[:] = [upload for upload in context.session.uploads if upload not in gone]
    st.session_state[_REFUSED] = []


def _show_state(job: Job, slot: DeltaGenerator) -> None:
    """What a job that has not ended is at."""
    if job.state == "waiting":
        slot.markdown(":material/hourglass_empty: Waiting for its turn")
    elif job.share is None:
        slot.markdown(":material/hourglass_top: Looking for faces")
    else:
        slot.progress(min(max(job.share, 0.0), 1.0), f"Looking for faces: {job.share:.0%} of the video")


@st.fragment(run_every=_AGAIN)
def _look_again(pending: Sequence[tuple[Job, DeltaGenerator]]) -> None:
    """Follow what has not ended; once something has, the page is drawn anew."""
    for job, slot in pending:
        _show_state(job, slot)
    pending[0][0].wait(_WAIT)
    if any(job.ended.is_set() for job, _ in pending):
        st.rerun()


@st.fragment
def _show_one(context: Context, model: Model, cast: Cast, upload: Upload, job: Job) -> None:
    """A result; whatever goes wrong with it is said in its place, and the others stay."""
    try:
        if isinstance(job.result, Picture):
            _show_picture(context, model, cast, upload, job.result)
        elif isinstance(job.result, Footage):
            _show_video(upload, job.result)
        else:
            st.error(plain(job.error))
            if job.again and st.button("Try again", key=f"identify-again-{upload.sha256}", icon=":material/refresh:"):
                _job(context, model, cast, upload, again=True)
                st.rerun()
    except Exception:
        _LOG.exception("a result cannot be shown")
        st.error("This result cannot be shown. The server's log says why.")


def _show_picture(context: Context, model: Model, cast: Cast, upload: Upload, picture: Picture) -> None:
    people = results.people_of(picture, cast)
    left, right = st.columns([3, 2], gap="medium")
    chosen = None
    if not people:
        right.info(
            "No face was found. Faces have to be upright and about 30 pixels wide or more; those that are hidden, or "
            "seen from the side, may be missed."
        )
    with right:
        if people:
            chosen = _choose_face(upload, people)
            _show_face(context, cast, upload, picture, people[chosen], chosen)
    with left:
        place = f"identify-faces-{upload.sha256}"
        faces(place, picture, people, chosen, partial(_on_chosen, place, _choice(upload)))
        looked = [(upload.name, picture, people)]
        with st.container(horizontal=True):
            _offer("JSON", partial(_json, [results.described(*looked[0])]), upload, ".json", "application/json")
            _offer("CSV", partial(_csv, looked), upload, ".csv", "text/csv")
            _offer("Picture", partial(results.drawn, picture, people), upload, ".named.jpg", "image/jpeg")
        many = f"{len(people)} {'face' if len(people) == 1 else 'faces'}"
        st.caption(f"{many}, {picture.width} × {picture.height} pixels, {picture.seconds:.1f} s")


def _choice(upload: Upload) -> str:
    return f"identify-face-{upload.sha256}"


def _on_chosen(place: str, choice: str) -> None:
    """A face in the picture was clicked: the list beside it follows."""
    chosen = st.session_state[place].get("chosen")
    if isinstance(chosen, int):
        st.session_state[choice] = chosen


def _choose_face(upload: Upload, people: Sequence[Person]) -> int:
    def called(i: int) -> str:
        return plain(f"{i + 1}: {results.label(people[i].name)}")

    key, numbers = _choice(upload), range(len(people))
    if st.session_state.get(key) not in numbers:
        st.session_state[key] = 0
    chosen = st.pills("Faces, from left to right", numbers, format_func=called, required=True, key=key, wrap=True)
    return 0 if chosen is None else chosen


def _show_face(context: Context, cast: Cast, upload: Upload, picture: Picture, person: Person, index: int) -> None:
    face, name = picture.faces[index], person.name
    with st.container(horizontal=True):
        st.image(face.chip, width=112, alt=f"Face {index + 1}")
        with st.container(width="stretch"):
            st.markdown(f"### {plain(short(name.shown))}")
            if name.known:
                st.markdown(plain(f"Confidence {certainty(name.confidence)}"))
            st.caption(results.verdict(name, cast))
    st.markdown("**Nearest people**" if name.known else "**Nearest people**, if it were somebody of the cast")
    for nearest, confidence in results.nearest(name, cast.people):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            for chip in _exemplars(context, nearest):
                st.image(chip, width=40, alt="")
            with st.container(width="stretch"):
                st.progress(confidence, plain(f"{short(nearest)}, {certainty(confidence)}"))
    st.caption(plain(results.margin(name, cast.people)))
    st.markdown("**Quality**")
    reason = results.poor(face.quality)
    if reason:
        st.markdown(f":material/warning: Poor: {plain(reason)}. The name is less to be relied on.")
    st.caption(results.quality_words(face.quality))
    parts.ask_about(context, upload, picture, index, name)


def _exemplars(context: Context, person: str) -> list[bytes]:
    """Faces of somebody of the cast, or who was added for this visit."""
    model = context.model
    if model is None:
        return []
    for one in context.session.enrolled:
        if one.name == person and one.key == model.key:
            return list(one.chips[:3])
    return gallery.exemplars(model, person, 3)


def _show_video(upload: Upload, footage: Footage) -> None:
    if footage.warning:
        st.warning(plain(f"Not all of it can be read: {footage.warning}."))
    player = f"identify-player-{upload.sha256}"
    left, right = st.columns([2, 3], gap="medium")
    with left, st.container(key=player):
        st.video(upload.data, uploads.video_type(upload))
    with right:
        if footage.appearances:
            timeline(f"identify-timeline-{upload.sha256}", footage, player)
        else:
            st.info("No face was found in this video.")
        st.caption(f"{clock(footage.length)} long, {footage.frames} frames looked at, in {footage.seconds:.1f} s")
        with st.container(horizontal=True):
            told = results.described(upload.name, footage)
            _offer("JSON", partial(_json, [told]), upload, ".people.json", "application/json")
            _offer("CSV", partial(_appearances, footage), upload, ".people.csv", "text/csv")
    if footage.appearances:
        with st.expander(f"Table of {len(footage.appearances)} appearances"):
            _show_table(footage)


def _show_table(footage: Footage) -> None:
    seen = footage.appearances
    with st.container(height=480 if len(seen) > _ROWS else "content"):
        st.table(
            {
                "Who": [plain(short(one.label)) for one in seen],
                "From": [clock(one.start) for one in seen],
                "To": [clock(one.end) for one in seen],
                "Confidence": [plain(certainty(one.confidence)) if one.known else "" for one in seen],
            }
        )
        with st.container(horizontal=True):
            for one, still in zip(seen, footage.stills, strict=True):
                with st.container(width=96):
                    st.image(still, caption=plain(f"{short(one.label, 20)} {clock(one.start)}"), width=96, alt="")


# To take away


def _offer_all(context: Context, cast: Cast, shown: Sequence[tuple[Upload, Job]]) -> None:
    """Downloads of everything that was looked at, and a way to begin anew."""
    looked = [
        (upload.name, job.result, results.people_of(job.result, cast))
        for upload, job in shown
        if isinstance(job.result, Picture)
    ]
    ended = [(upload, job) for upload, job in shown if job.ended.is_set()]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{len(ended)} of {len(shown)} looked at" if len(ended) < len(shown) else _count(len(shown)))
        if len(shown) > 1:
            if ended:
                told = partial(_json_of, cast, ended)
                _offer("All as JSON", told, None, ".json", "application/json")
            if looked:
                _offer("All as CSV", partial(_csv, looked), None, ".csv", "text/csv")
                _offer("All pictures", partial(results.archive, looked), None, ".zip", "application/zip")
            st.button(
                "Remove all",
                icon=":material/close:",
                type="tertiary",
                on_click=_remove,
                args=(context, [upload for upload, _ in shown], [job for _, job in shown]),
            )


def _count(files: int) -> str:
    return f"{files} {'file' if files == 1 else 'files'}"


def _offer(words: str, data: partial[bytes], upload: Upload | None, ending: str, media_type: str) -> None:
    """A download, made once it is asked for."""
    st.download_button(
        words,
        data,
        results.file_name(upload.name if upload else "identified", ending),
        media_type,
        key=f"identify-download-{upload.sha256 if upload else 'all'}-{words}",
        icon=":material/download:",
        on_click="ignore",
    )


def _json(told: object) -> bytes:
    return (json_text(told) + "\n").encode()


def _json_of(cast: Cast, ended: Sequence[tuple[Upload, Job]]) -> bytes:
    told = []
    for upload, job in ended:
        if job.result is None:
            told.append({"video" if uploads.is_video(upload) else "image": upload.name, "error": job.error})
        else:
            people = results.people_of(job.result, cast) if isinstance(job.result, Picture) else ()
            told.append(results.described(upload.name, job.result, people))
    return _json(told)


def _csv(looked: Sequence[results.Looked]) -> bytes:
    return results.pictures_csv(looked).encode("utf-8", "replace")


def _appearances(footage: Footage) -> bytes:
    return appearances_csv(footage.appearances).encode("utf-8", "replace")

"""The side bar: which model is tried, and what to know of it."""

from pathlib import Path

import streamlit as st

from castline.app.models import WORKSPACE, Fetch, Fetches, Model, Released, files_of, opened, released
from castline.app.pages.parts import tell
from castline.app.settings import AppSettings
from castline.app.words import plain
from castline.errors import BundleError, CastlineError
from castline.evaluation.words import percent
from castline.text import short

__all__ = ["choose"]

_MODEL, _FILE = "chosen model", "chosen file"
_COMMERCIAL = {
    "yes": "Its licence allows commercial use.",
    "no": "Its licence does **not** allow commercial use.",
}


@st.cache_resource(show_spinner=False)
def _fetches() -> Fetches:
    return Fetches()


@st.cache_resource(show_spinner="Looking for versions", ttl=10)
def _released(folder: Path) -> list[Released]:
    return released()


def choose(settings: AppSettings) -> Model | None:
    """The model that the visitor has chosen; None, and why, where there is none or it is not here yet."""
    try:
        name, folder = _ask_for_model(settings)
        if folder is None:
            return None
        if name == WORKSPACE and not (folder / "bundle.json").is_file():
            where = plain(short(str(folder), 60))
            st.info(f"There is no model in {where}. `dvc repro` makes one; if it is running, wait until it has ended.")
        else:
            return _ask_for_file(_opened(name, folder))
    except CastlineError as error:
        tell(error)
    st.button("Look again")
    return None


def _ask_for_model(settings: AppSettings) -> tuple[str, Path | None]:
    """Its name, and the folder of its bundle if that is here."""
    try:
        versions = {version.name: version for version in _released(Path.cwd())}
    except CastlineError as error:
        versions = {}
        tell(error)
    names = [WORKSPACE, *versions]
    if settings.version and settings.version not in names:
        st.warning(f"There is no version {plain(short(settings.version))} here.")
    first = names.index(settings.version) if settings.version in names else 0

    def say(name: str) -> str:
        return " · ".join((name, *(short(stage) for stage in versions[name].stages))) if name in versions else _here

    _here = "the working folder's"
    name = st.selectbox("Model", names, first, say, key=_MODEL)
    if name not in versions:
        return WORKSPACE, Path(settings.bundle)
    found = _fetches().bundle(versions[name])
    if isinstance(found, Path):
        return name, found
    if found.error is None:
        _wait(name, found)
    else:
        tell(found.error)
        st.button("Fetch it again", on_click=_fetches().again, args=(versions[name],))
    return name, None


@st.fragment(run_every=0.5)
def _wait(name: str, fetch: Fetch) -> None:
    if fetch.ended.done():
        st.rerun()
    size = f" ({fetch.size / 1e6:.0f} MB)" if fetch.size else ""
    st.progress(fetch.share or 0.0, f"Fetching {plain(name)}{size}")


def _ask_for_file(model: Model) -> Model:
    files = files_of(model.bundle)

    def say(file: str) -> str:
        found = model.bundle.files[file]
        return f"{file} · {found.bytes / 1e6:.1f} MB · {found.latency_ms:.1f} ms"

    file = st.selectbox("File", files, format_func=say, key=_FILE, help="Size, and time for one face on one thread.")
    chosen = model if file in (model.file, None) else _opened(model.name, model.folder, file)
    _facts(chosen)
    return chosen


def _opened(name: str, folder: Path, file: str = "") -> Model:
    """Raises: BundleError. Of a version, it speaks of that, and not of where it lies on this machine."""
    try:
        return opened(name, folder, file)
    except CastlineError as error:
        if name == WORKSPACE:
            raise
        raise BundleError(error.what.replace(str(folder), name), "choose another version") from error


def _facts(model: Model) -> None:
    """What to know before one believes it."""
    file, provenance = model.bundle.files[model.file], model.bundle.provenance
    base = provenance.get("base_model") if isinstance(provenance, dict) else None
    base = base if isinstance(base, dict) else {}
    fpir = model.bundle.unknown.get("fpir")
    lines = [
        f"Names **{len(model.bundle.people)} people**; {percent(file.top1)} of test faces right (top-1).",
        "Nobody is called unknown: there is no threshold."
        if file.threshold is None
        else f"Unknown below a {plain(str(model.cast.by))} of {file.threshold:.3f}"
        + (f": {100 * fpir:g}\u00a0% of strangers are named (FPIR)." if isinstance(fpir, float) else "."),
        f"Base model {', '.join(plain(short(str(base.get(key, 'unknown')))) for key in ('name', 'licence'))}. "
        + _COMMERCIAL.get(str(base.get("commercial_ok")), "Whether it may be used commercially is **not known**."),
    ]
    for line in lines:
        st.caption(line)

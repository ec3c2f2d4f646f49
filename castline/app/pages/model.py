"""What the model is worth, where it comes from, and versions side by side."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import streamlit as st

from castline.app.about import About, Pair, about, card_of, pair_of, report_of
from castline.app.components.report import show_report
from castline.app.context import Context
from castline.app.models import WORKSPACE, Model, released
from castline.app.pages.parts import tell
from castline.app.pipeline import Dag, Pipeline, Stale, drawn
from castline.app.words import plain
from castline.errors import CastlineError
from castline.evaluation.words import number, percent
from castline.text import short

__all__ = ["show"]

_LONG = re.compile(r"((?:\\.|[^\s\\]){14})(?=\S)")
_ROWS = 20  # of a table, before the rest is folded away


def show(context: Context) -> None:
    """The page."""
    st.title("Model")
    of_model = {"Report": _report, "Model card": _card, "Data": _data}
    of_project = {"Versions side by side": _versions, "Pipeline": _pipeline}
    names = ("Report", "Versions side by side", "Model card", "Data", "Pipeline")
    for name, tab in zip(names, st.tabs(names, key="model_tabs", on_change="rerun"), strict=True):
        if not tab.open:
            continue
        with tab:
            try:
                if name in of_project:
                    of_project[name](context.model)
                elif context.model is not None:
                    of_model[name](about(context.model), context.model)
                else:
                    st.info(
                        "No model is open. Choose one in the side bar and wait until it is here, or make one: "
                        "`dvc repro`."
                    )
            except CastlineError as error:
                tell(error)


def _report(facts: About, model: Model) -> None:
    from castline.versions.card import interval

    file, measured = model.bundle.files[model.file], facts.files.get(model.file, {})
    faces = measured.get("faces") or facts.metrics.get("n_test")
    fpir, ece = model.bundle.unknown.get("fpir"), measured.get("ece", facts.metrics.get("ece"))
    strangers = f"{100 * fpir:g} % of strangers named (FPIR)" if isinstance(fpir, float) else ""
    with st.container(horizontal=True):
        known = interval({"top1": file.top1, "faces": faces})
        _metric("Named right (top-1)", percent(file.top1), f"95 % interval {known}" if known else "")
        _metric("Named right and known (TPIR)", percent(file.tpir), strangers if file.tpir is not None else "")
        _metric("Confidence is off by (ECE)", percent(ece), "on average")
        _metric("People", f"{len(model.bundle.people):,}", f"{int(faces):,} test faces" if faces else "")
    html = report_of(model)
    if html is None:
        st.info(
            "There is no report of this model here. `dvc repro evaluate` writes one; of a version, it is fetched with "
            "the model, from DVC's cache or its remote."
        )
        return
    st.download_button(
        "Download the report",
        html,
        f"report-{model.name}.html",
        "text/html",
        icon=":material/download:",
        on_click="ignore",
    )
    show_report(html, f"Report of {model.name}")


def _metric(label: str, value: str, beside: str) -> None:
    st.metric(label, value, beside or None, delta_color="off", delta_arrow="off", width="content")


def _versions(model: Model | None) -> None:
    names = [WORKSPACE, *(version.name for version in released())]
    if len(names) == 1:
        st.info(
            "There is no released version to compare with. `castline release minor` makes one of what is committed; "
            "`git fetch --tags` brings those of colleagues."
        )
        return
    left, right = st.columns(2)
    chosen = model.name if model and model.name in names else WORKSPACE
    newer = names.index(chosen)
    older = newer + 1 if newer + 1 < len(names) else newer - 1
    one = left.selectbox("Before", names, older, key="version_before")
    two = right.selectbox("Now", names, newer, key="version_now")
    if one == two:
        st.info("Choose two versions that are not the same.")
        return
    _compared(pair_of(one, two), one, two)


def _compared(pair: Pair, before: str, now: str) -> None:
    found, changes = pair.found, pair.changes
    if found["bundle_md5"][0] == found["bundle_md5"][1] is not None:
        st.success("Both are the same model, bit for bit.")
    top1 = found["metrics"].get("top1", (None, None))
    if changes.chance and top1[0] != top1[1]:
        st.caption("The 95 % intervals of top-1 overlap: the difference may be chance.")
    st.subheader("Measured")
    rows = [
        [one.name.replace("_", " "), number(one.before), number(one.now), _difference(one.before, one.now)]
        for one in (*changes.measures, *changes.others)
    ]
    _table(["measure", before, now, "difference"], rows, "Nothing is known of how good they are.")
    st.subheader("Files")
    _table(["file", *pair.measured], pair.files, "Nothing is known of their files.")
    st.subheader("Taken for somebody else")
    _table(
        ["who", "was taken for", before, now],
        [[c.actual, c.predicted, str(c.before), str(c.now)] for c in pair.confusions],
        "No wrong name is given more often or less.",
    )
    st.caption("Test faces; what has become worse most comes first.")
    st.subheader("Named right, by person")
    moved = [*changes.worse, *reversed(changes.better)]
    _table(
        ["person", before, now],
        [[c.name, f"{c.before[0]} of {c.before[1]}", f"{c.now[0]} of {c.now[1]}"] for c in moved],
        "Nobody is named right more often or less.",
    )
    st.subheader("People and photos")
    people = found["people"]
    if people is None:
        st.caption("Who was added or removed is not known here: dvc pull brings bundle.json of both.")
    else:
        rows = [[name, key] for key in ("added", "removed") for name in people[key]]
        _table(["person", "since"], rows, "The same people.")
    _table(["batch", before, now], _said(found["data"]), "The same photos.")
    st.subheader("Settings")
    _table(["setting", before, now], _said(found["params"]), "The same settings.")


def _card(facts: About, model: Model) -> None:
    text = card_of(model, facts)
    if model.name == WORKSPACE:
        st.caption("This is not released: it is the card that castline release would write now.")
    if not text:
        st.info("This version has no model card: MODEL_CARD.md is not in its commit.")
        return
    with st.container(key="model_card"):
        st.markdown(text)


def _data(facts: About, model: Model) -> None:
    from castline.versions.card import left_out, origins

    st.subheader("Batches")
    rows = [[batch.name, number(batch.files), batch.md5 or "unknown"] for batch in facts.batches]
    _table(["batch", "files", "md5 of all that is in it"], rows, "It is not known which photos it was made from.")
    st.subheader("What became of the photos")
    if (left := left_out(facts)) is None:
        st.caption("Not known: there is no reports/dataset.json.")
    else:
        kept, dropped = facts.photos.get("kept"), sum(count for kind, _, count in left["reasons"] if kind == "face")
        strangers = left["faces"] - int(kept) - dropped if kept is not None else 0
        st.markdown(
            f"{left['photos']:,} photos came in, and {left['faces']:,} faces were found"
            + (f"; {int(kept):,} faces of the cast are used" if kept is not None else "")
            + (f", and {strangers:,} of strangers." if strangers > 0 else ".")
        )
        counts = [[kind, reason, f"{count:,}"] for kind, reason, count in left["reasons"]]
        _table(["what", "why it is not used", "count"], counts, "All are used.")
        sides = [
            [side, number(facts.photos[f"splits.{side}"])]
            for side in ("train", "val", "test")
            if f"splits.{side}" in facts.photos
        ]
        _table(["split", "faces"], sides, "")
    st.subheader("What labellers said")
    rows = [[name.replace("_", " ").replace(".", ": "), number(value)] for name, value in facts.labels.items()]
    if not facts.labels.get("photos"):
        st.caption("Nobody has labelled a photo of these in Label Studio: names are those of the folders.")
    else:
        _table(["counted", "value"], rows, "")
    st.subheader("Where the photos come from")
    if (found := origins(facts)) is None:
        st.caption("Not on record: labels/manifests has no list for these batches. castline collect writes them.")
        return
    rows = [
        [what, name, f"{count:,}"]
        for what, key in (("source", "hosts"), ("licence", "licences"), ("consent of the people shown", "consent"))
        for name, count in found[key]
    ]
    if found["unknown"]:
        rows.append(["source", "no line in the lists", f"{found['unknown']:,}"])
    _table(["what", "on record", "photos"], rows, "")


@st.cache_resource(show_spinner=False)
def _pipelines(folder: Path) -> Pipeline:
    return Pipeline()


def _pipeline(model: Model | None) -> None:
    if not Path("dvc.yaml").is_file():
        st.info("There is no pipeline in this folder. `castline app` shows it where it is started in a project.")
        return
    pipeline = _pipelines(Path.cwd())
    st.button(
        "Check what is stale",
        icon=":material/sync:",
        on_click=pipeline.check,
        help="Asks `dvc status`: seconds, or longer where many photos are new. Nothing is run or changed.",
    )
    asked = [future for future in (pipeline.dag(), pipeline.stale) if future is not None]
    if not all(future.done() for future in asked):
        _wait_for(asked)
        return
    graph, *rest = (_answer(future) for future in asked)
    if graph is None:
        return
    found = rest[0] if rest else None
    _drawn(graph, found)


@st.fragment(run_every=0.5)
def _wait_for(asked: Sequence[Future[Any]]) -> None:
    if all(future.done() for future in asked):
        st.rerun()
    st.status("Asking DVC")


def _answer(future: Future[Any]) -> Any:
    error = future.exception()
    if error is None:
        return future.result()
    tell(error if isinstance(error, CastlineError) else CastlineError(type(error).__name__))
    return None


def _drawn(graph: Dag, found: Stale | None) -> None:
    if found is None:
        st.caption("Whether it is up to date is not known: nobody has checked.")
    elif found:
        st.markdown(
            f"**Stale: {len(found)} of {len(graph.stages)}.** `dvc repro` runs these, and what follows from them."
        )
    else:
        st.success("All is up to date.")
    with st.container(width=640):  # as wide, or as a phone is
        st.graphviz_chart(drawn(graph, found), width="stretch", alt="The stages, and what follows from what")
    if found:
        _table(["stale", "why"], [[stage, "; ".join(why)] for stage, why in found.items()], "")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], otherwise: str) -> None:
    """A table; text of anybody's in it stays text."""
    if not rows:
        if otherwise:
            st.caption(otherwise)
        return
    data = [
        {
            plain(short(name)) or " " * (i + 1): _cell(cell)
            for i, (name, cell) in enumerate(zip(header, row, strict=True))
        }
        for row in rows
    ]
    st.table(data[:_ROWS], hide_index=True)
    if len(data) > _ROWS:
        with st.expander(f"{len(data) - _ROWS} more"):
            st.table(data[_ROWS:], hide_index=True)


def _cell(text: str) -> str:
    """It may be broken within long words, so that a phone has room for the table: a box that scrolls cannot be scrolled
    by keyboard.
    """
    return _LONG.sub("\\1\u200b", plain(short(text, 120))) if text else ""


def _said(pairs: Mapping[str, Sequence[Any]]) -> list[list[str]]:
    return [[key, *("–" if value is None else str(value) for value in pair)] for key, pair in pairs.items()]


def _difference(before: float | None, now: float | None) -> str:
    if before is None or now is None or before == now:
        return ""
    return f"{now - before:+,}" if isinstance(before, int) and isinstance(now, int) else f"{now - before:+.4f}"

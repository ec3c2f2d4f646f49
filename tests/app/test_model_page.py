"""The page about the model, and the side bar's choice, as Streamlit runs them without a browser."""

import base64
from pathlib import Path

import pytest
from app_releases import HOSTILE
from streamlit.testing.v1 import AppTest

from castline.app.components import report
from castline.app.components.report import address
from castline.app.words import plain


def page(bundle: str) -> None:
    """A script: the page, of the model in a folder."""
    from pathlib import Path

    from castline.app.context import Context
    from castline.app.limits import Limits
    from castline.app.models import WORKSPACE, opened
    from castline.app.pages.model import show
    from castline.app.session import Session
    from castline.app.work import Workers

    model = opened(WORKSPACE, Path(bundle)) if bundle else None
    show(Context(model, Workers(Limits()), Limits(), Session()))


def side_bar(bundle: str, version: str) -> None:
    """A script: the choice, and what was chosen."""
    import streamlit as st

    from castline.app.chooser import choose
    from castline.app.settings import AppSettings

    model = choose(AppSettings(bundle, version))
    st.text(f"{model.name} {model.file}" if model else "none")


def shown(bundle: str, tab: str = "Report") -> AppTest:
    test = AppTest.from_function(page, args=(bundle,), default_timeout=60)
    test.session_state["model_tabs"] = tab
    test.run()
    assert not test.exception
    return test


def said(test: AppTest) -> str:
    """All words of the page that are no table."""
    return "\n".join(str(element.value) for element in (*test.markdown, *test.caption, *test.info, *test.error))


@pytest.fixture
def here(versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(versions)
    monkeypatch.setenv("CASTLINE_CACHE", str(tmp_path))
    return versions


def test_the_report_has_the_measures_above_it(here: Path) -> None:
    test = shown("models/recognizer")
    assert {one.label: one.value for one in test.metric} == {
        "Named right (top-1)": "50.0 %",
        "Named right and known (TPIR)": "–",
        "Confidence is off by (ECE)": "2.0 %",
        "People": "4",
    }
    assert test.metric[0].delta.startswith("95 % interval ")


def test_a_report_is_closed_before_it_begins() -> None:
    kind, _, data = address(b"<!doctype html><script>1</script>").partition(",")
    assert kind == "data:text/html;charset=utf-8;base64"
    before, after = base64.b64decode(data).split(b"<script>")
    assert before.index(b"default-src 'none'") < before.rindex(b"<!doctype")
    assert after == b"1</script>"
    assert 'setAttribute("sandbox", "")' in Path(report.__file__).with_name("report.js").read_text()


def test_versions_are_compared(here: Path) -> None:
    test = shown("models/recognizer", "Versions side by side")
    assert [box.value for box in test.selectbox] == ["v0.2.0", "workspace"]
    assert "the same model, bit for bit" in test.success[0].value
    test.selectbox(key="version_before").set_value("v0.1.0").run()
    tables = [table.value for table in test.table]
    confused = next(table for table in tables if "was taken for" in "".join(table.columns))
    assert confused.iloc[0, 0] == "ann"
    assert confused.iloc[0, 1].replace("\u200b", "") == plain(HOSTILE)  # and nothing that Markdown makes something of
    assert list(confused.iloc[0, 2:]) == ["0", "1"]
    test.selectbox(key="version_now").set_value("v0.1.0").run()
    assert "not the same" in test.info[0].value


def test_data_and_where_it_comes_from(here: Path) -> None:
    test = shown("models/recognizer", "Data")
    assert "9 photos came in, and 8 faces were found; 6 faces of the cast are used, and 1 of strangers." in said(test)
    cells = [list(map(str, row)) for table in test.table for row in table.value.values.tolist()]
    assert ["face", "too small", "1"] in cells
    assert ["photos", "2"] in cells
    assert cells[0][0:2] == ["first", "1"]


def test_the_card_of_what_is_not_released(here: Path) -> None:
    assert "names 4 people" in said(shown("models/recognizer", "Model card"))


@pytest.mark.parametrize("tab", ["Report", "Versions side by side", "Pipeline"])
def test_without_a_project_or_a_model_the_page_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tab: str
) -> None:
    monkeypatch.chdir(tmp_path)
    test = shown("", tab)
    assert len(test.info) == 1
    assert "`" in test.info[0].value  # a command


def test_a_bundle_alone_can_be_told_of(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    test = shown(str(model_folder))
    assert test.metric[3].value == "4"
    assert "no report" in test.info[0].value
    assert "not known which photos" in said(shown(str(model_folder), "Data"))


def test_the_side_bar_offers_versions_and_fetches_the_one_that_is_asked_for(here: Path) -> None:
    test = AppTest.from_function(side_bar, args=("models/recognizer", "v0.1.0"), default_timeout=60).run()
    assert test.selectbox(key="chosen model").options == ["the working folder's", "v0.2.0", "v0.1.0 · prod"]
    for _ in range(600):
        if test.text[0].value != "none":
            break
        test.run()
    assert not test.exception
    assert test.text[0].value == "v0.1.0 float32"
    assert any("4 people" in caption.value for caption in test.caption)
    test.selectbox(key="chosen model").set_value("workspace").run()
    assert test.text[0].value == "workspace float32"


def test_the_side_bar_says_how_a_model_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    test = AppTest.from_function(side_bar, args=("models/recognizer", "v7.0.0"), default_timeout=60).run()
    assert test.text[0].value == "none"
    assert "`dvc repro` makes one" in test.info[0].value
    assert "no version" in test.warning[0].value

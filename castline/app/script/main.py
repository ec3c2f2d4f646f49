"""The script that Streamlit runs for each visitor: the pages, and the model they are about."""

import sys
from pathlib import Path

import streamlit as st

from castline.app.chooser import choose
from castline.app.context import Context
from castline.app.limits import Limits
from castline.app.pages import corrections, identify, model, people
from castline.app.session import session
from castline.app.settings import AppSettings
from castline.app.work import Workers

__all__ = ["main"]

_ICON = Path(__file__).with_name("icon.svg")  # one of Streamlit's would be loaded from the internet


@st.cache_resource(show_spinner=False)
def _workers(limits: Limits) -> Workers:
    return Workers(limits)


def main() -> None:
    """A page."""
    st.set_page_config(page_title="Castline", page_icon=str(_ICON), layout="wide")
    settings = AppSettings.of_arguments(sys.argv[1:])
    shown = session()

    def page(show: object) -> None:
        show(Context(chosen, _workers(settings.limits), settings.limits, shown))  # type: ignore[operator]

    waiting = len(shown.corrections)
    pages = [
        st.Page(
            lambda: page(identify.show), title="Identify", icon=":material/face:", url_path="identify", default=True
        ),
        st.Page(lambda: page(people.show), title="People", icon=":material/group:", url_path="people"),
        st.Page(
            lambda: page(corrections.show),
            title=f"Corrections ({waiting})" if waiting else "Corrections",
            icon=":material/edit_note:",
            url_path="corrections",
        ),
        st.Page(lambda: page(model.show), title="Model", icon=":material/analytics:", url_path="model"),
    ]
    turned_to = st.navigation(pages)
    with st.sidebar:
        chosen = choose(settings)
    turned_to.run()


main()

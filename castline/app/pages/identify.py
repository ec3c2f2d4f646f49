"""Who is in a picture or a video."""

import streamlit as st

from castline.app.context import Context

__all__ = ["show"]


def show(context: Context) -> None:
    """The page."""
    st.title("Identify")

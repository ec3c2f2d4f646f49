"""What was said to be wrong, before it is written as labels."""

import streamlit as st

from castline.app.context import Context

__all__ = ["show"]


def show(context: Context) -> None:
    """The page."""
    st.title("Corrections")

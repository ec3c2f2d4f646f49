"""What the model is worth, where it comes from, and versions side by side."""

import streamlit as st

from castline.app.context import Context

__all__ = ["show"]


def show(context: Context) -> None:
    """The page."""
    st.title("Model")

"""Whom the model knows: look, enrol, forget."""

import streamlit as st

from castline.app.context import Context

__all__ = ["show"]


def show(context: Context) -> None:
    """The page."""
    st.title("People")

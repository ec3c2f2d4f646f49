"""Parts of a page that Streamlit does not have, each with its script and style beside it, in a shadow root.

Whatever is in their data reaches the page as text or as an attribute, never as HTML.
"""

import base64
from pathlib import Path

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

__all__ = ["load", "picture_url"]

_FOLDER = Path(__file__).parent


def load(name: str) -> ComponentRenderer:
    """The component of NAME.js and NAME.css."""
    js, css = ((_FOLDER / f"{name}{ending}").read_text("utf-8") for ending in (".js", ".css"))
    return st.components.v2.component(f"castline_{name}", html='<div class="root"></div>', css=css, js=js)


def picture_url(jpeg: bytes) -> str:
    """A JPEG for the `src` of an image."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"

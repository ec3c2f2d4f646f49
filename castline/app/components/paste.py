"""A picture from the clipboard: Streamlit's own uploader takes none."""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from castline.app.components import load
from castline.app.limits import Limits

__all__ = ["paste", "pasted"]

_mount = load("paste")


def paste(key: str, limits: Limits, on_pasted: Callable[[], None]) -> None:
    """A button that takes the picture in the clipboard; Ctrl+V anywhere on the page does the same.

    on_pasted: called with what came in `st.session_state[key].pasted`, to be read by `pasted`.
    """
    _mount(key=key, data={"megabytes": limits.picture_mb}, on_pasted_change=on_pasted)


def pasted(sent: Any) -> list[tuple[str, bytes]]:
    """Name and content of what the browser sent; nothing of what is not as it should be."""
    if not isinstance(sent, Mapping) or not isinstance(sent.get("name"), str) or not isinstance(sent.get("data"), str):
        return []
    try:
        return [(sent["name"], base64.b64decode(sent["data"], validate=True))]
    except (binascii.Error, ValueError):
        return []

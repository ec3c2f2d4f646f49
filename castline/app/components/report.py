"""A report in a frame that lets it do nothing: no script, no form, no address of the app's, nothing loaded."""

import base64

from castline.app.components import load

__all__ = ["address", "show_report"]

_frame = load("report")
# A report of ours says the same of itself. A version's report may be somebody else's. The browser heeds it before it
# reads on, and passes over the document type that the report brings.
_CLOSED = (
    b'<!doctype html><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    b"style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
)


def show_report(html: bytes, title: str) -> None:
    """A page of its own within this one. html: UTF-8. title: what it is, for those who do not see it."""
    _frame(data={"address": address(html), "title": title}, key="report")


def address(html: bytes) -> str:
    """A page as the address of itself, closed."""
    return "data:text/html;charset=utf-8;base64," + base64.b64encode(_CLOSED + html).decode()

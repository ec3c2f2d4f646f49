"""Words on a page that somebody else has chosen: names of people and files, shown as they are."""

import re

from castline.text import shown

__all__ = ["plain"]

# Between characters that Streamlit makes something of even where they are escaped: emoji (:smile:), icons, arrows (->),
# addresses. It is invisible, and `shown` text has none.
_APART = "\u2060"
_TOGETHER = re.compile(r"(?<=[:@<>=~-])(?=\S)|(?<=www)(?=\.)", re.IGNORECASE)
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def plain(text: str) -> str:
    r"""Markdown that Streamlit renders as `text`, whatever is in it: for labels, captions, messages, headings.

    `text` is `shown` first, so it is one line; spaces around it are lost.

    >>> plain("*Anna* [1](x)")
    '\\*Anna\\* \\[1\\]\\(x\\)'
    """
    return _PUNCTUATION.sub(r"\\\g<0>", _TOGETHER.sub(_APART, shown(text).strip()))

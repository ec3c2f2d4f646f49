"""Hostile text in Markdown: what is rendered is the text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from castline.app.words import plain
from castline.text import shown

# What Streamlit 1.67 puts in the place of text after it has been parsed, so that escapes do not help: emoji, icons, its
# logo, arrows, addresses.
_REPLACED = re.compile(
    r":\+1:|:-1:|:[\w-]+:|:material_\w+:|:streamlit:|(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)"
    r"|(https?://|www(?=\.))[-.\w]+|[-.\w+]+@[-\w]+(\.[-\w]+)+",
    re.IGNORECASE,
)
_HOSTILE = [
    *("*a*", "__a__", "`a`", "~~a~~", "$a$", "$$a$$", "[a](http://b)", "![a](http://b)", "<b>a</b>", "<http://a.b>"),
    *("# a", "- a", "+ a", "> a", "1. a", "1) a", "---", "===", "```a", "    a", "a  ", "| a | b |", "&lt;", "&#42;"),
    *(":red[a]", ":red-background[a]", ":smile:", ":+1:", ":material/face:", ":material_face:", ":streamlit:", "[^1]"),
    *("->", "a <- b", "a <-> b", "--", "a >= b", "~= b", "http://a.b", "https://a", "www.a.b", "WWW.a.b", "a@b.c"),
    *("\\", "\\*", "a\nb", "a\n\n# b", "a\tb", "[ ] a", "- [x] a", "%%", "{a}", "::a::", "a:b:c:d", "<!-- a -->"),
]
_PIECES = st.sampled_from(
    [*"\\`*_{}[]()#+-.!|~$<>:&@=/'\"^;?,% \n\t", "a", "1", "é", "www", "smile", "http", "red", "--"]
)


def _rendered(markdown: str) -> str:
    """What is text of `markdown`; fails when there is anything else than one paragraph of text."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    if not tokens:
        return ""
    opened, inline, closed = tokens
    assert (opened.type, closed.type) == ("paragraph_open", "paragraph_close")
    assert {child.type for child in inline.children or []} <= {"text"}
    return "".join(child.content for child in inline.children or [])


@pytest.mark.parametrize("text", _HOSTILE)
def test_hostile_text_is_rendered_as_it_is(text: str) -> None:
    rendered = _rendered(plain(text))
    assert rendered.replace("\u2060", "") == shown(text).strip()
    assert not _REPLACED.search(rendered)


@given(st.one_of(st.lists(_PIECES, max_size=12).map("".join), st.text(max_size=40)))
def test_any_text_is_rendered_as_it_is(text: str) -> None:
    rendered = _rendered(plain(text))
    assert rendered.replace("\u2060", "") == shown(text).strip()
    assert not _REPLACED.search(rendered)


@given(st.lists(_PIECES, max_size=12).map("".join))
def test_within_a_sentence_it_stays_text(text: str) -> None:
    rendered = _rendered(f"The face of {plain(text)} is unknown.")
    assert rendered.replace("\u2060", "") == f"The face of {shown(text).strip()} is unknown."


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("Anna", "Zoë Müller", "李小龍", "علی\u200cرضا"):
        assert plain(name) == name

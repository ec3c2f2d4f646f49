"""Names chosen to do harm, and names that only look unusual."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castline.text import csv_cell, short, shown

GONE = "\ufffd"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", ""),
        ("Zoë Łęcka", "Zoë Łęcka"),
        ("محمد علي", "محمد علي"),
        ("नी\u200dत\u200cू", "नी\u200dत\u200cू"),  # joiners are spelling
        ("anna\u202egpj.exe", f"anna{GONE}gpj.exe"),
        ("an\u200bna", f"an{GONE}na"),
        ("two\nlines\t\x00", f"two{GONE}lines{GONE}{GONE}"),
        ("\udcff", GONE),
    ],
)
def test_shown(name: str, expected: str) -> None:
    assert shown(name) == expected


@given(st.text(st.characters(exclude_categories=()), max_size=60), st.integers(3, 20))
def test_short_text_is_short_and_can_be_written(name: str, length: int) -> None:
    text = short(name, length)
    assert 1 <= len(text) <= length
    text.encode("utf-8")
    assert not {"\n", "\r", "\x00", "\u202e"} & set(text)


def test_short_keeps_both_ends() -> None:
    assert short("a_very_long_file_name.jpg", 12) == "a_very…e.jpg"
    assert short("   ") == GONE


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(1)", " =1", "＝1"])
def test_a_spreadsheet_gets_no_formula(name: str) -> None:
    assert csv_cell(name) == f"'{name}"


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_a_cell_survives_csv(name: str) -> None:
    cell = csv_cell(name)
    out = io.StringIO()
    csv.writer(out).writerow([cell, "end"])
    assert list(csv.reader(io.StringIO(out.getvalue()))) == [[cell, "end"]]
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))

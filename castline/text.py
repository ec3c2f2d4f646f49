"""Text that anybody may have chosen, such as names of people, files and tags: made safe to show and to tabulate."""

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

__all__ = ["certainty", "clock", "csv_cell", "json_text", "short", "shown", "table"]

# Control characters, lone surrogates (a file name that is not UTF-8), whatever is invisible or turns the
# reading direction round. The joiners U+200C and U+200D stay: Persian, Hindi and emoji are spelt with them.
_UNSHOWABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def shown(text: str) -> str:
    """`text` with U+FFFD in place of each character that is invisible or disturbs the text around it.

    >>> shown("anna\\nboss") == "anna\ufffdboss"
    True
    """
    return _UNSHOWABLE.sub("\ufffd", text)


def short(text: str, length: int = 40) -> str:
    """`shown` text of at most `length` characters; the end is kept, since that is where file names differ.

    >>> short("a_very_long_file_name.jpg", 12)
    'a_very…e.jpg'
    """
    text = shown(text) if text.strip() else "\ufffd"
    if len(text) <= length:
        return text
    head = length // 2
    return f"{text[:head]}…{text[len(text) - (length - head - 1) :]}"


def certainty(confidence: float) -> str:
    """A confidence, 0 to 1, in whole percent; nothing is ever certain.

    >>> certainty(0.984), certainty(0.9996)
    ('98%', '>99%')
    """
    return f"{confidence:.0%}" if confidence < 0.995 else ">99%"


def clock(seconds: float) -> str:
    """Hours if there are any, minutes and seconds.

    >>> clock(3.42), clock(3725.0)
    ('0:03.4', '1:02:05.0')
    """
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{head}:{rest // 10:02}.{rest % 10}"


def json_text(value: Any) -> str:
    """JSON that can be printed: in the name of a file there may be bytes that are no UTF-8."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def csv_cell(text: str) -> str:
    """`shown` text that a spreadsheet will not run: an apostrophe goes before a leading = + - or @.

    Quotes and commas are the csv module's business; this is about Excel and LibreOffice, which take such a
    cell for a formula. The cost is that a person called "-anna" is "'-anna" in the file.
    Source: OWASP, CSV injection.

    >>> csv_cell('=HYPERLINK("http://x")'), csv_cell("anna")
    ('\\'=HYPERLINK("http://x")', 'anna')
    """
    text = shown(text)
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@＝＋－＠") else text


def table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Rows of equal length, a line each, in aligned columns; those in `right` end where the widest ends.

    Cells may come from anybody's repository: what would move the cursor or turn the text round is made visible.

    >>> print(table([("file", "top-1"), ("int8", "0.9")], right={1}))
    file  top-1
    int8    0.9
    """
    cells = [[short(cell, 60) if cell else "" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )

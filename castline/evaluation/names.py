"""Names of people and files come from folders, so anybody may have chosen them: made safe to show."""

import re

__all__ = ["csv_cell", "short", "shown"]

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


def csv_cell(text: str) -> str:
    """`shown` text that a spreadsheet will not run: an apostrophe goes before a leading = + - or @.

    Quotes and commas are the csv module's business; this is about Excel and LibreOffice, which take such a
    cell for a formula. The cost is that a person called "-anna" is "'-anna" in the plots.
    Source: OWASP, CSV injection.

    >>> csv_cell('=HYPERLINK("http://x")'), csv_cell("anna")
    ('\\'=HYPERLINK("http://x")', 'anna')
    """
    text = shown(text)
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@＝＋－＠") else text

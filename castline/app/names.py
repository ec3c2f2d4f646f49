"""A person's name that somebody typed, before it becomes a folder and a label."""

import os

from castline.errors import DataError
from castline.labels.export import LONGEST, name_of
from castline.labels.form import STRANGER, UNNAMED
from castline.text import short

__all__ = ["checked_name"]

_LONGEST_BYTES = 255  # of a folder's name, in most file systems


def checked_name(text: str) -> str:
    """`text` as folders and labels have it: in one Unicode form (NFC), without blanks around it.

    Raises: DataError when no folder could be called so, or it means something else in labels.

    >>> checked_name(" alma ")
    'alma'
    """
    name = name_of(text)
    if name is None or len(os.fsencode(name)) > _LONGEST_BYTES or name in (STRANGER, UNNAMED):
        raise DataError(
            f"“{short(text)}” cannot be a person's name here",
            f"at most {LONGEST} characters, none of them / or invisible, no _ in front, and not “{STRANGER}”",
        )
    return name

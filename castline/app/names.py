"""A person's name that somebody typed, before it becomes a folder and a label."""

import unicodedata

from castline.errors import ConfigError
from castline.labels.export import LONGEST, name_of
from castline.labels.form import STRANGER, UNNAMED
from castline.runtime import UNKNOWN
from castline.text import shown

__all__ = ["checked_name"]

_BYTES = 255  # of a folder's name, in most file systems


def checked_name(text: str) -> str:
    """`text` as folders and labels have it: in Unicode's form NFC, without blanks around it.

    Raises: ConfigError for what could be no such folder, or would be taken for something else.

    >>> checked_name(" alma ")
    'alma'
    """
    name = unicodedata.normalize("NFC", text).strip()
    why = ""
    if not name:
        why = "it is empty"
    elif len(name) > LONGEST or len(name.encode(errors="replace")) > _BYTES:
        why = f"it is longer than {LONGEST} characters, or than {_BYTES} bytes"
    elif shown(name) != name:
        why = "it has characters in it that are invisible or turn the reading direction round"
    elif "/" in name or "\\" in name:
        why = "it has a slash in it"
    elif name[0] in "._":
        why = "it starts with a dot or an underscore"
    elif name.casefold() in (STRANGER, UNNAMED, UNKNOWN):
        why = "it stands for people whom nobody knows"
    elif name_of(name) != name:
        why = "labels cannot have it"
    if why:
        raise ConfigError(f"This cannot be the name of a person: {why}", "choose another name")
    return name

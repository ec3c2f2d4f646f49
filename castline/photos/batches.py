"""A batch is a folder of photos, `data/BATCH`; the folder below it that a photo lies in is its label.

data/first/alma/alma_01.jpg               alma
data/first/_strangers/mirela/m_01.jpg     mirela, who has to stay unknown
data/first/img_0001.jpg                   nobody yet
"""

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from castline.errors import ConfigError, DataError

__all__ = ["STRANGERS", "DataSettings", "Entry", "Label", "check_batches", "check_name", "label_of", "walk"]

STRANGERS = "_strangers"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class DataSettings:
    """The `data` section of params.yaml.

    batches: all of them, oldest first; `castline data` writes them. read: those that this experiment reads: all, or in
    incremental training what the version that it starts from has not seen. Composing fills it in.
    """

    batches: list[str]
    read: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Entry:
    """Something that lies in a batch.

    name: path below the batch, `/` between its parts. Where it is not valid UTF-8, the bytes are escaped (\\xff).
    path: where it is.
    problem, detail: why it cannot be a photo, or empty.
    """

    name: str
    path: Path
    problem: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Label:
    """Whom a photo is said to show."""

    person: str
    stranger: bool


def check_name(batch: str) -> str:
    """`batch`, which becomes a stage name, a file name and a word on a command line.

    Raises: ConfigError.
    """
    if not _NAME.fullmatch(batch) or batch == "labels":
        raise ConfigError(
            f"{batch!r} cannot be the name of a batch",
            "use letters, digits, - and _ (at most 64, starting with a letter or digit; not 'labels')",
        )
    return batch


def label_of(name: str) -> Label | None:
    """The label that a photo's path below its batch gives it; None where it lies in no person's folder.

    Names are brought to one Unicode form (NFC), because a macOS disk writes é as two characters.

    >>> label_of("alma/holiday/1.jpg")
    Label(person='alma', stranger=False)
    >>> label_of("_strangers/mirela/1.jpg")
    Label(person='mirela', stranger=True)
    >>> label_of("1.jpg") is None
    True
    """
    parts = [unicodedata.normalize("NFC", part).strip() for part in name.split("/")]
    if parts[0] == STRANGERS:
        # A stranger without a folder is still a stranger, though each of them may be somebody else.
        return Label(parts[1] if len(parts) > 2 else parts[-1], True)
    return Label(parts[0], False) if len(parts) > 1 and parts[0] else None


def walk(folder: Path) -> list[Entry]:
    """Everything below `folder` that is not a folder, sorted by name.

    Links to folders are not followed: DVC does not either, so what lies behind them would change unnoticed.
    """
    found: list[Entry] = []

    def look(path: Path) -> None:
        try:
            children = sorted(os.scandir(path), key=lambda child: os.fsencode(child.name))
        except OSError as error:
            found.append(_entry(folder, path, "unreadable", error.strerror or "cannot be listed"))
            return
        for child in children:
            if child.is_dir(follow_symlinks=False):
                look(Path(child.path))
            else:
                found.append(_entry(folder, Path(child.path), *_problem(Path(child.path))))

    look(folder)
    return sorted(found, key=lambda entry: entry.name)


def _entry(folder: Path, path: Path, problem: str, detail: str) -> Entry:
    name = path.relative_to(folder).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        name = os.fsencode(name).decode(errors="backslashreplace")
        problem, detail = problem or "bad_name", detail or "the name is not valid UTF-8: rename it"
    return Entry(name, path, problem, detail)


def _problem(path: Path) -> tuple[str, str]:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return "broken_link" if path.is_symlink() else "unreadable", error.strerror or type(error).__name__
    if stat.S_ISDIR(mode):
        return "folder_link", "a link to a folder is not followed: register that folder as a batch of its own"
    if not stat.S_ISREG(mode):
        return "not_a_file", "a pipe, socket or device"
    if path.name.startswith(".") or path.name in ("Thumbs.db", "desktop.ini"):
        return "not_a_photo", "a file of the operating system"
    return "", ""


def check_batches(folders: Iterable[Path]) -> Counter[str]:
    """Photos per person's folder over all batches, once they are enough to learn from and to test on.

    Called before any work. Batches that are not on this machine are passed over, and people then not counted; nor are
    they where photos lie in no person's folder, since labels can name whoever is in them.

    Raises: DataError when a batch is empty, nobody or only one person is in them, or a person has one photo.
    """
    folders = list(folders)
    present = [folder for folder in folders if folder.is_dir()]
    people: Counter[str] = Counter()
    to_label = False
    for folder in present:
        entries = walk(folder)
        if not any(not entry.problem for entry in entries):
            raise DataError(f"{folder}: there is no photo in this batch", "put photos into it, or take it off the list")
        labels = [label_of(entry.name) for entry in entries if not entry.problem]
        people.update(label.person for label in labels if label and not label.stranger)
        to_label = to_label or None in labels
    if len(present) < len(folders) or to_label:
        return people
    if len(people) < 2:
        who = f"only {next(iter(people))!r} is" if people else "nobody is"
        raise DataError(
            f"{', '.join(map(str, folders))}: {who} labelled, and telling people apart takes two",
            "put each person's photos into a folder of that person's name: data/BATCH/PERSON/*.jpg",
        )
    single = sorted(person for person, count in people.items() if count < 2)
    if single:
        raise DataError(
            f"one photo only of {_some(single)}: a person needs one to learn from and another to be tested on",
            f"add photos of them, or move their folders into {STRANGERS}/",
        )
    return people


def _some(names: list[str], limit: int = 10) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"

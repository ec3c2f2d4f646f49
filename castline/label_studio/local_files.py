"""The photo that Label Studio shows for a task, read from where it lies: never fetched, and none that is not a batch's.

Label Studio shows `/data/local-files/?d=PATH`, PATH below its document root, which is the project's folder. Who may
edit tasks writes what they like there, so of the project's folder only data/BATCH is read.
"""

from collections.abc import Collection
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from castline.errors import ConfigError
from castline.photos.batches import check_name

__all__ = ["Refused", "local_photo"]

_SERVED = "/data/local-files"
_LONGEST = 8192  # characters of a URL; a path on Linux has at most 4096 bytes, each quoted as three


class Refused(Exception):
    """A task that there is no prediction for; the message says why."""


def local_photo(url: object, root: Path, also: Collection[Path] = ()) -> tuple[Path, str]:
    """The file, resolved, that `/data/local-files/?d=data/BATCH/PATH` stands for, and that PATH.

    root: the project's folder. data/BATCH may be a link to where the batch lies; within the batch, links have to stay
    within it, or lead into one of the resolved folders `also`, such as the cache of a DVC that links instead of
    copying.

    Raises: Refused for any other URL, for a path that leaves the batch, and when there is no such file.
    """
    batch, parts = _batch_and_parts(url)
    try:
        folder = (root / "data" / batch).resolve(strict=True)
        path = folder.joinpath(*parts).resolve(strict=True)
        # Not a pipe, which would be waited for.
        there = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle
        raise Refused("there is no such photo here") from error
    if not any(path.is_relative_to(allowed) for allowed in (folder, *also)):
        raise Refused(f"a link leads out of data/{batch}")
    if not there:
        raise Refused("not a file")
    return path, "/".join(parts)


def _batch_and_parts(url: object) -> tuple[str, list[str]]:
    if not isinstance(url, str) or not url:
        raise Refused("its data has no image")
    # urlsplit takes some of these away in silence.
    if len(url) > _LONGEST or any(ord(character) < 33 or ord(character) == 127 for character in url):
        raise Refused("its image is not a URL")
    try:
        split = urlsplit(url)
        values = parse_qs(split.query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=1)
    except ValueError as error:
        raise Refused(f"its image is not {_SERVED}/?d=PATH") from error
    if split.scheme or split.netloc:
        raise Refused("its image lies elsewhere: only local files are read, nothing is fetched")
    if split.path not in (_SERVED, f"{_SERVED}/") or split.fragment or list(values) != ["d"]:
        raise Refused(f"its image is not {_SERVED}/?d=PATH")
    # Decoded once, by parse_qs: what is quoted twice is a strange name, not a path.
    data, *parts = values["d"][0].split("/")
    if data != "data" or len(parts) < 2 or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise Refused("its image is not data/BATCH/PATH")
    try:
        return check_name(parts[0]), parts[1:]
    except ConfigError as error:
        raise Refused("its image is in no batch") from error

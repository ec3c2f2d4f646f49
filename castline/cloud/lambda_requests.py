"""Deliveries that wait to be learned from, on the machine where DVC is: which are complete, and their photos brought.

What counts is what arrived and was not taken. A request is the sign that there is some; should a machine be killed
between one write and the next, the photos wait nevertheless, and are brought the next time.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from castline.cloud.aws import said
from castline.cloud.lambda_bucket import ARRIVED, DELIVERIES, REQUESTS, TAKEN, Bucket, batch_of, code_of
from castline.errors import ConfigError, DataError
from castline.text import short

__all__ = ["Brought", "Debounce", "Waiting", "take", "waiting"]

_LONGEST_NAME = 255  # bytes of a file's name
_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Debounce:
    """When a delivery is complete: so many photos have come, or none for so many minutes."""

    photos: int = 500
    minutes: float = 15.0

    def __post_init__(self) -> None:
        if self.photos < 1 or not self.minutes >= 0:
            raise ConfigError(f"--photos {self.photos} --minutes {self.minutes:g}: from 1, and from 0")


@dataclass
class Waiting:
    """Photos of a batch that nobody took. ids: of them. latest: when the last one came."""

    batch: str
    ids: list[str] = field(default_factory=list)
    latest: datetime = _EVER

    def is_complete(self, debounce: Debounce, now: datetime | None = None) -> bool:
        """Whether it is to be learned from, or more of it may be on its way."""
        quiet = (now or datetime.now(UTC)) - self.latest
        return len(self.ids) >= debounce.photos or quiet.total_seconds() >= 60 * debounce.minutes


@dataclass(frozen=True)
class Brought:
    """A folder of photos for `castline data add`, under a name that no batch has. left: key and why it is not there."""

    batch: str
    folder: Path
    photos: int
    left: list[tuple[str, str]]


def waiting(bucket: Bucket) -> list[Waiting]:
    """What waits, by name; what is below a name that the function gives no batch is none. Raises: CastlineError."""
    found: dict[str, Waiting] = {}
    with said(f"bucket {bucket.name}"):
        taken = {key.removeprefix(TAKEN) for key, _ in bucket.listed(TAKEN)}
        for key, since in bucket.listed(ARRIVED):
            name = key.removeprefix(ARRIVED).removesuffix(".json")
            batch, _, id = name.partition("/")
            if name not in taken and id and batch_of(batch) == batch:
                one = found.setdefault(batch, Waiting(batch))
                one.ids.append(id)
                one.latest = max(one.latest, since)
    return [found[batch] for batch in sorted(found)]


def take(bucket: Bucket, one: Waiting, target: Path, exists: Callable[[str], bool]) -> Brought:
    """Bring the photos of a delivery to a folder of its own in `target`, and let them wait no longer.

    exists: whether a batch has a name already; one that was taken before gets -2 behind it, and so on. Photos that were
    replaced or deleted since, and names that are no path below a folder, are left out and said. The folder is there as
    a whole or not at all.

    Raises: CastlineError; the delivery then waits as before.
    """
    name, number = one.batch, 1
    while exists(name) or (target / name).exists():
        number += 1
        name = f"{one.batch[:58]}-{number}"
    folder, unfinished = target / name, target / f".{name}.part"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        with said(f"bucket {bucket.name}"):
            photos, left = _bring(bucket, one, unfinished)
            if photos:
                unfinished.rename(folder)
            else:
                shutil.rmtree(unfinished)
            for id in one.ids:
                bucket.put_once(f"{TAKEN}{one.batch}/{id}", {"batch": name})
            _close(bucket, one.batch)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}", "another folder: --take FOLDER") from error
    return Brought(name, folder, photos, left)


def _close(bucket: Bucket, batch: str) -> None:
    """Take the request away. Photos that came meanwhile found it there and asked for none, so it may have to return."""
    bucket.s3.delete_object(**bucket.ours, Key=f"{REQUESTS}{batch}.json")
    if any(one.batch == batch for one in waiting(bucket)):
        since = datetime.now(UTC).isoformat(timespec="seconds")
        bucket.put_once(f"{REQUESTS}{batch}.json", {"batch": batch, "since": since})


def _bring(bucket: Bucket, one: Waiting, folder: Path) -> tuple[int, list[tuple[str, str]]]:
    """How many photos were brought, and which were not."""
    etags: dict[str, list[str]] = defaultdict(list)
    for id in one.ids:
        place = f"{ARRIVED}{one.batch}/{id}.json"
        with closing(bucket.s3.get_object(**bucket.ours, Key=place)["Body"]) as body:
            try:
                facts = json.loads(body.read())
                etags[str(facts["key"])].append(str(facts["etag"]))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise DataError(f"s3://{bucket.name}/{place}: not as Castline writes it ({error!r})") from error
    photos, left = 0, []
    for key, versions in sorted(etags.items()):
        for etag in versions:  # in whatever order they came, the object has one of them by now
            if not (reason := _download(bucket, key, etag, folder)):
                break
        photos += not reason
        left += [(short(key, 100), reason)] if reason else []
    return photos, left


def _download(bucket: Bucket, key: str, etag: str, folder: Path) -> str:
    """Why an object was not brought, or ""."""
    parts = key.removeprefix(DELIVERIES).split("/")[1:]
    if not all(map(_is_name, parts)):
        return "its name is no path below a folder"
    path = folder.joinpath(*parts)
    try:
        answer = bucket.s3.get_object(**bucket.ours, Key=key, IfMatch=f'"{etag}"')
    except bucket.s3.exceptions.ClientError as error:
        if code_of(error) in ("412", "PreconditionFailed", "404", "NoSuchKey"):
            return "it was replaced or deleted since"
        raise
    with closing(answer["Body"]) as body:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        except (FileExistsError, NotADirectoryError):
            return "it is both a photo and a folder"
        with file:
            shutil.copyfileobj(body, file)
    return ""


def _is_name(part: str) -> bool:
    """Whether something is the name of a file here, and of no hidden one."""
    return (
        not part.startswith(".") and part.isprintable() and 0 < len(part.encode()) <= _LONGEST_NAME and "\\" not in part
    )

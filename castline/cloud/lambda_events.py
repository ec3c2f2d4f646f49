"""What S3 says of new objects, to Lambda itself or through a queue: read with care, since anybody names objects.

Source: Amazon S3 user guide, "Event message structure"; AWS Lambda developer guide, "Using Lambda with Amazon SQS".
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

__all__ = ["Arrival", "Message", "is_newer", "messages_of"]

_ETAG = re.compile(r"[0-9A-Za-z-]{1,64}")
_SEQUENCER = re.compile(r"[0-9A-Fa-f]{0,64}")
_LONGEST_KEY = 1024


@dataclass(frozen=True)
class Arrival:
    """An object that was put. etag: without quotes. sequencer: orders what happens to one key; "" where S3 gave none.
    size: bytes."""

    bucket: str
    key: str
    etag: str
    sequencer: str
    size: int


@dataclass(frozen=True)
class Message:
    """What is done, or tried again, as one.

    id: of a message of a queue, "" where it has none that could be told; None: S3 itself called. problem: what is wrong
    with it, or "".
    """

    id: str | None
    arrivals: tuple[Arrival, ...]
    problem: str = ""


def messages_of(event: Any) -> list[Message]:
    """The messages in what Lambda was called with. Raises nothing, whatever that is."""
    records = event.get("Records") if isinstance(event, dict) else None
    if isinstance(records, list) and any(isinstance(record, dict) and "messageId" in record for record in records):
        return [_queued(record) for record in records]
    return [_message(None, event)]


def is_newer(one: str, other: str) -> bool | None:
    """Whether a sequencer comes after another of the same key; None where either is absent.

    They are hexadecimal and of different lengths: the shorter is filled up with zeros at its end, as S3 has it.

    >>> is_newer("0055AED6DCD90281E6", "0055AED6DCD90281E5"), is_newer("0A", "0A00")
    (True, False)
    """
    if not one or not other:
        return None
    length = max(len(one), len(other))
    return one.upper().ljust(length, "0") > other.upper().ljust(length, "0")


def _queued(record: Any) -> Message:
    if not isinstance(record, dict) or not isinstance(record.get("messageId"), str):
        return Message("", (), "a record without the id of a message")
    try:
        body = json.loads(record["body"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return Message(record["messageId"], (), "the message is no JSON")
    return _message(record["messageId"], body)


def _message(id: str | None, event: Any) -> Message:
    """An event of S3: what it has of objects that were put, also where something else in it is odd."""
    if isinstance(event, dict) and event.get("Event") == "s3:TestEvent":  # S3 sends it when it is told where to
        return Message(id, ())
    if not isinstance(event, dict) or not isinstance(event.get("Records"), list):
        return Message(id, (), "no event of S3: it has no Records")
    arrivals: list[Arrival] = []
    problem = ""
    for record in event["Records"]:
        try:
            arrivals += _arrivals(record)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            problem = f"a record that is not as S3 writes it ({str(error)[:100]})"
    return Message(id, tuple(arrivals), problem)


def _arrivals(record: Any) -> Iterator[Arrival]:
    """One, or none if something else happened. Raises: KeyError, TypeError, AttributeError, ValueError."""
    if record["eventSource"] != "aws:s3":
        raise ValueError("eventSource")
    if not record["eventName"].removeprefix("s3:").startswith("ObjectCreated:"):
        return
    found = record["s3"]["object"]
    bucket, key = record["s3"]["bucket"]["name"], unquote_plus(found["key"], errors="strict")
    etag, sequencer, size = found["eTag"].strip('"'), found.get("sequencer", ""), found.get("size", 0)
    if not isinstance(bucket, str) or not 0 < len(key.encode()) <= _LONGEST_KEY:
        raise ValueError("bucket or key")
    if not _ETAG.fullmatch(etag) or not _SEQUENCER.fullmatch(sequencer):
        raise ValueError("eTag or sequencer")
    if type(size) is not int or size < 0:
        raise ValueError("size")
    yield Arrival(bucket, key, etag, sequencer, size)

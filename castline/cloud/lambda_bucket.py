"""The one bucket that the Lambda function works in: what lies where, and writes that are made once or in order.

inbox/...                     pictures to be looked at
deliveries/NAME/PERSON/...    photos to learn from
results/....json              of each picture of the inbox, who is in it, or why it was not looked at
requests/BATCH.json           a delivery waits to be learned from: `castline lambda requests`
state/arrived/BATCH/ID.json   a photo of a delivery that came
state/taken/BATCH/ID          the same one, when it has been brought to where DVC is
code/                         what functions were made of

Whoever may write below results/, requests/ and state/ may say anything there; whoever may write below inbox/ and
deliveries/ chooses names and bytes, and no more.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from castline.errors import ConfigError
from castline.photos.batches import check_name

__all__ = [
    "ARRIVED",
    "DELIVERIES",
    "INBOX",
    "REQUESTS",
    "RESULTS",
    "TAKEN",
    "TRIGGERS",
    "Bucket",
    "Found",
    "batch_of",
    "id_of",
    "result_key",
]

INBOX, DELIVERIES = "inbox/", "deliveries/"
RESULTS, REQUESTS, ARRIVED, TAKEN = "results/", "requests/", "state/arrived/", "state/taken/"
TRIGGERS = (INBOX, DELIVERIES)
_WRITTEN = (RESULTS, REQUESTS, ARRIVED, TAKEN)
_ODD = "_odd/"  # of results: pictures whose names do not fit behind another prefix
_LONGEST = 1024  # bytes of a key in UTF-8
_TRIES = 8


def result_key(key: str) -> str:
    """Where the result for a picture goes.

    Parts that a client on the way might take for a path's (empty, `.`, `..`) and names that would become too long give
    way to a hash: the result says which picture it is of.

    >>> result_key("inbox/gala/1.jpg")
    'results/gala/1.jpg.json'
    """
    name = key.removeprefix(INBOX)
    made = f"{RESULTS}{name}.json"
    if name.startswith(_ODD) or {"", ".", ".."} & set(name.split("/")) or len(made.encode()) > _LONGEST:
        return f"{RESULTS}{_ODD}{hashlib.sha256(key.encode()).hexdigest()}.json"
    return made


def batch_of(delivery: str) -> str:
    """The name of the batch that a delivery becomes: its own if batches may be called so, else what is left of it.

    >>> batch_of("winter"), batch_of("o'brien; rm -rf")
    ('winter', 'o-brien-rm--rf-8de980d8')
    """
    try:
        return check_name(delivery)
    except ConfigError:
        kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else " " for c in delivery)
        return f"{'-'.join(kept.split())[:48].strip('-_') or 'delivery'}-{_sha256(delivery)[:8]}"


def id_of(bucket: str, key: str, etag: str) -> str:
    """What a photo of a delivery is remembered by: an event that comes again has the same, other contents another."""
    return _sha256(f"{bucket}\0{key}\0{etag}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Found:
    """What is known of an object without its contents. metadata: as it was put."""

    etag: str
    metadata: Mapping[str, str]


class Bucket:
    """A bucket of ours. Every request says whose it is: a bucket's name is free for anybody once it is deleted.

    s3: boto3's client. account: twelve digits.
    """

    def __init__(self, s3: Any, name: str, account: str) -> None:
        self.s3, self.name = s3, name
        self.ours = {"Bucket": name, "ExpectedBucketOwner": account}

    def head(self, key: str) -> Found | None:
        """An object, or None where there is none."""
        try:
            answer = self.s3.head_object(**self.ours, Key=key)
        except self.s3.exceptions.ClientError as error:
            if code_of(error) in ("404", "NoSuchKey", "NotFound"):
                return None
            raise
        return Found(answer["ETag"], answer["Metadata"])

    def put_once(self, key: str, value: Mapping[str, Any]) -> bool:
        """Write JSON unless there is something already; whether it was written."""
        return self._put(key, value, {}, None)

    def put_newer(
        self, key: str, value: Mapping[str, Any], metadata: Mapping[str, str], newer: Callable[[Found], bool]
    ) -> bool:
        """Write JSON unless what is there is as new, which `newer` says; of several at once the newest stays.

        Raises: TimeoutError when others keep coming first.
        """
        for _ in range(_TRIES):
            there = self.head(key)
            if there is not None and not newer(there):
                return False
            if self._put(key, value, metadata, there):
                return True
        raise TimeoutError(f"{key}: others write it all the time")

    def _put(self, key: str, value: Mapping[str, Any], metadata: Mapping[str, str], there: Found | None) -> bool:
        if not key.startswith(_WRITTEN):  # an object below a trigger would call the function again, for ever
            raise ValueError(f"{key}: nothing is written there")
        condition = {"IfNoneMatch": "*"} if there is None else {"IfMatch": there.etag}
        for _ in range(_TRIES):
            try:
                self.s3.put_object(
                    **self.ours,
                    **condition,
                    Key=key,
                    Body=(json.dumps(value, indent=2) + "\n").encode("ascii"),
                    ContentType="application/json",
                    Metadata=dict(metadata),
                )
            except self.s3.exceptions.ClientError as error:
                code = code_of(error)
                if code in ("412", "PreconditionFailed") or (there is not None and code in ("404", "NoSuchKey")):
                    return False
                if code in ("409", "ConditionalRequestConflict"):  # somebody writes it at this moment
                    continue
                raise
            return True
        raise TimeoutError(f"{key}: others write it all the time")

    def listed(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """The keys below a prefix, and since when they are there."""
        for page in self.s3.get_paginator("list_objects_v2").paginate(**self.ours, Prefix=prefix):
            for item in page.get("Contents", []):
                yield item["Key"], item["LastModified"]


def code_of(error: Any) -> str:
    """S3's name of an error, such as NoSuchKey; of a HEAD request, which has no body, its number."""
    return str(error.response.get("Error", {}).get("Code", ""))

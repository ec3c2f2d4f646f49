"""What the Lambda function does with new objects: names in pictures at once, and deliveries queued to be learned from.

Events come at least once, in any order, and to several at a time. So each write is one that only the first, or the
newest, can make: a result goes by the picture's sequencer, a delivery's photo by its key and ETag.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from castline.cloud.lambda_bucket import (
    ARRIVED,
    DELIVERIES,
    INBOX,
    REQUESTS,
    TAKEN,
    Bucket,
    Found,
    batch_of,
    code_of,
    id_of,
    result_key,
)
from castline.cloud.lambda_events import Arrival, Message, is_newer, messages_of
from castline.edge.manifest import MANIFEST, Manifest
from castline.photos.decode import Rejected, decode
from castline.runtime import Recognizer

__all__ = ["Handler", "Model"]

_MEGAPIXELS, _MEGABYTES = 50.0, 50.0  # of a picture at most: what a function of 2 GB has room for
_SPARE_MS = 10_000  # what is not begun so shortly before the function is stopped is left for another time


class Model:
    """A release, unpacked, and opened when it is first asked: deliveries need none. Raises as `Recognizer`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        manifest = Manifest.parse((folder / MANIFEST).read_bytes())
        self.version, self._file = manifest.version, manifest.model
        self._recognizer: Recognizer | None = None

    @property
    def recognizer(self) -> Recognizer:
        """With limits for pictures that are those of training or lower."""
        if self._recognizer is None:
            self._recognizer = Recognizer(self._folder, self._file)
            limits = self._recognizer.photos
            self._recognizer.photos = replace(
                limits,
                max_megapixels=min(limits.max_megapixels, _MEGAPIXELS),
                max_file_mb=min(limits.max_file_mb, _MEGABYTES),
            )
        return self._recognizer


class Handler:
    """What Lambda calls. bucket: the only one it listens to. say: gets a line of JSON for each object; no names of
    people."""

    def __init__(self, bucket: Bucket, model: Model, say: Callable[[str], None] = print) -> None:
        self._bucket, self._model, self._say = bucket, model, say

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """Do what an event asks for, and say which messages of a queue are to come again.

        Raises: RuntimeError where S3 itself called, so that Lambda calls again.
        """
        messages = messages_of(event)
        failed: set[int] = set()
        waiting: dict[str, list[int]] = {}
        done: dict[Arrival, str | None] = {}  # of this event: what came twice is done once; None where it failed
        for number, message in enumerate(messages):
            if message.problem:
                self._tell("malformed", detail=message.problem)
                failed.add(number)
            for arrival in message.arrivals:
                if arrival not in done:
                    if context.get_remaining_time_in_millis() < _SPARE_MS:
                        failed.add(number)
                        continue
                    done[arrival] = self._tried(arrival.key, self._one, arrival)
                batch = done[arrival]
                if batch is None:
                    failed.add(number)
                elif batch:
                    waiting.setdefault(batch, []).append(number)
        for batch, numbers in waiting.items():
            if self._tried(batch, self._request, batch) is None:
                failed |= set(numbers)
        return _answer(messages, failed)

    def _tried(self, what: str, step: Callable[..., str], *given: Any) -> str | None:
        """What a step says; None where it failed, whatever the reason: it is this object's, and the others go on."""
        try:
            return step(*given)
        except Exception as error:
            self._tell("failed", what, f"{type(error).__name__}: {str(error)[:300]}")
            return None

    def _one(self, arrival: Arrival) -> str:
        """Do what one object asks for; the batch for which there has to be a request, or ""."""
        if arrival.bucket == self._bucket.name and arrival.key.startswith(INBOX):
            self._tell(self._picture(arrival), arrival.key)
        elif arrival.bucket == self._bucket.name and arrival.key.startswith(DELIVERIES):
            return self._delivered(arrival)
        else:
            self._tell("ignored", arrival.key, "neither in the inbox nor a delivery")
        return ""

    def _picture(self, arrival: Arrival) -> str:
        """Write the result for a picture, unless there is one as new; what was done."""

        def newer(there: Found) -> bool:
            after = is_newer(arrival.sequencer, there.metadata.get("sequencer", ""))
            return there.metadata.get("etag") != arrival.etag if after is None else after

        if arrival.key.endswith("/"):
            return "ignored: a folder"
        target = result_key(arrival.key)
        there = self._bucket.head(target)
        if there is not None and not newer(there):
            return "there already"
        said = self._look(arrival)
        if said is None:
            return "replaced since"  # the picture that is there now has an event of its own
        result = {
            "bucket": arrival.bucket,
            "key": arrival.key,
            "etag": arrival.etag,
            "sequencer": arrival.sequencer,
            "model-version": self._model.version,
            "looked-at": datetime.now(UTC).isoformat(timespec="seconds"),
            **said,
        }
        marks = {"etag": arrival.etag, "sequencer": arrival.sequencer}
        if not self._bucket.put_newer(target, result, marks, newer):
            return "there already"
        return f"rejected: {said['rejected']['reason']}" if "rejected" in said else "named"

    def _look(self, arrival: Arrival) -> dict[str, Any] | None:
        """Who is in a picture, or why that cannot be said; None if the key leads to another picture by now."""
        limits = self._model.recognizer.photos
        limit = int(limits.max_file_mb * 1e6)
        s3 = self._bucket.s3
        try:
            if arrival.size > limit:
                raise Rejected("file_too_large", f"{arrival.size / 1e6:.0f} MB, the limit is {limit / 1e6:g} MB")
            try:
                # Of that ETag or not at all: also where something on the way makes another key of this one.
                answer = s3.get_object(**self._bucket.ours, Key=arrival.key, IfMatch=f'"{arrival.etag}"')
            except s3.exceptions.ClientError as error:
                if code_of(error) in ("412", "PreconditionFailed"):
                    return None
                if code_of(error) in ("404", "NoSuchKey"):
                    raise Rejected("missing", "it was not there any more") from error
                raise
            with answer["Body"] as body:
                data = body.read(limit + 1)
            if len(data) > limit:
                raise Rejected("file_too_large", f"the limit is {limit / 1e6:g} MB")
            photo = decode(data, limits)
        except Rejected as rejected:
            return {"rejected": {"reason": rejected.reason, "detail": rejected.detail}}
        people = self._model.recognizer.identify_photo(photo)
        return {
            "width": photo.width,
            "height": photo.height,
            "sha256": photo.sha256,
            "people": [person.described() for person in people],
        }

    def _delivered(self, arrival: Arrival) -> str:
        """Remember a photo of a delivery; its batch, if that waits for somebody."""
        delivery, _, name = arrival.key.removeprefix(DELIVERIES).partition("/")
        if not delivery or not name or name.endswith("/"):
            self._tell("ignored", arrival.key, "a photo lies in deliveries/NAME/")
            return ""
        batch, id = batch_of(delivery), id_of(arrival.bucket, arrival.key, arrival.etag)
        facts = {"delivery": delivery, "key": arrival.key, "etag": arrival.etag, "sequencer": arrival.sequencer}
        fresh = self._bucket.put_once(f"{ARRIVED}{batch}/{id}.json", facts | {"size": arrival.size})
        # One that came before may have been killed before it asked for a request: only what was taken needs none.
        if not fresh and self._bucket.head(f"{TAKEN}{batch}/{id}"):
            self._tell("taken already", arrival.key)
            return ""
        self._tell("arrived" if fresh else "arrived already", arrival.key)
        return batch

    def _request(self, batch: str) -> str:
        """See that a request waits for a batch: one, however many ask for it."""
        asked = {"batch": batch, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        if self._bucket.put_once(f"{REQUESTS}{batch}.json", asked):
            self._tell("requested", batch)
        return batch

    def _tell(self, outcome: str, key: str = "", detail: str = "") -> None:
        said = {"outcome": outcome, "key": key, "detail": detail}
        self._say(json.dumps({name: value for name, value in said.items() if value}))


def _answer(messages: list[Message], failed: set[int]) -> dict[str, Any]:
    """Raises: RuntimeError when a message that failed is no queue's."""
    ids = [messages[number].id for number in sorted(failed)]
    if None in ids:
        raise RuntimeError(f"{len(ids)} of {len(messages)} messages failed; the log says why")
    return {"batchItemFailures": [{"itemIdentifier": id} for id in ids if id]}

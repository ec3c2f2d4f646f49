"""Results in the bucket that name a person, found and removed: what was said of somebody who is to be forgotten."""

import json
import unicodedata
from collections.abc import Iterator
from contextlib import closing

from castline.cloud.aws import said
from castline.cloud.lambda_bucket import INBOX, RESULTS, Bucket

__all__ = ["naming", "remove"]


def naming(bucket: Bucket, person: str) -> Iterator[tuple[str, str]]:
    """Keys of a result and of its picture, where any face was taken for a person, be it below the threshold. A picture
    that a result says is not in the inbox is none: whatever writes results has no say over the rest of the bucket.

    Raises: CastlineError.
    """
    wanted = unicodedata.normalize("NFC", person)
    with said(f"bucket {bucket.name}"):
        for key, _ in bucket.listed(RESULTS):
            with closing(bucket.s3.get_object(**bucket.ours, Key=key)["Body"]) as body:
                try:
                    result = json.loads(body.read())
                    names = {str(seen["nearest"]) for seen in result.get("people", [])}
                    picture = str(result["key"])
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    continue  # not ours
            if wanted in names:
                yield key, picture if picture.startswith(INBOX) else ""


def remove(bucket: Bucket, key: str) -> None:
    """Remove an object. Where the bucket keeps versions, earlier ones stay until its lifecycle removes them.

    Raises: CastlineError.
    """
    with said(f"s3://{bucket.name}/{key}"):
        bucket.s3.delete_object(**bucket.ours, Key=key)

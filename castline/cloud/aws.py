"""AWS, as what publishes to it speaks to it: clients, what it refuses said plainly, files brought to a bucket."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from castline.errors import CastlineError, optional_import
from castline.text import short

__all__ = ["Sender", "check_bucket", "clients", "said", "upload"]


def clients(region: str | None, *services: str) -> tuple[dict[str, Any], str]:
    """boto3's clients by the service's name, and the region; None takes that of the AWS configuration.

    Raises: MissingExtra; CastlineError without a region.
    """
    boto3 = optional_import("boto3", "aws")
    with said("AWS"):
        session = boto3.session.Session(region_name=region)
        if not session.region_name:
            raise CastlineError("no AWS region is set", "--region eu-central-1, or aws configure")
        return {name: session.client(name) for name in services}, session.region_name


class Sender:
    """Requests that change something: sent and told of, or, in a dry run, printed."""

    def __init__(self, dry_run: bool, say: Callable[[str], None]) -> None:
        self.dry_run, self.say = dry_run, say

    def __call__(self, told: str, call: Callable[..., Any], operation: str, **request: Any) -> Any:
        if self.dry_run:
            shown = {key: value.decode() if isinstance(value, bytes) else value for key, value in request.items()}
            self.say(f"{operation} {json.dumps(shown, indent=2, default=str, ensure_ascii=False)}")
            return {}
        with said(operation):
            answer = call(**request)
        self.say(told)
        return answer


def check_bucket(s3: Any, region: str, ours: Mapping[str, str]) -> None:
    """Raises: CastlineError for a bucket that is not there, not ours or elsewhere."""
    from botocore.exceptions import ClientError

    bucket = ours["Bucket"]
    with said(f"bucket {bucket}"):
        try:
            headers = s3.head_bucket(**ours)["ResponseMetadata"]["HTTPHeaders"]
        except ClientError as error:
            headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
            if headers.get("x-amz-bucket-region", region) == region:
                if error.response["Error"]["Code"] in ("403", "AccessDenied"):
                    raise CastlineError(
                        f"bucket {bucket} is not of account {ours['ExpectedBucketOwner']}, or HeadBucket is denied",
                        "another bucket, of the account that you publish from; or let this user do it",
                    ) from error
                raise
    there = headers.get("x-amz-bucket-region", region)
    if there != region:
        raise CastlineError(
            f"bucket {bucket} is in {there}, what uses it would be in {region}: AWS wants one region",
            f"--region {there}, or a bucket in {region}",
        )


def upload(s3: Any, ours: Mapping[str, str], key: str, path: Path, sha256: str, send: Sender) -> None:
    """Bring a file to our bucket unless it is there."""
    from botocore.exceptions import ClientError

    place = f"s3://{ours['Bucket']}/{key}"
    with said(place):
        try:
            there = s3.head_object(**ours, Key=key)["Metadata"].get("sha256")
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey", "NotFound"):
                raise
            there = None
    if there == sha256:
        send.say(f"{place}: there already")
        return
    request = {**ours, "Key": key, "Metadata": {"sha256": sha256}, "ContentType": "application/zip"}
    if send.dry_run:
        send(place, s3.put_object, "PutObject", Body=str(path), **request)
        return
    with path.open("rb") as file:
        send(f"{place}: uploaded", s3.put_object, "PutObject", Body=file, **request)


@contextmanager
def said(what: str) -> Iterator[None]:
    """Say what AWS refuses, and what to do about it. Raises: CastlineError."""
    exceptions = optional_import("botocore.exceptions", "aws")
    try:
        yield
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound) as error:
        raise CastlineError(f"{what}: no AWS credentials ({error})", "aws configure, or set AWS_PROFILE") from error
    except exceptions.ClientError as error:
        code, message = (str(error.response["Error"].get(key, "")) for key in ("Code", "Message"))
        operation = error.operation_name
        if code in ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"):
            raise CastlineError(
                f"{what}: the AWS credentials are not valid ({code})", "aws sso login, or renew them"
            ) from error
        if code in ("403", "AccessDenied", "AccessDeniedException"):
            raise CastlineError(
                f"{what}: {operation} is denied ({short(message, 300)})",
                f"let this user do {operation}: docs/ lists what is needed",
            ) from error
        if code in ("404", "NoSuchBucket"):
            raise CastlineError(f"{what}: is not there", "check the name; docs/ says how to begin") from error
        raise CastlineError(f"{what}: {operation}: {code}: {short(message, 300)}") from error
    except exceptions.BotoCoreError as error:
        raise CastlineError(f"{what}: {short(str(error), 300)}", "check --bucket, --region and the network") from error

"""The Lambda function in an account: its role, two queues, log, code, and what S3 tells it of. Made, updated, removed.

S3 → queue NAME-arrivals → function NAME → the same bucket, below other prefixes. What failed five times is kept in the
queue NAME-failed. Nothing is done twice: what is there as it should be stays. Whatever is made carries a tag, and
nothing without it is changed or removed.

Source: AWS Lambda developer guide, "Using Lambda with Amazon SQS"; Amazon S3 user guide, "Event Notifications".
"""

import base64
import hashlib
import json
import re
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from castline.cloud.aws import Sender, check_bucket, clients, said, upload
from castline.cloud.lambda_bucket import ARRIVED, DELIVERIES, INBOX, REQUESTS, RESULTS, TAKEN, Bucket, code_of
from castline.cloud.lambda_build import ABOUT, PYTHON, check_released
from castline.errors import CastlineError, ConfigError
from castline.text import short

__all__ = ["Account", "Code", "Settings", "connect", "open_zip", "policy", "publish", "remove"]

_TAG = "castline-lambda"  # its value: the function's name
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,47}")
_PATIENCE = 60  # seconds for one service to hear of what another made
_RECEIVED = 5  # times that a message is tried
_DAYS = 14  # for which a queue keeps messages, the longest there is; and the log its lines
_SERVICES = ("s3", "sqs", "iam", "lambda", "logs")


@dataclass(frozen=True)
class Settings:
    """Of a function. memory: MB; 1769 are one processor. timeout: seconds. concurrency: calls at once, from 2."""

    name: str = "castline-recognizer"
    memory: int = 2048
    timeout: int = 120
    concurrency: int = 5

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"--name {self.name[:60]!r}: a letter, then letters, digits and -, at most 48")
        for option, value, least, most in (
            ("memory", self.memory, 512, 10240), ("timeout", self.timeout, 30, 900),
            ("concurrency", self.concurrency, 2, 1000),
        ):  # fmt: skip
            if not least <= value <= most:
                raise ConfigError(f"--{option} is {value}: from {least} to {most}")


@dataclass(frozen=True)
class Code:
    """What a function runs: a zip that `castline lambda build` made, or an image in ECR. version: of the release."""

    version: str
    architecture: str = "x86_64"
    python: str = PYTHON
    zip: Path | None = None
    image: str = ""


@dataclass(frozen=True, eq=False)
class Account:
    """Clients of boto3 by the service's name, and whose they are."""

    clients: Mapping[str, Any]
    region: str
    id: str
    partition: str

    def bucket(self, name: str) -> Bucket:
        """A bucket of this account."""
        return Bucket(self.clients["s3"], name, self.id)

    def arn(self, service: str, resource: str, region: str | None = None) -> str:
        """The name of something here."""
        return f"arn:{self.partition}:{service}:{self.region if region is None else region}:{self.id}:{resource}"


def connect(region: str | None) -> Account:
    """The account that the AWS configuration leads to. Raises: CastlineError."""
    made, where = clients(region, *_SERVICES, "sts")
    with said("AWS"):
        who = str(made["sts"].get_caller_identity()["Arn"]).split(":")  # arn:aws:iam::123456789012:user/name
    return Account(made, where, who[4], who[1])


def open_zip(path: Path) -> Code:
    """A zip that `castline lambda build` made. Raises: CastlineError."""
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read(ABOUT))
        return Code(str(about["version"]), str(about["architecture"]), str(about["python"]), path)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise CastlineError(f"{path}: not made by castline ({error!r})", "castline lambda build") from error


def publish(
    code: Code,
    account: Account,
    bucket: str,
    settings: Settings,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Bring a function to an account, and have S3 tell it of what comes below inbox/ and deliveries/ of a bucket.

    dry_run: look at what is there, and only say what would be sent.

    Raises: CastlineError.
    """
    check_released(code.version)
    _Publishing(account, account.bucket(bucket), settings, Sender(dry_run, say), wait).publish(code)


def remove(
    account: Account, bucket: str, settings: Settings, dry_run: bool = False, say: Callable[[str], None] = print
) -> None:
    """Take away what `publish` made. What is in the bucket stays.

    Raises: CastlineError.
    """
    _Publishing(account, account.bucket(bucket), settings, Sender(dry_run, say), time.sleep).remove()


def policy(account: Account, bucket: str, name: str) -> dict[str, Any]:
    """What the function may do: no more than it does."""
    objects = f"arn:{account.partition}:s3:::{bucket}"
    ours = {"StringEquals": {"aws:ResourceAccount": account.id}}

    def allow(actions: list[str], resources: list[str], condition: Mapping[str, Any] | None = None) -> dict[str, Any]:
        made: dict[str, Any] = {"Effect": "Allow", "Action": actions, "Resource": resources}
        return made | ({"Condition": condition} if condition else {})

    return {
        "Version": "2012-10-17",
        "Statement": [
            allow(["s3:GetObject"], [f"{objects}/{prefix}*" for prefix in (INBOX, RESULTS, TAKEN)], ours),
            allow(["s3:PutObject"], [f"{objects}/{prefix}*" for prefix in (RESULTS, REQUESTS, ARRIVED)], ours),
            allow(["s3:ListBucket"], [objects], ours),  # without it an object that is not there is "denied"
            allow(
                ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
                [account.arn("sqs", f"{name}-arrivals")],
            ),
            allow(
                ["logs:CreateLogStream", "logs:PutLogEvents"], [account.arn("logs", f"log-group:/aws/lambda/{name}:*")]
            ),
        ],
    }


class _Publishing:
    """One run of `publish` or `remove`."""

    def __init__(
        self, account: Account, bucket: Bucket, settings: Settings, send: Sender, wait: Callable[[float], None]
    ) -> None:
        self._account, self._bucket, self._settings, self._send, self._wait = account, bucket, settings, send, wait
        self._name = settings.name
        self._tags = {_TAG: settings.name}
        self._queue, self._dead = f"{self._name}-arrivals", f"{self._name}-failed"
        self._role = account.arn("iam", f"role/{self._name}", region="")
        self._log = f"/aws/lambda/{self._name}"
        self._s3, self._sqs, self._iam, self._lambda, self._logs = (account.clients[name] for name in _SERVICES)

    def publish(self, code: Code) -> None:
        check_bucket(self._s3, self._account.region, self._bucket.ours)
        self._check_its_bucket()
        self._make_queue(self._dead, {"MessageRetentionPeriod": str(_DAYS * 86400)})
        redrive = {"deadLetterTargetArn": self._account.arn("sqs", self._dead), "maxReceiveCount": _RECEIVED}
        self._make_queue(
            self._queue,
            {
                "MessageRetentionPeriod": str(_DAYS * 86400),
                "Policy": json.dumps(self._queue_policy(), sort_keys=True),
                "RedrivePolicy": json.dumps(redrive, sort_keys=True),
                "VisibilityTimeout": str(6 * self._settings.timeout),  # as Lambda wants it of queues
            },
        )
        self._make_role()
        self._make_log()
        self._make_function(code)
        self._make_mapping()
        self._make_notifications()

    def remove(self) -> None:
        found = self._check_its_bucket()
        queue = self._queue_url(self._queue)
        if not queue or self._queue_tags(queue).get(_TAG) == self._name:
            kept, ours = self._notifications()
            if ours:
                self._put_notifications(kept, "no longer told of what comes")
            for mapping in self._mappings():
                self._send("queue and function: parted", self._lambda.delete_event_source_mapping,
                           "DeleteEventSourceMapping", UUID=mapping["UUID"])  # fmt: skip
        if found and self._is_ours(f"function {self._name}", found.get("Tags", {})):
            self._send(f"function {self._name}: removed", self._lambda.delete_function, "DeleteFunction",
                       FunctionName=self._name)  # fmt: skip
        role = self._there(self._iam.get_role, RoleName=self._name)
        if role and self._is_ours(f"role {self._name}", _tags(role["Role"].get("Tags", []))):
            names = {"RoleName": self._name}
            if self._there(self._iam.get_role_policy, **names, PolicyName=self._name):
                self._send(f"role {self._name}: its policy removed", self._iam.delete_role_policy, "DeleteRolePolicy",
                           **names, PolicyName=self._name)  # fmt: skip
            self._send(f"role {self._name}: removed", self._iam.delete_role, "DeleteRole", **names)
        for name in (self._queue, self._dead):
            url = self._queue_url(name)
            if url and self._is_ours(f"queue {name}", self._queue_tags(url)):
                self._send(f"queue {name}: removed", self._sqs.delete_queue, "DeleteQueue", QueueUrl=url)
        log = self._log_tags()
        if log is not None and self._is_ours(f"log {self._log}", log):
            self._send(f"log {self._log}: removed", self._logs.delete_log_group, "DeleteLogGroup",
                       logGroupName=self._log)  # fmt: skip
        self._send.say(f"s3://{self._bucket.name}: what is in it stays")

    def _check_its_bucket(self) -> dict[str, Any] | None:
        """The function, if there is one.

        Raises: CastlineError when ours works in another bucket: that would go on telling a queue of what comes that
        takes nothing of it, or is not there.
        """
        found = self._there(self._lambda.get_function, FunctionName=self._name)
        if found and found.get("Tags", {}).get(_TAG) == self._name:
            variables = found["Configuration"].get("Environment", {}).get("Variables", {})
            its = variables.get("CASTLINE_BUCKET", self._bucket.name)
            if its != self._bucket.name:
                raise CastlineError(
                    f"function {self._name} works in bucket {its}",
                    f"castline lambda remove --bucket {its} first, or another --name",
                )
        return found

    def _is_ours(self, what: str, tags: Mapping[str, str]) -> bool:
        ours = tags.get(_TAG) == self._name
        if not ours:
            self._send.say(f"{what}: not made by castline, it stays")
        return ours

    def _check_ours(self, what: str, tags: Mapping[str, str]) -> None:
        if tags.get(_TAG) != self._name:
            raise CastlineError(f"{what}: is there, and castline did not make it", "another --name")

    def _there(self, call: Callable[..., Any], **request: Any) -> dict[str, Any] | None:
        """What a service says of something, or None where it has none."""
        from botocore.exceptions import ClientError

        with said(self._name):
            try:
                found: dict[str, Any] = call(**request)
            except ClientError as error:
                if not re.search(
                    "NotFound|NoSuchBucket|NoSuchEntity|NonExistentQueue|QueueDoesNotExist", code_of(error)
                ):
                    raise
                return None
        return found

    def _patiently(self, told: str, call: Callable[..., Any], operation: str, words: str, **request: Any) -> Any:
        """Send it again while it is refused because what was just made is not known there yet, which `words` say."""
        for _ in range(_PATIENCE):
            try:
                return self._send(told, call, operation, **request)
            except CastlineError as error:
                if not re.search(words, error.what):
                    raise
                last = error
                self._wait(1.0)
        raise last

    # Queues

    def _queue_url(self, name: str) -> str:
        return str((self._there(self._sqs.get_queue_url, QueueName=name) or {}).get("QueueUrl", ""))

    def _queue_tags(self, url: str) -> dict[str, str]:
        with said(url):
            return dict(self._sqs.list_queue_tags(QueueUrl=url).get("Tags", {}))

    def _queue_policy(self) -> dict[str, Any]:
        """S3 may send to the queue, for this bucket of this account."""
        condition = {
            "ArnEquals": {"aws:SourceArn": f"arn:{self._account.partition}:s3:::{self._bucket.name}"},
            "StringEquals": {"aws:SourceAccount": self._account.id},
        }
        allow = {"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sqs:SendMessage"}
        resource = self._account.arn("sqs", self._queue)
        return {"Version": "2012-10-17", "Statement": [{**allow, "Resource": resource, "Condition": condition}]}

    def _make_queue(self, name: str, attributes: dict[str, str]) -> None:
        url = self._queue_url(name)
        if not url:
            self._patiently(f"queue {name}: created", self._sqs.create_queue, "CreateQueue", "QueueDeletedRecently",
                            QueueName=name, Attributes=attributes, tags=self._tags)  # fmt: skip
            return
        self._check_ours(f"queue {name}", self._queue_tags(url))
        with said(url):
            there = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(attributes)).get("Attributes", {})
        if all(_same(there.get(key), value) for key, value in attributes.items()):
            self._send.say(f"queue {name}: there already")
        else:
            self._send(f"queue {name}: updated", self._sqs.set_queue_attributes, "SetQueueAttributes",
                       QueueUrl=url, Attributes=attributes)  # fmt: skip

    # Role and log

    def _make_role(self) -> None:
        wanted = policy(self._account, self._bucket.name, self._name)
        role = self._there(self._iam.get_role, RoleName=self._name)
        if role:
            self._check_ours(f"role {self._name}", _tags(role["Role"].get("Tags", [])))
        else:
            trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
            document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
            self._send(f"role {self._name}: created", self._iam.create_role, "CreateRole", RoleName=self._name,
                       AssumeRolePolicyDocument=document, Tags=[{"Key": _TAG, "Value": self._name}])  # fmt: skip
        names = {"RoleName": self._name, "PolicyName": self._name}
        there = self._there(self._iam.get_role_policy, **names) if role else None
        if there and there["PolicyDocument"] == wanted:
            self._send.say(f"role {self._name}: there already")
        else:
            self._send(f"role {self._name}: its policy written", self._iam.put_role_policy, "PutRolePolicy", **names,
                       PolicyDocument=json.dumps(wanted, indent=2))  # fmt: skip

    def _log_tags(self) -> dict[str, str] | None:
        found = self._there(self._logs.list_tags_log_group, logGroupName=self._log)
        return None if found is None else dict(found.get("tags", {}))

    def _make_log(self) -> None:
        tags = self._log_tags()
        if tags is not None:
            self._check_ours(f"log {self._log}", tags)
            found = self._there(self._logs.describe_log_groups, logGroupNamePrefix=self._log) or {}
            if any(one["logGroupName"] == self._log and "retentionInDays" in one for one in found.get("logGroups", [])):
                self._send.say(f"log {self._log}: there already")
                return
        else:
            self._send(f"log {self._log}: created", self._logs.create_log_group, "CreateLogGroup",
                       logGroupName=self._log, tags=self._tags)  # fmt: skip
        self._send(f"log {self._log}: kept for {_DAYS} days", self._logs.put_retention_policy, "PutRetentionPolicy",
                   logGroupName=self._log, retentionInDays=_DAYS)  # fmt: skip

    # Function

    def _make_function(self, code: Code) -> None:
        source, digest = self._source(code)
        kind = "Image" if code.image else "Zip"
        settings: dict[str, Any] = {
            "Description": f"castline {code.version}",
            "Environment": {"Variables": {"CASTLINE_ACCOUNT": self._account.id, "CASTLINE_BUCKET": self._bucket.name}},
            "MemorySize": self._settings.memory,
            "Role": self._role,
            "Timeout": self._settings.timeout,
        }
        if code.zip:
            settings |= {"Handler": "handler.handle", "Runtime": f"python{code.python}"}
        name = {"FunctionName": self._name}
        there = self._there(self._lambda.get_function, **name)
        if there is None:
            self._patiently(
                f"function {self._name}: created of {code.version}", self._lambda.create_function, "CreateFunction",
                "cannot be assumed by Lambda", **name, **settings, Code=source, Tags=self._tags, PackageType=kind,
                Architectures=[code.architecture],
            )  # fmt: skip
            self._settle("function_active_v2")
            return
        self._check_ours(f"function {self._name}", there.get("Tags", {}))
        has = there["Configuration"]
        if (has_kind := has.get("PackageType", "Zip")) != kind:
            raise CastlineError(
                f"function {self._name} has package type {has_kind}, and that cannot be changed",
                "castline lambda remove; then the same command",
            )
        moves = bool(code.image) and "@" not in code.image  # a tag, which may lead to another image by now
        if moves or digest != (there["Code"].get("ImageUri") if code.image else has["CodeSha256"]):
            self._send(f"function {self._name}: its code is {code.version}", self._lambda.update_function_code,
                       "UpdateFunctionCode", **name, **source, Architectures=[code.architecture])  # fmt: skip
            self._settle("function_updated_v2")
        else:
            self._send.say(f"function {self._name}: has {code.version} already")
        if any(has.get(key) != value for key, value in settings.items()):
            self._send(f"function {self._name}: configured", self._lambda.update_function_configuration,
                       "UpdateFunctionConfiguration", **name, **settings)  # fmt: skip
            self._settle("function_updated_v2")

    def _source(self, code: Code) -> tuple[dict[str, str], str]:
        """Where Lambda is to get the code, and what it calls it."""
        if code.zip is None:
            return {"ImageUri": code.image}, code.image
        digest = hashlib.sha256(code.zip.read_bytes())
        key = f"code/{self._name}/{digest.hexdigest()}.zip"
        upload(self._s3, self._bucket.ours, key, code.zip, digest.hexdigest(), self._send)
        return {"S3Bucket": self._bucket.name, "S3Key": key}, base64.b64encode(digest.digest()).decode()

    def _settle(self, waiter: str) -> None:
        from botocore.exceptions import WaiterError

        if self._send.dry_run:
            return
        try:
            self._lambda.get_waiter(waiter).wait(FunctionName=self._name)
        except WaiterError as error:
            raise CastlineError(
                f"function {self._name}: {short(str(error), 300)}", "the same command, later"
            ) from error

    def _mappings(self) -> Iterator[dict[str, Any]]:
        found = self._there(
            self._lambda.list_event_source_mappings,
            FunctionName=self._name,
            EventSourceArn=self._account.arn("sqs", self._queue),
        )
        yield from (found or {}).get("EventSourceMappings", [])

    def _make_mapping(self) -> None:
        wanted: dict[str, Any] = {
            "BatchSize": 10,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "ScalingConfig": {"MaximumConcurrency": self._settings.concurrency},
        }
        for there in self._mappings():
            if there.get("State") == "Deleting":  # as for a while after `remove`
                continue
            if all(there.get(key) == value for key, value in wanted.items()):
                self._send.say("queue and function: joined already")
            else:
                self._send("queue and function: updated", self._lambda.update_event_source_mapping,
                           "UpdateEventSourceMapping", UUID=there["UUID"], **wanted)  # fmt: skip
            return
        self._patiently(
            "queue and function: joined", self._lambda.create_event_source_mapping, "CreateEventSourceMapping",
            "does not have permissions|already exists", FunctionName=self._name, **wanted,
            EventSourceArn=self._account.arn("sqs", self._queue),
        )  # fmt: skip

    # What S3 tells

    def _notifications(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Those of the bucket without ours, and ours."""
        there = self._there(self._s3.get_bucket_notification_configuration, **self._bucket.ours) or {}
        there.pop("ResponseMetadata", None)
        queue = self._account.arn("sqs", self._queue)
        ours = [one for one in there.get("QueueConfigurations", []) if one["QueueArn"] == queue]
        for kind in ("QueueConfigurations", "TopicConfigurations", "LambdaFunctionConfigurations"):
            kept = [one for one in there.pop(kind, []) if one not in ours]
            if kept:
                there[kind] = kept
        return there, ours

    def _wanted_notifications(self) -> list[dict[str, Any]]:
        return [
            {
                "Id": f"{self._name}-{prefix.rstrip('/')}",
                "QueueArn": self._account.arn("sqs", self._queue),
                "Events": ["s3:ObjectCreated:*"],
                "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}},
            }
            for prefix in (INBOX, DELIVERIES)
        ]

    def _make_notifications(self) -> None:
        kept, ours = self._notifications()
        wanted = self._wanted_notifications()
        if _rules(ours) == _rules(wanted):
            self._send.say(f"s3://{self._bucket.name}: tells of what comes already")
            return
        kept["QueueConfigurations"] = [*kept.get("QueueConfigurations", []), *wanted]
        self._put_notifications(kept, f"tells of what comes below {INBOX} and {DELIVERIES}")

    def _put_notifications(self, configuration: dict[str, Any], told: str) -> None:
        self._patiently(
            f"s3://{self._bucket.name}: {told}", self._s3.put_bucket_notification_configuration,
            "PutBucketNotificationConfiguration", "Unable to validate the following destination", **self._bucket.ours,
            NotificationConfiguration=configuration,
        )  # fmt: skip


def _rules(notifications: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Notifications by what they say, in one order. S3 writes `prefix` as it likes."""
    return sorted(
        (one["Id"], one["QueueArn"], *one["Events"], *(f"{rule['Name'].lower()}={rule['Value']}"
         for rule in one.get("Filter", {}).get("Key", {}).get("FilterRules", [])))
        for one in notifications
    )  # fmt: skip


def _tags(listed: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in listed}


def _same(one: str | None, other: str) -> bool:
    """Whether two attributes of a queue say the same: some are JSON."""
    try:
        return one is not None and json.loads(one) == json.loads(other)
    except ValueError:
        return one == other

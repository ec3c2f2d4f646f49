"""Publishing to moto: what is made, that a second time makes nothing, and that removing takes what carries the tag."""

import base64
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws
from typer.testing import CliRunner

from castline.cli import app
from castline.cloud.lambda_bucket import TRIGGERS
from castline.cloud.lambda_build import ABOUT
from castline.cloud.lambda_publish import Account, Code, Settings, connect, open_zip, policy, publish, remove
from castline.errors import CastlineError, ConfigError

REGION, BUCKET, NAME = "eu-central-1", "our-photos", "castline-recognizer"
# Moto says on standard error that there is no docker; it runs no function here.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


SENT: list[str] = []


@cache
def account() -> Account:
    """Clients are dear: one set for all tests. What changes something is counted."""

    def count(model: Any, **_: Any) -> None:
        if not model.name.startswith(("Get", "List", "Head", "Describe")):
            SENT.append(model.name)

    made = connect(REGION)
    for client in made.clients.values():
        client.meta.events.register("before-call.*", count)
    return made


class Cloud:
    """An account with a bucket, and what was sent to it that changes something."""

    def __init__(self, account: Account) -> None:
        self.account, self.said, self.sent = account, list[str](), SENT
        SENT.clear()
        account.clients["s3"].create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})

    def publish(self, code: Code, **options: Any) -> list[str]:
        self.sent.clear()
        settings = options.pop("settings", Settings())
        publish(code, self.account, BUCKET, settings, say=self.said.append, wait=lambda _: None, **options)
        return self.sent

    def remove(self, **options: Any) -> list[str]:
        self.sent.clear()
        remove(self.account, BUCKET, Settings(), say=self.said.append, **options)
        return self.sent

    @property
    def notifications(self) -> dict[str, Any]:
        found: dict[str, Any] = self.account.clients["s3"].get_bucket_notification_configuration(Bucket=BUCKET)
        found.pop("ResponseMetadata")
        return found

    def function(self) -> dict[str, Any]:
        found: dict[str, Any] = self.account.clients["lambda"].get_function(FunctionName=NAME)
        return found


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cloud]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws(config={"lambda": {"use_docker": False}}):
        yield Cloud(account())


def code_of(folder: Path, version: str = "1.2.0", more: bytes = b"") -> Code:
    path = folder / f"{version}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(ABOUT, json.dumps({"version": version, "architecture": "arm64", "python": "3.12"}))
        archive.writestr("handler.py", more)
    return open_zip(path)


def test_the_first_time_everything_is_made_and_then_nothing(cloud: Cloud, tmp_path: Path) -> None:
    code = code_of(tmp_path)
    assert set(cloud.publish(code)) == {
        "CreateQueue", "CreateRole", "PutRolePolicy", "CreateLogGroup", "PutRetentionPolicy", "PutObject",
        "CreateFunction", "CreateEventSourceMapping", "PutBucketNotificationConfiguration",
    }  # fmt: skip
    made = cloud.function()["Configuration"]
    assert code.zip is not None
    assert made["CodeSha256"] == base64.b64encode(hashlib.sha256(code.zip.read_bytes()).digest()).decode()
    assert (made["Runtime"], made["Handler"], made["Architectures"]) == ("python3.12", "handler.handle", ["arm64"])
    assert made["Environment"]["Variables"] == {"CASTLINE_BUCKET": BUCKET, "CASTLINE_ACCOUNT": "123456789012"}
    (mapping,) = cloud.account.clients["lambda"].list_event_source_mappings()["EventSourceMappings"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 5}
    rules = [one["Filter"]["Key"]["FilterRules"] for one in cloud.notifications["QueueConfigurations"]]
    assert [rule["Value"] for (rule,) in rules] == list(TRIGGERS)
    assert cloud.publish(code) == []


def test_the_queue_takes_messages_of_our_bucket_alone_and_keeps_what_fails(cloud: Cloud, tmp_path: Path) -> None:
    cloud.publish(code_of(tmp_path))
    sqs = cloud.account.clients["sqs"]
    url = sqs.get_queue_url(QueueName=f"{NAME}-arrivals")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    (statement,) = json.loads(attributes["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"} and statement["Action"] == "sqs:SendMessage"
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{BUCKET}"},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }
    redrive = json.loads(attributes["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"].endswith(f"{NAME}-failed") and int(redrive["maxReceiveCount"]) == 5
    assert int(attributes["VisibilityTimeout"]) == 6 * Settings().timeout


def test_the_function_may_write_nothing_that_calls_it(cloud: Cloud) -> None:
    for statement in policy(cloud.account, BUCKET, NAME)["Statement"]:
        assert not any(
            action.endswith("*") or ("Delete" in action and "sqs" not in action) for action in statement["Action"]
        )
        if "s3:PutObject" in statement["Action"]:
            for resource in statement["Resource"]:
                assert resource.startswith(f"arn:aws:s3:::{BUCKET}/")
                assert not resource.removeprefix(f"arn:aws:s3:::{BUCKET}/").startswith((*TRIGGERS, "*"))


def test_new_code_and_settings_are_brought_and_nothing_else(cloud: Cloud, tmp_path: Path) -> None:
    cloud.publish(code_of(tmp_path))
    newer = code_of(tmp_path, "1.3.0", b"#")
    assert cloud.publish(newer) == [
        "PutObject", "UpdateFunctionCode", "UpdateFunctionConfiguration",
    ]  # fmt: skip
    settings = Settings(memory=3008, timeout=60, concurrency=2)
    assert cloud.publish(newer, settings=settings) == [
        "SetQueueAttributes", "UpdateFunctionConfiguration", "UpdateEventSourceMapping",
    ]  # fmt: skip
    found = cloud.function()["Configuration"]
    assert (found["MemorySize"], found["Timeout"], found["Description"]) == (3008, 60, "castline 1.3.0")


def test_a_dry_run_says_everything_and_sends_nothing(cloud: Cloud, tmp_path: Path) -> None:
    assert cloud.publish(code_of(tmp_path), dry_run=True) == []
    said = "\n".join(cloud.said)
    assert "PutRolePolicy" in said and "ReportBatchItemFailures" in said and "s3:ObjectCreated:*" in said
    cloud.publish(code_of(tmp_path))
    assert cloud.remove(dry_run=True) == []
    assert "DeleteFunction" in "\n".join(cloud.said)


def test_removing_takes_all_of_ours_and_nothing_of_others(cloud: Cloud, tmp_path: Path) -> None:
    theirs = {"Id": "theirs", "TopicArn": f"arn:aws:sns:{REGION}:123456789012:t", "Events": ["s3:ObjectRemoved:*"]}
    s3 = cloud.account.clients["s3"]
    cloud.account.clients["s3"].put_object(Bucket=BUCKET, Key="inbox/1.jpg", Body=b"1")
    s3.put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"TopicConfigurations": [theirs]},
        SkipDestinationValidation=True,
    )  # fmt: skip
    cloud.publish(code_of(tmp_path))
    assert len(cloud.notifications["QueueConfigurations"]) == 2
    cloud.remove()
    assert [one["Id"] for one in cloud.notifications.pop("TopicConfigurations")] == ["theirs"]
    assert not cloud.notifications.get("QueueConfigurations")
    assert not cloud.account.clients["lambda"].list_functions()["Functions"]
    assert not cloud.account.clients["lambda"].list_event_source_mappings()["EventSourceMappings"]
    assert not cloud.account.clients["iam"].list_roles()["Roles"]
    assert not cloud.account.clients["sqs"].list_queues().get("QueueUrls")
    assert not cloud.account.clients["logs"].describe_log_groups()["logGroups"]
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert "inbox/1.jpg" in keys
    assert cloud.remove() == []


@pytest.mark.parametrize("what", ["queue", "role", "log"])
def test_what_castline_did_not_make_is_not_touched(cloud: Cloud, tmp_path: Path, what: str) -> None:
    clients = cloud.account.clients
    make = {
        "queue": lambda: clients["sqs"].create_queue(QueueName=f"{NAME}-failed"),
        "role": lambda: clients["iam"].create_role(RoleName=NAME, AssumeRolePolicyDocument="{}"),
        "log": lambda: clients["logs"].create_log_group(logGroupName=f"/aws/lambda/{NAME}"),
    }
    make[what]()
    with pytest.raises(CastlineError, match=rf"(?s){what} .*: is there, and castline did not make it.*another --name"):
        cloud.publish(code_of(tmp_path))
    cloud.remove()
    assert any(line.startswith(what) and "it stays" in line for line in cloud.said)
    left = {
        "queue": lambda: clients["sqs"].list_queues().get("QueueUrls"),
        "role": lambda: clients["iam"].list_roles()["Roles"],
        "log": lambda: clients["logs"].describe_log_groups()["logGroups"],
    }
    assert left[what]()


def test_a_mapping_that_is_on_its_way_out_is_none(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = code_of(tmp_path)
    cloud.publish(code)
    client = cloud.account.clients["lambda"]
    (going,) = client.list_event_source_mappings()["EventSourceMappings"]
    client.delete_event_source_mapping(UUID=going["UUID"])
    answer = {"EventSourceMappings": [going | {"State": "Deleting"}]}
    monkeypatch.setattr(client, "list_event_source_mappings", lambda **_: answer)
    assert cloud.publish(code) == ["CreateEventSourceMapping"]


def test_a_log_that_would_be_kept_for_ever_is_not(cloud: Cloud, tmp_path: Path) -> None:
    code = code_of(tmp_path)
    cloud.publish(code)
    cloud.account.clients["logs"].delete_retention_policy(logGroupName=f"/aws/lambda/{NAME}")
    assert cloud.publish(code) == ["PutRetentionPolicy"]


def test_what_others_queues_are_told_stays(cloud: Cloud) -> None:
    cloud.account.clients["sqs"].create_queue(QueueName=f"{NAME}-arrivals")
    theirs = {"QueueArn": cloud.account.arn("sqs", f"{NAME}-arrivals"), "Events": ["s3:ObjectCreated:*"]}
    cloud.account.clients["s3"].put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": [theirs]}, SkipDestinationValidation=True
    )
    assert cloud.remove() == [] and cloud.notifications["QueueConfigurations"]


def test_a_function_is_taken_from_no_bucket_unseen(cloud: Cloud, tmp_path: Path) -> None:
    code, other = code_of(tmp_path), "other-photos"
    cloud.publish(code)
    cloud.account.clients["s3"].create_bucket(Bucket=other, CreateBucketConfiguration={"LocationConstraint": REGION})
    cloud.sent.clear()
    with pytest.raises(CastlineError, match=rf"works in bucket {BUCKET}"):
        publish(code, cloud.account, other, Settings(), say=cloud.said.append)
    with pytest.raises(CastlineError, match=rf"works in bucket {BUCKET}"):
        remove(cloud.account, other, Settings(), say=cloud.said.append)
    assert cloud.sent == [] and len(cloud.notifications["QueueConfigurations"]) == 2
    s3 = cloud.account.clients["s3"]
    for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
        s3.delete_object(Bucket=BUCKET, Key=item["Key"])
    s3.delete_bucket(Bucket=BUCKET)
    assert "DeleteFunction" in cloud.remove(), "also when the bucket is gone"


def test_an_image_is_a_function_too(cloud: Cloud, tmp_path: Path) -> None:
    uri = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/castline:1.2.0"
    assert "PutObject" not in cloud.publish(Code("1.2.0", image=uri))
    assert cloud.function()["Configuration"]["PackageType"] == "Image"
    assert cloud.publish(Code("1.2.0", image=uri)) == ["UpdateFunctionCode"], "a tag may lead elsewhere by now"
    with pytest.raises(CastlineError, match="has package type Image, and that cannot be changed"):
        cloud.publish(code_of(tmp_path))


def test_mistakes_are_said_before_anything_is_sent(cloud: Cloud, tmp_path: Path) -> None:
    with pytest.raises(CastlineError, match=r"(?s)0\.0\.0\+5f3a: this model was never released.*castline release"):
        cloud.publish(code_of(tmp_path, "0.0.0+5f3a"))
    with pytest.raises(CastlineError, match="not made by castline"):
        open_zip(Path(__file__))
    for wrong in ({"name": "a b"}, {"memory": 128}, {"timeout": 901}, {"concurrency": 1}):
        with pytest.raises(ConfigError, match=f"--{next(iter(wrong))}"):
            Settings(**wrong)  # type: ignore[arg-type]
    assert cloud.sent == []


def test_the_commands(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("castline.cloud.lambda_publish.connect", lambda region: account())
    path = code_of(tmp_path).zip
    run = CliRunner().invoke
    options = ["--bucket", BUCKET, "--region", REGION]
    done = run(app, ["lambda", "publish", "--zip", str(path), *options])
    assert done.exit_code == 0 and f"s3://{BUCKET}/results/photo.jpg.json" in done.output
    done = run(app, ["lambda", "remove", *options])
    assert done.exit_code == 0 and "function castline-recognizer: removed" in done.output
    done = run(app, ["lambda", "publish", *options])
    assert isinstance(done.exception, CastlineError) and "one of --zip and --image" in str(done.exception)

"""Publishing: S3 is moto's; Greengrass, which moto has not, answers from a list, and what is sent has to fit AWS's own
model of the service, by which boto3 sends it."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from moto import mock_aws
from typer.testing import CliRunner

from castline.cli import app
from castline.edge.publish import Aws, Package, Rollout, open_package, publish
from castline.edge.recipes import PackageSettings, joined, json_bytes, recipe
from castline.errors import CastlineError, ConfigError

REGION, BUCKET, GROUP = "eu-central-1", "castline-artifacts", "cameras"
NAME = "com.example.CastlineRecognizer"
TARGET = f"arn:aws:iot:{REGION}:123456789012:thinggroup/{GROUP}"
ARN = f"arn:aws:greengrass:{REGION}:123456789012:components:{NAME}:versions:1.2.3"
TOPIC = "ml/tflite/image-classification"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of the machine's; those of nobody."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nobody")


class Cloud:
    """An account: S3 and STS of moto, Greengrass with the answers that a test expects it to be asked for."""

    def __init__(self) -> None:
        made = {name: boto3.client(name, region_name=REGION) for name in ("s3", "greengrassv2", "sts")}
        self.aws = Aws(made["s3"], made["greengrassv2"], made["sts"], REGION)
        self.greengrass = Stubber(made["greengrassv2"])
        self.sent: list[tuple[str, dict[str, Any]]] = []
        made["greengrassv2"].meta.events.register(
            "provide-client-params.greengrassv2.*",
            lambda params, model, **_: self.sent.append((model.name, dict(params))),
        )
        made["s3"].create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.said: list[str] = []

    def component(self, digest: str | None, state: str = "DEPLOYABLE") -> None:
        """It is asked for a component version, and has one of that digest, or none."""
        if digest is None:
            self.greengrass.add_client_error(
                "describe_component", "ResourceNotFoundException", "no", 404, expected_params={"arn": ARN}
            )
        else:
            status = {"componentState": state, "message": "artifact digest"}
            self.greengrass.add_response("describe_component", {"status": status, "tags": {"castline-sha256": digest}})

    def created(self) -> None:
        self.greengrass.add_response(
            "create_component_version",
            {
                "componentName": NAME,
                "componentVersion": "1.2.3",
                "creationTimestamp": 0,
                "status": {"componentState": "REQUESTED"},
            },
            {"inlineRecipe": ANY, "tags": ANY},
        )

    def deployment(self, present: dict[str, Any] | None = None, ends: bool = True) -> None:
        """It is asked for the group's deployment; where `ends`, for a new one."""
        listed = [{"deploymentId": "d-1", "targetArn": TARGET}] if present else []
        self.greengrass.add_response(
            "list_deployments", {"deployments": listed}, {"targetArn": TARGET, "historyFilter": "LATEST_ONLY"}
        )
        if present:
            self.greengrass.add_response("get_deployment", present, {"deploymentId": "d-1"})
        if ends:
            self.greengrass.add_response("create_deployment", {"deploymentId": "d-2"})

    def publish(self, package: Package, **options: Any) -> None:
        with self.greengrass:
            publish(package, self.aws, options.pop("bucket", BUCKET), GROUP, options.pop("rollout", Rollout()),
                    say=self.said.append, wait=lambda _: None, **options)  # fmt: skip
        self.greengrass.assert_no_pending_responses()

    def request(self, operation: str) -> dict[str, Any]:
        (found,) = [params for name, params in self.sent if name == operation]
        return found

    @property
    def keys(self) -> list[str]:
        return [item["Key"] for item in self.aws.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with mock_aws():
        yield Cloud()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """build/edge, its zips of a few bytes."""
    folder = tmp_path / "edge"
    artifacts = folder / "artifacts" / NAME / "1.2.3"
    artifacts.mkdir(parents=True)
    for name in ("castline-edge-0.1.0.zip", "recognizer-1.2.3.zip"):
        (artifacts / name).write_bytes(name.encode())
    settings = PackageSettings(
        configuration={"PublishResultsOnTopic": TOPIC, "LocalTopic": "", "ImageDirectory": "images"}
    )
    for nucleus in ("classic", "lite"):
        path = folder / "recipes" / nucleus / f"{NAME}-1.2.3.json"
        path.parent.mkdir(parents=True)
        made = recipe(settings, nucleus, "1.2.3", "castline-edge-0.1.0.zip", "recognizer-1.2.3.zip", "5f3a")
        path.write_bytes(json_bytes(made))
    return folder


@pytest.fixture
def package(folder: Path) -> Package:
    return open_package(folder)


def digest_of(cloud: Cloud) -> str:
    return str(cloud.request("CreateComponentVersion")["tags"]["castline-sha256"])


def test_the_first_time_everything_is_made(cloud: Cloud, package: Package) -> None:
    cloud.component(None)
    cloud.created()
    cloud.component("x", "REQUESTED")
    cloud.component("x")
    cloud.deployment()
    cloud.publish(package, bucket=f"{BUCKET}/devices")
    keys = [f"devices/{NAME}/1.2.3/{file}" for file in package.artifacts]
    assert cloud.keys == keys
    for key, path in zip(keys, package.artifacts.values(), strict=True):
        found = cloud.aws.s3.get_object(Bucket=BUCKET, Key=key)
        assert found["Body"].read() == path.read_bytes()
        assert found["Metadata"] == {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    sent = json.loads(cloud.request("CreateComponentVersion")["inlineRecipe"])
    uris = [artifact.get("URI", artifact.get("Uri")) for one in sent["Manifests"] for artifact in one["Artifacts"]]
    assert uris == 2 * [f"s3://{BUCKET}/{key}" for key in keys]
    request = cloud.request("CreateDeployment")
    assert request["targetArn"] == TARGET
    assert request["components"][NAME]["componentVersion"] == "1.2.3"
    assert request["deploymentPolicies"]["failureHandlingPolicy"] == "ROLLBACK"
    jobs = request["iotJobConfiguration"]
    assert jobs["jobExecutionsRolloutConfig"]["exponentialRate"]["baseRatePerMinute"] == 10
    assert {one["failureType"] for one in jobs["abortConfig"]["criteriaList"]} == {"FAILED", "TIMED_OUT"}


def test_a_second_time_nothing_is_done_twice(cloud: Cloud, package: Package) -> None:
    cloud.component(None)
    cloud.created()
    cloud.component("x")
    cloud.deployment()
    cloud.publish(package)
    digest, components = digest_of(cloud), cloud.request("CreateDeployment")["components"]
    written = cloud.aws.s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    cloud.sent.clear()
    cloud.component(digest)
    cloud.component(digest)
    cloud.deployment({"components": components, "deploymentStatus": "ACTIVE"}, ends=False)
    cloud.publish(package)
    assert [name for name, _ in cloud.sent if name.startswith("Create")] == []
    assert cloud.aws.s3.list_objects_v2(Bucket=BUCKET)["Contents"] == written
    assert cloud.said[-1] == f"{TARGET}: has {NAME} 1.2.3 already"


def test_a_deployment_that_failed_is_made_again(cloud: Cloud, package: Package) -> None:
    cloud.component("x")
    cloud.deployment()
    cloud.publish(package, earlier="1.2.3")
    components = cloud.request("CreateDeployment")["components"]
    cloud.component("x")
    cloud.deployment({"components": components, "deploymentStatus": "FAILED"})
    cloud.publish(package, earlier="1.2.3")


def test_only_what_is_absent_or_different_is_uploaded(cloud: Cloud, package: Package) -> None:
    first, second = (f"{NAME}/1.2.3/{file}" for file in package.artifacts)
    digest = hashlib.sha256(next(iter(package.artifacts.values())).read_bytes()).hexdigest()
    cloud.aws.s3.put_object(Bucket=BUCKET, Key=first, Body=b"kept", Metadata={"sha256": digest})
    cloud.aws.s3.put_object(Bucket=BUCKET, Key=second, Body=b"half of it")
    cloud.component(None)
    cloud.created()
    cloud.component("x")
    cloud.deployment()
    cloud.publish(package)
    assert cloud.aws.s3.get_object(Bucket=BUCKET, Key=first)["Body"].read() == b"kept"
    assert cloud.aws.s3.get_object(Bucket=BUCKET, Key=second)["Body"].read() == b"recognizer-1.2.3.zip"


def test_a_published_version_stays_as_it_is(cloud: Cloud, package: Package) -> None:
    cloud.component("of something else")
    with pytest.raises(CastlineError, match="published with another recipe or other artifacts") as refused:
        cloud.publish(package)
    assert "castline release patch" in str(refused.value)
    assert cloud.keys == [], "nothing was uploaded over it"


def test_a_component_that_the_cloud_refuses_is_said(cloud: Cloud, package: Package) -> None:
    cloud.component(None)
    cloud.created()
    cloud.component("x", "FAILED")
    with pytest.raises(CastlineError, match="FAILED: artifact digest"):
        cloud.publish(package)


def test_what_else_is_deployed_to_the_group_stays(cloud: Cloud, package: Package) -> None:
    others: dict[str, Any] = {
        "aws.greengrass.Cli": {"componentVersion": "2.14.0"},
        "com.example.Door": {
            "componentVersion": "1.0.0",
            "configurationUpdate": {"merge": '{"a": 1}', "reset": ["/b"]},
            "runWith": {"posixUser": "door:door"},
        },
    }
    ours = {
        "componentVersion": "1.1.0",
        "configurationUpdate": {"merge": '{"Source": "camera:/dev/video2", "PublishResultsOnTopic": "hall"}'},
        "runWith": {"posixUser": "cast:video"},
    }
    cloud.component("x")
    cloud.deployment(
        {
            "components": {**others, NAME: ours},
            "deploymentName": "Hall",
            "tags": {"team": "hall"},
            "deploymentStatus": "ACTIVE",
        }
    )
    cloud.publish(package, earlier="1.2.3", configuration={"LocalTopic": "hall/local"})
    request = cloud.request("CreateDeployment")
    assert {name: request["components"][name] for name in others} == others
    assert request["deploymentName"] == "Hall" and request["tags"] == {"team": "hall"}
    made = request["components"][NAME]
    assert made["runWith"] == {"posixUser": "cast:video"}
    merge = json.loads(made["configurationUpdate"]["merge"])
    assert merge["Source"] == "camera:/dev/video2" and merge["LocalTopic"] == "hall/local"
    rights = merge["accessControl"]
    assert rights["aws.greengrass.ipc.mqttproxy"][f"{NAME}:mqttproxy:1"]["resources"] == ["hall", "hall/events"]
    assert rights["aws.greengrass.ipc.pubsub"][f"{NAME}:pubsub:1"]["resources"] == ["hall/local"]


def test_a_dry_run_changes_nothing_and_shows_what_would_be_sent(cloud: Cloud, package: Package) -> None:
    cloud.component(None)
    cloud.deployment({"components": {"aws.greengrass.Cli": {"componentVersion": "2.14.0"}}}, ends=False)
    cloud.publish(package, dry_run=True)
    assert cloud.keys == []
    requests = [line.partition(" ")[0] for line in cloud.said]
    assert requests == ["PutObject", "PutObject", "CreateComponentVersion", "CreateDeployment"]
    assert json.loads(cloud.said[-1].partition(" ")[2])["components"].keys() == {"aws.greengrass.Cli", NAME}


def test_a_dry_run_prints_no_password(cloud: Cloud, package: Package) -> None:
    cloud.component("x")
    cloud.deployment(ends=False)
    cloud.publish(package, earlier="1.2.3", dry_run=True, configuration={"Source": "rtsp://admin:s3/cr3t@10.0.0.7/1"})
    assert "rtsp://10.0.0.7/1" in cloud.said[-1] and "cr3t" not in cloud.said[-1]


def test_an_earlier_version_is_the_way_back(cloud: Cloud, package: Package) -> None:
    cloud.greengrass.add_response("describe_component", {"status": {"componentState": "DEPLOYABLE"}},
                                  {"arn": ARN.replace("1.2.3", "1.1.0")})  # fmt: skip
    cloud.deployment({"components": {NAME: {"componentVersion": "1.2.3"}}})
    cloud.publish(package, earlier="1.1.0")
    assert cloud.request("CreateDeployment")["components"][NAME]["componentVersion"] == "1.1.0"
    assert cloud.keys == []
    cloud.component(None)
    with pytest.raises(CastlineError, match="was never published here"):
        cloud.publish(package, earlier="1.2.3")


def test_a_model_that_was_never_released_stays_at_home(cloud: Cloud, package: Package) -> None:
    unreleased = Package(NAME, "0.0.0+5f3a", package.recipe, package.artifacts)
    with pytest.raises(CastlineError, match="never released") as refused:
        cloud.publish(unreleased)
    assert "castline release" in str(refused.value)


@pytest.mark.parametrize("configuration", [{"Colour": "red"}, {"Source": 5}, {"accessControl": "all"}])
def test_settings_that_the_component_has_not_are_refused(
    cloud: Cloud, package: Package, configuration: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=re.escape(next(iter(configuration)))):
        cloud.publish(package, configuration=configuration)
    assert cloud.sent == [] and cloud.keys == []


def test_a_bucket_that_is_not_there_or_elsewhere_is_said(cloud: Cloud, package: Package) -> None:
    with pytest.raises(CastlineError, match="bucket no-such-bucket: is not there"):
        cloud.publish(package, bucket="no-such-bucket")
    elsewhere = boto3.client("s3", region_name="us-west-2")
    elsewhere.create_bucket(Bucket="far", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    with pytest.raises(CastlineError, match="is in us-west-2, what uses it would be in eu-central-1"):
        cloud.publish(package, bucket="far")


def test_each_request_to_s3_names_the_account_that_the_bucket_has_to_be_of(cloud: Cloud, package: Package) -> None:
    """moto does not look at it, so S3's own answer comes from a list."""
    asked: list[tuple[str, Any]] = []
    cloud.aws.s3.meta.events.register(
        "provide-client-params.s3.*",
        lambda params, model, **_: asked.append((model.name, params.get("ExpectedBucketOwner"))),
    )
    cloud.component(None)
    cloud.created()
    cloud.component("x")
    cloud.deployment()
    cloud.publish(package)
    owner = "123456789012"
    assert asked == [("HeadBucket", owner), *[("HeadObject", owner), ("PutObject", owner)] * 2]


def test_a_bucket_that_somebody_else_has_taken_gets_nothing(cloud: Cloud, package: Package) -> None:
    with Stubber(cloud.aws.s3) as s3:
        s3.add_client_error(
            "head_bucket", "403", "Forbidden", 403,
            expected_params={"Bucket": BUCKET, "ExpectedBucketOwner": "123456789012"},
        )  # fmt: skip
        with pytest.raises(CastlineError, match=f"bucket {BUCKET} is not of account 123456789012, or ") as refused:
            cloud.publish(package)
        s3.assert_no_pending_responses()
    assert "next: another bucket" in str(refused.value) and cloud.sent == []


def test_a_bucket_that_is_taken_over_between_two_requests_is_an_error(cloud: Cloud, package: Package) -> None:
    with Stubber(cloud.aws.s3) as s3:
        s3.add_response("head_bucket", {"ResponseMetadata": {"HTTPHeaders": {}}})
        s3.add_client_error("head_object", "404", "Not Found", 404)
        s3.add_client_error("put_object", "AccessDenied", "Access Denied", 403)
        cloud.component(None)
        with pytest.raises(CastlineError, match="PutObject is denied"):
            cloud.publish(package)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDeniedException", "ListDeployments is denied"),
        ("ExpiredTokenException", "not valid"),
        ("ThrottlingException", "ThrottlingException"),
    ],
)
def test_what_aws_refuses_is_said(cloud: Cloud, package: Package, code: str, said: str) -> None:
    cloud.component("x")
    cloud.greengrass.add_client_error("list_deployments", code, "User is not authorized")
    with pytest.raises(CastlineError, match=said):
        cloud.publish(package, earlier="1.2.3")


@pytest.mark.parametrize("rollout", [{"per_minute": 0}, {"per_minute": 1001}, {"abort_percent": 0.0}])
def test_a_rollout_that_aws_would_not_take_is_refused(rollout: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Rollout(**rollout)


def test_the_command_says_what_is_missing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*options: str) -> str:
        return str(
            CliRunner().invoke(app, ["edge", "publish", "--group", GROUP, "--bucket", BUCKET, *options]).exception
        )

    at = ("--package", str(folder))
    assert "no AWS region is set" in said(*at)
    assert "no package here" in said("--package", str(tmp_path / "none"), "--region", REGION)
    (tmp_path / "list.json").write_text("[]")
    assert "no JSON object" in said(*at, "--region", REGION, "--configuration", str(tmp_path / "list.json"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no AWS credentials" in said(*at, "--region", REGION)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in said(*at, "--region", REGION)


def test_where_nothing_was_packed_it_says_why(tmp_path: Path) -> None:
    (tmp_path / "refused.txt").write_text("there is no int8 file for devices\n")
    with pytest.raises(CastlineError, match="nothing for devices: there is no int8 file"):
        open_package(tmp_path)


def test_the_package_is_read_as_the_stage_wrote_it(package: Package) -> None:
    assert package.component == NAME and package.version == "1.2.3"
    assert list(package.artifacts) == ["castline-edge-0.1.0.zip", "recognizer-1.2.3.zip"]
    assert package.recipe == joined([package.recipe])

"""What build/edge holds, brought to AWS IoT Greengrass: artifacts to S3, a component version, a deployment to a group.

Nothing is done twice: what is there already stays, and what is there otherwise is an error that says so. A version that
was published does not change any more, since devices may have it.

Source: AWS IoT Greengrass V2 API reference, CreateComponentVersion and CreateDeployment.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from castline.cloud.aws import Sender, check_bucket, clients, said, upload
from castline.edge.recipes import BUCKET, REFUSED, access_control, joined, json_bytes
from castline.edge.settings import KEYS, parse, without_password
from castline.errors import CastlineError, ConfigError
from castline.files.weights import sha256_of
from castline.text import short

__all__ = ["Aws", "Package", "Rollout", "connect", "open_package", "publish"]

_TAG = "castline-sha256"  # of a component version: of recipe and artifacts
_PATIENCE = 60  # seconds for the cloud to look at a component's artifacts
_GOOD = ("ACTIVE", "COMPLETED")  # what became of a deployment


@dataclass(frozen=True)
class Package:
    """What the package stage made. recipe: for every nucleus in one. artifacts: the zips by name."""

    component: str
    version: str
    recipe: Mapping[str, Any]
    artifacts: Mapping[str, Path]


@dataclass(frozen=True)
class Rollout:
    """How a deployment spreads.

    per_minute: devices in the first minutes; each time that twice as many went well, it doubles. abort_percent: when so
    many of those that tried have failed, no more are begun; not before five have tried.
    """

    per_minute: int = 10
    abort_percent: float = 20.0

    def __post_init__(self) -> None:
        if not 1 <= self.per_minute <= 1000:
            raise ConfigError(f"--per-minute is {self.per_minute}: from 1 to 1000")
        if not 0 < self.abort_percent <= 100:
            raise ConfigError(f"--abort-percent is {self.abort_percent:g}: above 0, at most 100")

    def request(self) -> dict[str, Any]:
        """As CreateDeployment has it."""
        growing = {
            "baseRatePerMinute": self.per_minute,
            "incrementFactor": 2.0,
            "rateIncreaseCriteria": {"numberOfSucceededThings": 2 * self.per_minute},
        }
        abort = {"action": "CANCEL", "thresholdPercentage": self.abort_percent, "minNumberOfExecutedThings": 5}
        return {
            "jobExecutionsRolloutConfig": {"exponentialRate": growing, "maximumPerMinute": 1000},
            "abortConfig": {"criteriaList": [abort | {"failureType": kind} for kind in ("FAILED", "TIMED_OUT")]},
            "timeoutConfig": {"inProgressTimeoutInMinutes": 60},
        }


@dataclass(frozen=True, eq=False)
class Aws:
    """Clients of boto3, and where they are: all in one account and region."""

    s3: Any
    greengrass: Any
    sts: Any
    region: str


def connect(region: str | None) -> Aws:
    """Clients for a region; None takes that of the AWS configuration.

    Raises: MissingExtra; CastlineError without a region.
    """
    made, where = clients(region, "s3", "greengrassv2", "sts")
    return Aws(made["s3"], made["greengrassv2"], made["sts"], where)


def open_package(folder: Path) -> Package:
    """What `dvc repro package` left in a folder.

    Raises: CastlineError when it is not there or of no release.
    """
    if (folder / REFUSED).is_file():
        why = (folder / REFUSED).read_text(encoding="utf-8").strip()
        raise CastlineError(f"{folder}: nothing for devices: {why}", "dvc repro package, when that is mended")
    paths = sorted(folder.glob("recipes/*/*.json"))
    try:
        recipe = joined([json.loads(path.read_text(encoding="utf-8")) for path in paths])
        component, version = str(recipe["ComponentName"]), str(recipe["ComponentVersion"])
        artifacts = {path.name: path for path in sorted((folder / "artifacts" / component / version).iterdir())}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CastlineError(f"{folder}: no package here ({error!r})", "dvc repro package") from error
    return Package(component, version, recipe, artifacts)


def publish(
    package: Package,
    aws: Aws,
    bucket: str,
    group: str,
    rollout: Rollout,
    configuration: Mapping[str, str] | None = None,
    earlier: str = "",
    dry_run: bool = False,
    say: Callable[[str], None] = print,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Bring a package to the devices of a thing group.

    bucket: BUCKET or BUCKET/PREFIX, of the account and region of the devices. group: name of the thing group, or its
    ARN. configuration: values that the component is to have there. earlier: deploy this version, published before,
    instead of the package's: the way back. dry_run: look at what is there, and only say what would be sent.

    Raises: CastlineError.
    """
    version = earlier or package.version
    if "+" in version:
        raise CastlineError(
            f"{version}: this model was never released, and what devices get has a version",
            "castline release minor; castline compose; dvc repro package",
        )
    _merged(package, None, configuration or {})  # what is wrong is said before anything is sent
    send = Sender(dry_run, say)
    with said("AWS"):
        who = str(aws.sts.get_caller_identity()["Arn"]).split(":")  # arn:aws:iam::123456789012:user/name
    partition, account = who[1], who[4]
    target = group if group.startswith("arn:") else f"arn:{partition}:iot:{aws.region}:{account}:thinggroup/{group}"
    arn = f"arn:{partition}:greengrass:{aws.region}:{account}:components:{package.component}:versions:{version}"
    if earlier:
        if _component(aws, arn) is None:
            raise CastlineError(f"{package.component} {earlier} was never published here", "castline edge publish")
    else:
        _publish_version(package, aws, bucket, account, arn, send, wait)
    _deploy(package, aws, target, version, rollout, configuration or {}, send)


def _publish_version(
    package: Package, aws: Aws, bucket: str, account: str, arn: str, send: Sender, wait: Callable[[float], None]
) -> None:
    """Artifacts and component version, unless they are there."""
    name, _, prefix = bucket.partition("/")
    # With each request: a bucket's name is free for anybody once the bucket is deleted.
    ours = {"Bucket": name, "ExpectedBucketOwner": account}
    check_bucket(aws.s3, aws.region, ours)
    recipe = json_bytes(_in_bucket(package.recipe, bucket.rstrip("/")))
    digests = {file: sha256_of(path) for file, path in package.artifacts.items()}
    digest = hashlib.sha256(recipe + json.dumps(digests, sort_keys=True).encode()).hexdigest()
    there = _component(aws, arn)
    if there is not None:
        if there.get("tags", {}).get(_TAG) != digest:
            raise CastlineError(
                f"{package.component} {package.version} was published with another recipe or other artifacts",
                "castline release patch; castline compose; dvc repro package: a published version stays as it is",
            )
        send.say(f"component {package.component} {package.version}: there already")
    else:
        for file, path in package.artifacts.items():
            key = "/".join(part for part in (prefix.strip("/"), package.component, package.version, file) if part)
            upload(aws.s3, ours, key, path, digests[file], send)
        send(
            f"component {package.component} {package.version}: created",
            aws.greengrass.create_component_version,
            "CreateComponentVersion",
            inlineRecipe=recipe,
            tags={_TAG: digest},
        )
    for _ in range(_PATIENCE):
        if send.dry_run:
            return
        status = (_component(aws, arn) or {}).get("status", {})
        state = status.get("componentState")
        if state == "DEPLOYABLE":
            return
        if state in ("FAILED", "DEPRECATED"):
            why = short(str(status.get("message") or status.get("errors") or ""), 300)
            raise CastlineError(
                f"Greengrass does not take {package.component} {package.version}: {state}: {why}",
                f"aws greengrassv2 delete-component --arn {arn}, once the reason is mended",
            )
        wait(1.0)
    raise CastlineError(f"{package.component} {package.version} is not deployable yet", "the same command, later")


def _in_bucket(recipe: Mapping[str, Any], bucket: str) -> dict[str, Any]:
    """The recipe with its artifacts where they are uploaded to."""

    def placed(artifact: Mapping[str, Any]) -> dict[str, Any]:
        # The cloud takes either case of the key.
        return {
            key: value.replace(f"s3://{BUCKET}/", f"s3://{bucket}/", 1) if key.lower() == "uri" else value
            for key, value in artifact.items()
        }

    manifests = [
        {**manifest, "Artifacts": [placed(artifact) for artifact in manifest["Artifacts"]]}
        for manifest in recipe["Manifests"]
    ]
    return {**recipe, "Manifests": manifests}


def _component(aws: Aws, arn: str) -> dict[str, Any] | None:
    """What is known of a component version; None if there is none."""
    from botocore.exceptions import ClientError

    with said("DescribeComponent"):
        try:
            found: dict[str, Any] = aws.greengrass.describe_component(arn=arn)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return None
    return found


def _deploy(
    package: Package,
    aws: Aws,
    target: str,
    version: str,
    rollout: Rollout,
    configuration: Mapping[str, str],
    send: Sender,
) -> None:
    """A new deployment: the present one of the group with our component as it is to be."""
    with said("ListDeployments"):
        latest = aws.greengrass.list_deployments(targetArn=target, historyFilter="LATEST_ONLY")["deployments"]
    present: dict[str, Any] = {}
    if latest:
        with said("GetDeployment"):
            present = aws.greengrass.get_deployment(deploymentId=latest[0]["deploymentId"])
    components = present.get("components", {})
    ours = dict(components.get(package.component, {}))
    merge = _merged(package, ours.get("configurationUpdate", {}).get("merge"), configuration)
    ours |= {"componentVersion": version, "configurationUpdate": {"merge": json.dumps(merge, sort_keys=True)}}
    wanted = {**components, package.component: ours}
    others = ", ".join(name for name in components if name != package.component) or "none"
    if wanted == components and present.get("deploymentStatus") in _GOOD:
        send.say(f"{target}: has {package.component} {version} already")
        return
    if send.dry_run and "Source" in merge:  # what is printed stays in terminals and logs
        shown = merge | {"Source": without_password(merge["Source"])}
        ours["configurationUpdate"] = {"merge": json.dumps(shown, sort_keys=True)}
    request = {"tags": present["tags"]} if present.get("tags") else {}
    if parent := present.get("parentTargetArn"):
        request["parentTargetArn"] = parent
    made = send(
        f"{target}: {package.component} {version} is being deployed; kept: {others}",
        aws.greengrass.create_deployment,
        "CreateDeployment",
        targetArn=target,
        deploymentName=present.get("deploymentName") or package.component,
        components=wanted,
        deploymentPolicies={
            "failureHandlingPolicy": "ROLLBACK",
            "componentUpdatePolicy": {"action": "NOTIFY_COMPONENTS", "timeoutInSeconds": 60},
            "configurationValidationPolicy": {"timeoutInSeconds": 60},
        },
        iotJobConfiguration=rollout.request(),
        **request,
    )
    if made:
        send.say(f"deployment {made['deploymentId']}")


def _merged(package: Package, present: str | None, given: Mapping[str, str]) -> dict[str, Any]:
    """What a deployment sets of the component's configuration: what the present one sets, then what was given.

    The topics always, with the right to publish to them: otherwise a device keeps what it has of an older version.
    """
    defaults = package.recipe["ComponentConfiguration"]["DefaultConfiguration"]
    for key in given:
        if key not in KEYS:
            raise ConfigError(f"{key[:80]!r} is no setting", f"known are {', '.join(KEYS)}")
    try:
        kept = json.loads(present or "{}")
        merge = {**kept, **given}
    except (ValueError, TypeError) as error:
        raise CastlineError(
            f"the present deployment's configuration of {package.component} is no JSON object"
        ) from error
    for topic in ("PublishResultsOnTopic", "LocalTopic"):
        merge.setdefault(topic, defaults.get(topic, ""))
    parse({**defaults, **merge})
    return merge | {"accessControl": access_control(package.component, merge)}

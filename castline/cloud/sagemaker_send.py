"""A planned job to SageMaker: its manifest to S3, its source and request by SageMaker's own SDK; and how it goes there.

The SDK is installed into an environment of its own when it is first needed; castline/cloud/sagemaker_sdk.py drives it.
"""

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from castline import environments
from castline.cloud.aws import clients, said
from castline.cloud.sagemaker_plan import Plan, write_source
from castline.cloud.sagemaker_settings import SageMakerSettings
from castline.environments import Environment
from castline.errors import CastlineError, ConfigError, optional_import

__all__ = ["SDK", "VERSION", "Ended", "send", "wait"]

VERSION = "1.27.0"
SDK = Environment(
    f"SageMaker's SDK {VERSION}", f"sagemaker-train-{VERSION}", (__package__, "sagemaker.lock"), size=440_000_000
)
COMMAND = "exec python3 -m castline.cloud.sagemaker_job"  # exec: SIGTERM goes to the container's first process alone
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_REMOTE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([\w/!.*'() -]*))?")
_DONE = ("Completed", "Failed", "Stopped")


@dataclass(frozen=True)
class Ended:
    """A job that has completed. model: the S3 URI of what it left. seconds: that are paid for."""

    model: str
    seconds: int


def send(
    job: Plan, settings: SageMakerSettings, remote: str | None, count: int, spot: bool, dry_run: bool
) -> dict[str, Any]:
    """Send a job; the answer of castline/cloud/sagemaker_sdk.py: the job's name, and the request.

    remote: the DVC remote whose objects it reads; None takes the default one. dry_run: neither keys nor a network are
    needed, and nothing is looked at in S3.

    Raises: ConfigError; CastlineError when AWS refuses it.
    """
    settings.check()
    if count != 1:
        raise ConfigError(
            f"--count is {count}: training runs on one machine, others would do the same once more",
            "--count 1; a larger --instance-type, and -S trainer=ddp, train faster",
        )
    if settings.has_gpu != (job.trainer.accelerator == "gpu"):
        has = "has a graphics card" if settings.has_gpu else "has no graphics card"
        raise ConfigError(
            f"{settings.instance_type} {has}, and trainer.accelerator is {job.trainer.accelerator}",
            "-S trainer=cpu, or another --instance-type" if not settings.has_gpu else "-S trainer=gpu",
        )
    name, bucket, prefix = _remote(remote)
    region = settings.region or _region()
    ours = "/".join(part for part in (prefix, "sagemaker") if part)
    manifest = f"{ours}/manifests/{job.key}.json"
    if not dry_run:
        _check_pushed(job, name)
        with said(f"s3://{bucket}"):
            body = json.dumps(
                [{"prefix": f"s3://{'/'.join(p for p in (bucket, prefix) if p)}/files/md5/"}, *_keys(job)]
            )
            clients(region, "s3")[0]["s3"].put_object(Bucket=bucket, Key=manifest, Body=body.encode())
    seconds = round(settings.max_hours * 3600)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source.tar.gz")
        write_source(job, source)
        told = {
            "region": region,
            "role": settings.role,
            "image": settings.image,
            "name": f"castline-{job.commit[:7]}",
            "bucket": bucket,
            "prefix": ours,
            "source": str(source),
            "channels": {"objects": {"type": "ManifestFile", "uri": f"s3://{bucket}/{manifest}"}},
            "command": COMMAND,
            "hyperparameters": job.hyperparameters(),
            "instance_type": settings.instance_type,
            "count": count,
            "volume_gb": settings.volume_gb,
            "max_seconds": seconds,
            "spot": spot,
            "max_wait_seconds": 2 * seconds,
            "output": f"s3://{bucket}/{ours}/output",
            "checkpoints": f"s3://{bucket}/{ours}/checkpoints/{job.key}",
            "dry_run": dry_run,
        }
        return _by_the_sdk(told)


def wait(job: str, region: str, say: Callable[[str], None] = print, pause: float = 20.0) -> Ended:
    """Wait until a job has ended, saying what it does.

    Raises: ConfigError for what is no name of a job; CastlineError when there is none, or it did not complete.
    """
    if not _NAME.fullmatch(job):
        raise ConfigError(f"{job!r} is no name of a training job", "castline sagemaker train says it")
    with said(job):
        sagemaker, before = clients(region or _region(), "sagemaker")[0]["sagemaker"], ""
        while True:
            found = sagemaker.describe_training_job(TrainingJobName=job)
            status, detail = found["TrainingJobStatus"], found.get("SecondaryStatus", "")
            if (now := f"{job}: {status}, {detail}") != before:
                say(now)
                before = now
            if status in _DONE:
                break
            time.sleep(pause)
    if status != "Completed":
        raise CastlineError(
            f"{job}: {status}: {found.get('FailureReason', 'SageMaker does not say why')}",
            "its log is in CloudWatch, /aws/sagemaker/TrainingJobs; the same command again goes on from its last epoch",
        )
    return Ended(found["ModelArtifacts"]["S3ModelArtifacts"], int(found.get("BillableTimeInSeconds", 0)))


def _by_the_sdk(told: dict[str, Any]) -> dict[str, Any]:
    python = SDK.made() / "bin" / "python"
    script = resources.files(__package__).joinpath("sagemaker_sdk.py")
    with resources.as_file(script) as path:
        done = subprocess.run(
            [python, "-I", path],
            input=json.dumps(told),
            env=environments.clean(),
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise CastlineError(f"SageMaker's SDK ended with {done.returncode}: {done.stderr.strip()[-800:]}") from error
    if "error" in answer:
        raise CastlineError(
            f"SageMaker's SDK: {answer['error']}", "look at your AWS configuration and conf/sagemaker.yaml"
        )
    return answer


def _remote(name: str | None) -> tuple[str, str, str]:
    """Of a DVC remote: name, bucket, prefix."""
    from dvc.repo import Repo

    with Repo() as repo:
        name = name or repo.config["core"].get("remote")
        known = repo.config["remote"].get(name, {}) if name else {}
    url = str(known.get("url", ""))
    found = _REMOTE.fullmatch(url)
    if not name or not found or known.get("version_aware") or known.get("worktree"):
        raise ConfigError(
            f"the DVC remote {name or ''} is {url or 'not set'}: a job reads plain objects in S3",
            "dvc remote add -d team s3://BUCKET/castline; dvc push",
        )
    host = urlsplit(str(known.get("endpointurl") or "")).hostname
    if host and not host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        raise ConfigError(
            f"the DVC remote {name} is at {host}: SageMaker reads S3 of AWS and no other",
            "dvc remote add aws s3://BUCKET/castline; dvc push -r aws; castline sagemaker train --remote aws",
        )
    return name, found[1], (found[2] or "").strip("/")


def _region() -> str:
    region = optional_import("boto3", "sagemaker").session.Session().region_name
    if not region:
        raise ConfigError("no AWS region is set", "sagemaker.region in conf/sagemaker.yaml, or --region eu-central-1")
    return str(region)


def _check_pushed(job: Plan, remote: str) -> None:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with said(f"the remote {remote}"), Repo() as repo:
            found = set(repo.cloud.get_remote_odb(remote).oids_exist(list(job.objects)))
    except (DvcException, OSError) as error:
        raise CastlineError(f"the remote {remote} cannot be looked into: {error}", "dvc push") from error
    if missing := set(job.objects) - found:
        raise CastlineError(f"{len(missing)} objects that the job reads are not in the remote {remote}", "dvc push")


def _keys(job: Plan) -> list[str]:
    return [f"{oid[:2]}/{oid[2:]}" for oid in job.objects]

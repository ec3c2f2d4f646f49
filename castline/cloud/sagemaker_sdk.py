"""SageMaker's SDK in its own environment: a job as JSON on standard input, its fate on standard output.

It is run as a script by that environment's Python, where Castline is not: it imports nothing of it. The job:

    region, role, image, name     name: the beginning of the job's name
    bucket, prefix                where the SDK lays the source and its own scripts, below PREFIX/NAME-…/
    source                        a .tar.gz here with the code and its requirements.txt
    channels                      by name, what it reads in S3: {"type": "ManifestFile", "uri": "s3://…"}
    command, hyperparameters      what runs in the container, and the settings that the console shows
    instance_type, count, volume_gb, max_seconds, spot, max_wait_seconds
    output, checkpoints           S3 URIs
    dry_run                       send nothing, need no credentials: the answer has the request

The answer: {"job": NAME, "request": what CreateTrainingJob got}, or {"error": what AWS or the SDK said}.
"""

import contextlib
import io
import json
import os
import sys
from typing import Any

# Before the SDK is imported. Nothing is told to anybody, and the role is taken as it is named.
os.environ["SAGEMAKER_VALIDATE_ROLE"] = "false"
_QUIET = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}


class _NotSent(Exception):
    """The request was ready; it was a dry run."""


def main() -> None:
    job = json.load(sys.stdin)
    answer: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):  # the SDK draws there; standard output is the answer's
        try:
            _send(job, answer)
        except _NotSent:
            pass
        except Exception as error:  # of the SDK, botocore, pydantic: all are to be said, none is ours
            if "accepted" not in answer:  # else it runs and is paid for: the SDK only failed to look at it once more
                answer = {"error": f"{type(error).__name__}: {error}"}
    answer.pop("accepted", None)
    json.dump(answer, sys.stdout)


def _send(job: dict[str, Any], answer: dict[str, Any]) -> None:
    import boto3
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.core.shapes import CheckpointConfig, S3DataSource
    from sagemaker.train import ModelTrainer
    from sagemaker.train.configs import Compute, InputData, OutputDataConfig, SourceCode, StoppingCondition

    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"} if job["dry_run"] else {}
    boto = boto3.Session(region_name=job["region"], **keys)
    session = Session(
        boto_session=boto,
        default_bucket=job["bucket"],
        default_bucket_prefix=job["prefix"] or None,
        sagemaker_config=_QUIET,
    )
    # The SDK would ask IAM to simulate the role's policies, which few are allowed to, and goes on without an answer.
    boto.events.register("before-call.iam", _refuse)
    if job["dry_run"]:
        _stop_at_the_door(boto, session)
    # What is sent, as botocore has checked it against the API's own description.
    boto.events.register("before-parameter-build.sagemaker.CreateTrainingJob", _keeper(answer))
    boto.events.register("after-call.sagemaker.CreateTrainingJob", _marker(answer))
    if job["dry_run"]:
        boto.events.register("before-call.sagemaker.CreateTrainingJob", _no_call)
    trainer = ModelTrainer(
        training_image=job["image"],
        role=job["role"],
        base_job_name=job["name"],
        sagemaker_session=session,
        source_code=SourceCode(source_dir=job["source"], command=job["command"], requirements="requirements.txt"),
        compute=Compute(
            instance_type=job["instance_type"],
            instance_count=job["count"],
            volume_size_in_gb=job["volume_gb"],
            enable_managed_spot_training=job["spot"],
        ),
        stopping_condition=StoppingCondition(
            max_runtime_in_seconds=job["max_seconds"],
            **({"max_wait_time_in_seconds": job["max_wait_seconds"]} if job["spot"] else {}),
        ),
        output_data_config=OutputDataConfig(s3_output_path=job["output"], compression_type="GZIP"),
        checkpoint_config=CheckpointConfig(s3_uri=job["checkpoints"]),
        hyperparameters=job["hyperparameters"],
    )
    channels = [
        InputData(
            channel_name=name,
            data_source=S3DataSource(
                s3_data_type=source["type"], s3_uri=source["uri"], s3_data_distribution_type="FullyReplicated"
            ),
        )
        for name, source in job["channels"].items()
    ]
    trainer.train(input_data_config=channels, wait=False, logs=False)


def _keeper(answer: dict[str, Any]) -> Any:
    def keep(params: dict[str, Any], **_: Any) -> None:
        answer.update(job=params["TrainingJobName"], request=params)

    return keep


def _marker(answer: dict[str, Any]) -> Any:
    def mark(parsed: dict[str, Any], **_: Any) -> None:
        if "TrainingJobArn" in parsed:
            answer["accepted"] = True

    return mark


def _no_call(**_: Any) -> None:
    raise _NotSent


def _stop_at_the_door(boto: Any, session: Any) -> None:
    """Uploads of this session go nowhere, and say where they would have gone."""

    def upload(path: str, bucket: str, key_prefix: str, **_: Any) -> str:
        name = f"/{os.path.basename(path)}" if os.path.isfile(path) else ""  # noqa: PTH113, PTH119
        return f"s3://{bucket}/{key_prefix}{name}"

    session.upload_data = upload
    session.default_bucket = lambda: session._default_bucket_name_override
    for service in ("sts", "s3"):
        boto.events.register(f"before-call.{service}", _refuse)


def _refuse(**_: Any) -> None:
    raise RuntimeError("this is not asked for")


if __name__ == "__main__":
    main()

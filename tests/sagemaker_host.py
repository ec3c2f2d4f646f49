"""A stand-in for the host that SageMaker runs a training job on: folders, environment and first process, no container.

It takes a CreateTrainingJob request as moto has kept it, brings the channels from S3 into the folders that a container
would see as /opt/ml, and runs the request's own entrypoint. Since /opt/ml is not this test's to write, that path is
replaced in the SDK's scripts, which are text; nothing else of them is changed. pip is kept off package indexes: what
the job asks for has to be installed already.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Run:
    """How a job ended. failure: what it left in /opt/ml/output/failure."""

    code: int
    log: str
    failure: str


def run_job(
    s3: Any,
    request: dict[str, Any],
    folder: Path,
    meanwhile: Callable[[subprocess.Popen[bytes], Path], None] | None = None,
) -> Run:
    """Run a job once in `folder`, which becomes its /opt/ml. meanwhile: is called with its first process, and /opt/ml.

    Checkpoints are brought from S3 before and back after, whatever the end; the model goes to S3 when it ended well.
    """
    base = folder / "ml"
    lay_out(s3, request, base)
    checkpoints = urlsplit(request["CheckpointConfig"]["S3Uri"])
    bring(s3, checkpoints.netloc, checkpoints.path.strip("/") + "/", base / "checkpoints")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TRAINING_JOB_NAME": request["TrainingJobName"],
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "CASTLINE_THREADS": "1",
    }
    environment.pop("PYTHONPATH", None)
    algorithm = request["AlgorithmSpecification"]
    words = [*algorithm["ContainerEntrypoint"], *algorithm["ContainerArguments"]]
    with (folder / "log").open("w+b") as log:
        process = subprocess.Popen(
            [word.replace("/opt/ml", str(base)) for word in words],
            env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True,
        )  # fmt: skip
        if meanwhile:
            meanwhile(process, base)
        code = process.wait(timeout=600)
    for path in sorted((base / "checkpoints").rglob("*")):
        if path.is_file():
            s3.upload_file(str(path), checkpoints.netloc, f"{checkpoints.path.strip('/')}/{path.name}")
    if code == 0:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(base / "model", ".")
        place = urlsplit(request["ModelArtifacts"]["S3ModelArtifacts"])
        s3.put_object(Bucket=place.netloc, Key=place.path.strip("/"), Body=packed.getvalue())
    failure = base / "output/failure"
    return Run(code, (folder / "log").read_text(), failure.read_text() if failure.exists() else "")


def lay_out(s3: Any, request: dict[str, Any], base: Path) -> None:
    """The folders and files that are there when a container starts."""
    for name in ("model", "checkpoints", "output/data", "input/config"):
        (base / name).mkdir(parents=True)
    for channel in request["InputDataConfig"]:
        source = channel["DataSource"]["S3DataSource"]
        target, place = base / "input/data" / channel["ChannelName"], urlsplit(source["S3Uri"])
        target.mkdir(parents=True)
        if source["S3DataType"] == "ManifestFile":
            listed = json.loads(s3.get_object(Bucket=place.netloc, Key=place.path.strip("/"))["Body"].read())
            start = urlsplit(listed[0]["prefix"])
            for name in listed[1:]:
                download(s3, start.netloc, f"{start.path.strip('/')}/{name}", target / name)
        else:
            bring(s3, place.netloc, place.path.strip("/"), target)
    for path in (base / "input/data/sm_drivers").rglob("*"):
        if path.suffix in (".sh", ".py"):
            path.write_text(path.read_text().replace("/opt/ml", str(base)))
    instance = request["ResourceConfig"]["InstanceType"]
    host = {"current_host": "localhost", "hosts": ["localhost"], "current_instance_type": instance}
    channels = {channel["ChannelName"]: {"TrainingInputMode": "File"} for channel in request["InputDataConfig"]}
    for name, values in (
        ("hyperparameters", request.get("HyperParameters", {})),
        ("inputdataconfig", channels),
        ("resourceconfig", host | {"network_interface_name": "lo"}),
    ):
        (base / "input/config" / f"{name}.json").write_text(json.dumps(values))


def bring(s3: Any, bucket: str, prefix: str, target: Path) -> None:
    """All objects that a prefix names: as files under what is behind its last slash."""
    for found in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
        key = found["Key"]
        name = key[len(prefix) :].strip("/") or key.rpartition("/")[2]
        download(s3, bucket, key, target / name)


def download(s3: Any, bucket: str, key: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    s3.download_file(bucket, key, str(path))

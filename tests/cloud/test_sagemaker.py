"""Training on SageMaker: its real SDK in its own environment, S3 and the API of moto, a stand-in for the machine."""

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from projects import ROOT, commit, copy, run
from sagemaker_host import run_job

from castline.cloud.sagemaker_send import SDK

REGION, BUCKET = "eu-central-1", "team"
TUNED = ("-S", "training=last_block", "-S", "training.epochs=8", "-S", "training.patience=8")
SETTINGS = """sagemaker:
  role: arn:aws:iam::123456789012:role/castline
  image: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/python:3.11
  region: eu-central-1
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    """AWS as moto has it, for this process and those that it starts; no AWS settings of the machine.

    What would be asked of anybody else, over HTTPS, comes to this socket, which nobody answers.
    """
    SDK.made()  # while there is a way out
    empty = tmp_path_factory.mktemp("aws") / "config"
    empty.touch()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as others:
        others.setblocking(False)
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nobody",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(empty),
            "AWS_SHARED_CREDENTIALS_FILE": str(empty),
            "HTTPS_PROXY": f"http://127.0.0.1:{others.getsockname()[1]}",
        }.items():
            patch.setenv(name, value)
        yield others
    server.stop()


@pytest.fixture(scope="module")
def project(moto: socket.socket, three_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose dataset and features are there, in git, and in its remote in S3."""
    folder = tmp_path_factory.mktemp("sagemaker") / "project"
    shutil.copytree(three_people, folder, symlinks=True)
    copy(ROOT / "requirements.lock", folder / "requirements.lock")
    (folder / "conf/sagemaker.yaml").write_text(SETTINGS)
    client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    run(folder, "dvc", "remote", "add", "-q", "-d", "team", f"s3://{BUCKET}/castline")
    run(folder, "git", "add", "-A")
    commit(folder)
    run(folder, "dvc", "push", "-q")
    return folder


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)


def sent(said: str) -> str:
    return next(line.removeprefix("sent: ") for line in said.splitlines() if line.startswith("sent: "))


def kill_when_it_has_a_checkpoint(process: subprocess.Popen[bytes], base: Path) -> None:
    deadline = time.monotonic() + 300
    while not list(base.glob("checkpoints/*.ckpt")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # to the first process alone, as a container gets it


def test_a_job_that_was_stopped_goes_on_in_the_next_and_comes_back_as_if_trained_here(
    project: Path, moto: socket.socket, tmp_path: Path
) -> None:
    lock_before = (project / "dvc.lock").read_bytes()
    told = run(project, "castline", "sagemaker", "train", *TUNED, "--spot", "--price", "0.23")
    assert "about $" in told and "estimated" in told
    assert run(project, "git", "status", "--porcelain") == "", "sending changes nothing here"
    with pytest.raises(BlockingIOError):
        moto.accept()  # nobody but S3 and SageMaker was asked: no telemetry

    request = client("sagemaker").describe_training_job(TrainingJobName=sent(told))
    keys = {found["Key"] for found in client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]}
    objects = {key for key in keys if "/files/md5/" in key}
    dry = json.loads("{" + run_dry(project).partition("{")[2].rpartition("}")[0] + "}")
    when = request["TrainingJobName"].rpartition("-")[2]
    asked = json.loads(json.dumps(dry).replace(dry["TrainingJobName"].rpartition("-")[2], when))
    # The source is a folder to SageMaker whether its one file is named or not.
    kept = {key: request[key] for key in asked if key != "AlgorithmSpecification"}
    assert kept == {key: value for key, value in asked.items() if key != "AlgorithmSpecification"}
    assert asked["AlgorithmSpecification"].items() <= request["AlgorithmSpecification"].items()
    assert keys == {found["Key"] for found in client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]}

    (tmp_path / "first").mkdir()
    first = run_job(client("s3"), request, tmp_path / "first", kill_when_it_has_a_checkpoint)
    assert first.code == 128 + signal.SIGTERM, first.log
    assert "goes on after the last epoch" in first.failure
    read = {path.name for path in (tmp_path / "first/ml/input/data/objects").rglob("*") if path.is_file()}
    assert read < {key.rpartition("/")[2] for key in objects}, "some of the remote's objects, not all"

    # A second job: what the same command sends again, as the dry run has shown, under another name.
    again = {key: value for key, value in asked.items() if key in request}
    client("sagemaker").create_training_job(**again | {"TrainingJobName": "castline-again"})
    second_request = client("sagemaker").describe_training_job(TrainingJobName="castline-again")
    (tmp_path / "second").mkdir()
    second = run_job(client("s3"), second_request, tmp_path / "second")
    assert second.code == 0, second.log
    assert "going on after epoch" in second.log and "going on after epoch" not in first.log

    told = run(project, "castline", "sagemaker", "fetch", "castline-again")
    assert "trained there, and here now: train" in told
    assert "up to date" in run(project, "dvc", "status", "train")
    assert (project / "build/model/base/base.safetensors").stat().st_size > 1_000_000
    assert "val_loss" in (project / "reports/curves.csv").read_text()
    assert "tune: last_block" in (project / "params.yaml").read_text()
    changed = run(project, "git", "status", "--porcelain").split()
    assert set(changed) <= {"M", "dvc.lock", "params.yaml", "??", "reports/curves.csv"}

    # Its run is in the run-cache: DVC has it again without training.
    (project / "dvc.lock").write_bytes(lock_before)
    shutil.rmtree(project / "build/model")
    assert "train.py" not in run(project, "dvc", "repro", "--single-item", "train").replace("restored", "")


def run_dry(project: Path) -> str:
    """A dry run, without keys, and with nobody to ask."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        return run(project, "castline", "sagemaker", "train", *TUNED, "--spot", "--dry-run")

"""What `castline sagemaker` adds to a training run, and the rates that its estimates stand on.

    python benchmarks/sagemaker.py PROJECT      # a clone that has run and is committed, such as pipeline.py --work DIR

PROJECT is cloned and its cache copied; it is only read. S3 and SageMaker's API are moto's, on this machine, and the
machine of the job is the tests' stand-in, which has no container and installs nothing: what AWS takes to start one, and
pip to fill it, is not in these numbers. Seconds are of processors' time, of all processes together. Prints a table and
appends to a CSV beside this file, with machine, versions and command.
"""

import argparse
import logging
import os
import resource
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import boto3
import yaml
from moto.server import ThreadedMotoServer
from pyarrow import parquet
from record import record
from sharing import commit, first_clone, run

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from sagemaker_host import run_job  # noqa: E402

BUCKET, REGION = "castline-benchmark", "eu-central-1"
SETTINGS = f"""sagemaker:
  role: arn:aws:iam::123456789012:role/castline
  image: 123456789012.dkr.ecr.{REGION}.amazonaws.com/python:3.11
  region: {REGION}
"""
Rows = list[tuple[str, str, str, object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path, help="a clone whose pipeline has run, its dvc.lock committed")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "sagemaker.csv", help="rows are appended")
    options = parser.parse_args()
    os.environ |= {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nobody",
    }
    os.environ |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": REGION}
    os.environ |= {"CASTLINE_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        (work / "aws").touch()
        os.environ |= {"AWS_CONFIG_FILE": str(work / "aws"), "AWS_SHARED_CREDENTIALS_FILE": str(work / "aws")}
        project = first_clone(options.project.resolve(), work)
        for part in (overhead, rates):
            rows = part(project, work)
            for kind, name, measure, value in rows:
                print(f"{kind:<10}{name:<22}{measure:<28}{value:>12}", flush=True)
            record(options.csv, shlex.join(["python", "benchmarks/sagemaker.py", options.project.name]), rows)


def rates(project: Path, _: Path) -> Rows:
    """Seconds of one processor for a face: from two runs that differ in nothing but how much there is to do."""
    values = yaml.safe_load((project / "params.yaml").read_text())
    batches, model = values["data"]["read"], values["base_model"]["name"]
    faces = sum(parquet.read_metadata(project / f"build/faces/{batch}.parquet").num_rows for batch in batches)

    def train(*overrides: str) -> float:
        run(project, "castline", "compose", *overrides)
        return seconds(lambda: run(project, sys.executable, "stages/train.py"))

    def features(views: int) -> float:
        run(project, "castline", "compose", "augmentation=light", f"augmentation.views={views}")
        return seconds(lambda: run(project, sys.executable, "stages/features.py", "base", batches[0]))

    heads = [train(f"training.epochs={n}", f"training.patience={n}", "training.folds=0") for n in (20, 2020)]
    tuned = [train("training=last_block", f"training.epochs={n}", f"training.patience={n}") for n in (1, 3)]
    viewed = [features(views) for views in (2, 3)]
    first = parquet.read_metadata(project / f"build/faces/{batches[0]}.parquet").num_rows
    run(project, "git", "checkout", "-q", "params.yaml", "reports")
    run(project, "dvc", "checkout", "--force", "-q")
    return [
        ("rate", model, "faces", faces),
        # Two fits: the head, and the one on the random split.
        ("rate", model, "head_s_face_epoch", f"{(heads[1] - heads[0]) / (2000 * 2 * faces):.2g}"),
        ("rate", model, "last_block_s_face_epoch", f"{(tuned[1] - tuned[0]) / (2 * faces):.2g}"),
        ("rate", model, "features_s_face_view", f"{(viewed[1] - viewed[0]) / first:.2g}"),
    ]


def overhead(project: Path, work: Path) -> Rows:
    """The same training here and through the adapter."""
    (project / "conf/sagemaker.yaml").write_text(SETTINGS)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
    s3, api = boto3.client("s3"), boto3.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    run(project, "dvc", "remote", "add", "-f", "-d", "team", f"s3://{BUCKET}/castline")
    commit(project)
    run(project, "dvc", "push", "-q", "--with-deps", "train")
    rows: Rows = []
    for name, overrides in (
        ("head", ["head.dropout=0.25"]),
        ("last_block, 2 epochs", ["training=last_block", "training.epochs=2"]),
    ):
        words = [word for override in overrides for word in ("-S", override)]
        said: list[str] = []

        def send(words: list[str] = words, said: list[str] = said) -> None:
            said.append(run(project, "castline", "sagemaker", "train", *words))

        sent = seconds(send)
        job = next(line.removeprefix("sent: ") for line in said[0].splitlines() if line.startswith("sent: "))
        folder = work / job
        folder.mkdir()

        def there(job: str = job, folder: Path = folder) -> None:
            done = run_job(s3, api.describe_training_job(TrainingJobName=job), folder)
            if done.code:
                sys.exit(done.log)

        ran = seconds(there)
        fetched = seconds(lambda job=job: run(project, "castline", "sagemaker", "fetch", job))  # type: ignore[misc]
        read = sum(path.stat().st_size for path in (folder / "ml/input/data/objects").rglob("*") if path.is_file())
        run(project, "git", "checkout", "-q", "params.yaml", "dvc.lock", "reports")
        run(project, "castline", "compose", *overrides)
        here = seconds(lambda: run(project, "dvc", "repro", "--no-run-cache", "--force", "-s", "train"))
        run(project, "git", "checkout", "-q", "params.yaml", "dvc.lock", "reports")
        run(project, "dvc", "checkout", "--force", "-q")
        for measure, value in (
            ("here_s", here), ("send_s", sent), ("job_s", ran), ("fetch_s", fetched),
            ("overhead_s", sent + ran + fetched - here),
        ):  # fmt: skip
            rows.append(("overhead", name, measure, f"{value:.1f}"))
        rows.append(("overhead", name, "bytes_read_from_remote", read))
    server.stop()
    return rows


def seconds(work: Callable[[], object]) -> float:
    """Of processors' time that work takes in processes that it starts and waits for."""

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = spent()
    work()
    return spent() - before


if __name__ == "__main__":
    main()

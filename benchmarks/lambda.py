"""What the Lambda function takes: its size, its start, a picture, and its memory.

    python benchmarks/lambda.py sample/scenes          # packages come from wherever uv is set up to get them

The zip is built for Lambda (Python 3.12, both architectures) and measured; then one for this machine and its Python is
unpacked and run as a process by Lambda's own runtime client, against a Runtime API that stands in for Lambda's, with S3
by moto on loopback. So times are of this machine, without Lambda's network or its sandbox, and with whatever else runs
here; processor time is the function's own. Sizes are in megabytes of 10^6 bytes. Prints a table and appends to a CSV.
"""

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import boto3
from PIL import Image
from record import command_line, record

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from lambda_runtime import Function, packaged, unpacked  # noqa: E402
from servers import moto  # noqa: E402

from castline.cloud.lambda_build import Target, build_zip  # noqa: E402

BUCKET, ACCOUNT, REGION = "photos", "123456789012", "eu-central-1"
Row = tuple[str, str, str, object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of pictures")
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/recognizer")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "lambda.csv", help="rows are appended")
    options = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nobody", "AWS_DEFAULT_REGION": REGION}
    with tempfile.TemporaryDirectory() as name:
        rows = [*sizes(options.bundle, Path(name)), *times(options, Path(name))]
    for kind, what, measured, value in rows:
        print(f"{kind:<10}{what:<26}{measured:<14}{value:>10}")
    record(options.csv, command_line(options.photos), rows)


def sizes(bundle: Path, work: Path) -> list[Row]:
    """Of what Lambda would get, with the default model in float16."""
    edge = packaged(bundle, work / "edge", format="float16")
    rows: list[Row] = []
    for architecture in ("x86_64", "arm64"):
        path = build_zip(edge, work, Target(architecture))
        with zipfile.ZipFile(path) as archive:
            unpacked_bytes = sum(member.file_size for member in archive.infolist())
        rows.append(("zip", architecture, "mb", mb(path.stat().st_size)))
        rows.append(("zip", architecture, "unpacked_mb", mb(unpacked_bytes)))
    return rows


def times(options: argparse.Namespace, work: Path) -> list[Row]:
    """Of starts and of pictures, one at a time."""
    target = Target(python=f"{sys.version_info[0]}.{sys.version_info[1]}")
    task = unpacked(build_zip(work / "edge", work / "here", target), work / "task")
    photos = sorted(path for path in options.photos.iterdir() if path.suffix == ".jpg")
    with moto() as url:
        variables = {"AWS_ENDPOINT_URL": url, "CASTLINE_BUCKET": BUCKET, "CASTLINE_ACCOUNT": ACCOUNT}
        s3 = boto3.client("s3", endpoint_url=url)
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})

        def event(key: str, data: bytes) -> dict[str, object]:
            etag = s3.put_object(Bucket=BUCKET, Key=f"inbox/{key}", Body=data)["ETag"].strip('"')
            found = {"key": f"inbox/{key}", "eTag": etag, "size": len(data)}
            record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}
            return {"Records": [record | {"s3": {"bucket": {"name": BUCKET}, "object": found}}]}

        empty, first, warm, spent = [], [], [], []
        for number in range(options.starts):
            call = event(f"start-{number}.jpg", photos[0].read_bytes())
            started = time.perf_counter()
            with Function(task, work / f"start-{number}", variables) as function:
                called(function, {"Records": []})
                empty.append(time.perf_counter() - started)
                called(function, call)
                first.append(time.perf_counter() - started)
                spent.append(function.processor)
        with Function(task, work / "warm", variables, seconds=600) as function:
            called(function, {"Records": []})
            called(function, event("first.jpg", photos[0].read_bytes()))
            before = function.processor
            for number, photo in enumerate(photos * 3):
                call = event(f"{number}.jpg", photo.read_bytes())
                started = time.perf_counter()
                called(function, call)
                warm.append(time.perf_counter() - started)
            each = (function.processor - before) / len(warm)
            memory = function.memory
            called(function, event("largest.png", largest()))
            worst = function.memory
            outcomes = {line["outcome"] for line in function.log}
        if outcomes != {"named"}:
            raise SystemExit(f"not every picture was named: {outcomes}")
    return [
        ("start", "until it listens", "median_s", round(statistics.median(empty), 2)),
        ("start", "with a first picture", "median_s", round(statistics.median(first), 2)),
        ("start", "with a first picture", "processor_s", round(statistics.median(spent), 2)),
        ("picture", f"{len(photos)} pictures, 3 times", "processor_ms", round(1000 * each, 1)),
        ("picture", f"{len(photos)} pictures, 3 times", "median_ms", round(1000 * statistics.median(warm), 1)),
        ("memory", "these pictures", "peak_mb", mb(memory)),
        ("memory", "a PNG of 50 megapixels", "peak_mb", mb(worst)),
    ]


def called(function: Function, event: object) -> None:
    kind, said = function.call(event)
    if kind != "ok":
        raise SystemExit(said)


def largest() -> bytes:
    """As many pixels as it looks at, with transparency, which takes most memory."""
    data = io.BytesIO()
    Image.new("RGBA", (10_000, 5_000), (90, 90, 90, 200)).save(data, "PNG")
    return data.getvalue()


def mb(size: int) -> float:
    return round(size / 1e6, 1)


if __name__ == "__main__":
    main()

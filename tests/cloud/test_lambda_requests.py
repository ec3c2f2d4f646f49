"""Deliveries on the machine where DVC is: hostile names, races, kills, and what is printed to type. S3 is moto's."""

import json
import os
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from moto import mock_aws
from typer.testing import CliRunner

from castline.cli import app
from castline.cloud.lambda_bucket import ARRIVED, REQUESTS, TAKEN, Bucket, batch_of, id_of
from castline.cloud.lambda_publish import Account, connect
from castline.cloud.lambda_requests import Debounce, Waiting, take, waiting
from castline.errors import CastlineError, ConfigError, DataError

REGION, BUCKET = "eu-central-1", "our-photos"


@cache
def account() -> Account:
    """Clients are dear: one set for all tests."""
    return connect(REGION)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bucket]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        monkeypatch.setattr("castline.cloud.lambda_publish.connect", lambda region: account())
        made = account().bucket(BUCKET)
        made.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield made


def deliver(bucket: Bucket, key: str, data: bytes = b"photo") -> None:
    """A photo that arrived, as the function remembers it."""
    etag = bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=data)["ETag"].strip('"')
    batch = batch_of(key.split("/")[1])
    facts = {"delivery": key.split("/")[1], "key": key, "etag": etag, "sequencer": "", "size": len(data)}
    bucket.put_once(f"{ARRIVED}{batch}/{id_of(BUCKET, key, etag)}.json", facts)
    bucket.put_once(f"{REQUESTS}{batch}.json", {"batch": batch})


def keys(bucket: Bucket, prefix: str) -> list[str]:
    return [key for key, _ in bucket.listed(prefix)]


def one(bucket: Bucket) -> Waiting:
    (found,) = waiting(bucket)
    return found


def test_only_photos_with_a_path_below_the_folder_are_brought(bucket: Bucket, tmp_path: Path) -> None:
    good = ["alma/1.jpg", "_strangers/x/1.jpg", "ñ b'\"$(id).jpg", "alma/-rf.jpg"]
    bad = ["../../../escaped.jpg", "alma/../../escaped.jpg", "alma//1.jpg", ".ssh/config", "a\\b.jpg", "a\tb.jpg",
           "n" * 256, "alma/1.jpg/inside.jpg"]  # fmt: skip
    for name in good + bad:
        deliver(bucket, f"deliveries/winter/{name}")
    brought = take(bucket, one(bucket), tmp_path / "to" / "here", lambda _: False)
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.relative_to(brought.folder).as_posix() for path in found) == sorted(good)
    assert (brought.photos, len(brought.left)) == (len(good), len(bad))
    assert waiting(bucket) == [] and keys(bucket, REQUESTS) == []


def test_what_was_replaced_or_deleted_since_is_left_out(bucket: Bucket, tmp_path: Path) -> None:
    for name, data in (("1", b"old"), ("1", b"new"), ("2", b"gone"), ("3", b"silently replaced")):
        deliver(bucket, f"deliveries/winter/alma/{name}.jpg", data)
    bucket.s3.delete_object(Bucket=BUCKET, Key="deliveries/winter/alma/2.jpg")
    bucket.s3.put_object(Bucket=BUCKET, Key="deliveries/winter/alma/3.jpg", Body=b"its event is on its way")
    brought = take(bucket, one(bucket), tmp_path, lambda _: False)
    assert (brought.folder / "alma/1.jpg").read_bytes() == b"new" and brought.photos == 1
    assert [(Path(key).name, reason) for key, reason in brought.left] == [
        ("2.jpg", "it was replaced or deleted since"), ("3.jpg", "it was replaced or deleted since"),
    ]  # fmt: skip


def test_a_delivery_of_which_nothing_is_left_is_no_batch(bucket: Bucket, tmp_path: Path) -> None:
    deliver(bucket, "deliveries/winter/../x.jpg")
    brought = take(bucket, one(bucket), tmp_path, lambda _: False)
    assert brought.photos == 0 and list(tmp_path.iterdir()) == [] and waiting(bucket) == []


def test_photos_that_come_meanwhile_are_not_lost(bucket: Bucket, tmp_path: Path) -> None:
    """They find the request that is about to be taken away, and ask for none."""
    deliver(bucket, "deliveries/winter/alma/1.jpg")
    before = one(bucket)
    deliver(bucket, "deliveries/winter/alma/2.jpg", b"late")
    assert take(bucket, before, tmp_path, lambda _: False).photos == 1
    assert keys(bucket, REQUESTS) == ["requests/winter.json"]
    assert take(bucket, one(bucket), tmp_path, lambda _: False).batch == "winter-2"
    assert keys(bucket, REQUESTS) == []


def test_killed_while_it_brings_it_begins_anew(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        deliver(bucket, f"deliveries/winter/alma/{number}.jpg", bytes([number]))
    (tmp_path / ".winter.part/alma").mkdir(parents=True)
    (tmp_path / ".winter.part/alma/0.jpg").write_bytes(b"half")
    put_once, left = bucket.put_once, iter([True, False])

    def killed(key: str, value: dict[str, object]) -> bool:
        if not next(left):
            raise KeyboardInterrupt
        return put_once(key, value)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(bucket, "put_once", killed)
        take(bucket, one(bucket), tmp_path, lambda _: False)
    assert len(keys(bucket, TAKEN)) == 1
    assert (tmp_path / "winter/alma/0.jpg").read_bytes() == b"\0"  # whole, though nobody was told
    brought = take(bucket, one(bucket), tmp_path, lambda _: False)
    assert (brought.batch, brought.photos) == ("winter-2", 2) and waiting(bucket) == []


def test_without_a_request_what_waits_is_found(bucket: Bucket) -> None:
    deliver(bucket, "deliveries/winter/alma/1.jpg")
    bucket.s3.delete_object(Bucket=BUCKET, Key="requests/winter.json")
    assert one(bucket).batch == "winter"


def test_a_name_that_a_batch_has_is_not_taken_twice(bucket: Bucket, tmp_path: Path) -> None:
    deliver(bucket, "deliveries/winter/alma/1.jpg")
    assert take(bucket, one(bucket), tmp_path, {"winter", "winter-2"}.__contains__).batch == "winter-3"


def test_state_that_somebody_else_wrote_is_said(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put_once(f"{ARRIVED}winter/0.json", {"photo": 1})
    with pytest.raises(DataError, match=r"state/arrived/winter/0\.json: not as Castline writes it"):
        take(bucket, one(bucket), tmp_path, lambda _: False)
    with pytest.raises(ConfigError, match="--photos 0"):
        Debounce(photos=0)


def test_state_under_names_that_no_batch_has_is_no_delivery(bucket: Bucket, tmp_path: Path) -> None:
    for name in ("..", "-x", "a\0b", "a b"):
        bucket.put_once(f"{ARRIVED}{name}/0.json", {"key": "deliveries/x/1.jpg", "etag": "0"})
    assert waiting(bucket) == []
    bucket.put_once(f"{ARRIVED}winter/0.json", {"key": 5, "etag": 5})
    bucket.put_once(f"{ARRIVED}winter/1.json", {"key": "deliveries/winter/1.jpg", "etag": "0"})
    assert take(bucket, one(bucket), tmp_path, lambda _: False).photos == 0


def test_a_delivery_may_be_waited_for_as_long_as_one_likes(bucket: Bucket) -> None:
    deliver(bucket, "deliveries/winter/alma/1.jpg")
    assert not one(bucket).is_complete(Debounce(minutes=float("inf")))


def test_the_command_prints_what_to_type(bucket: Bucket, tmp_path: Path) -> None:
    run, options = CliRunner().invoke, ["--bucket", BUCKET, "--region", REGION]
    assert "no delivery waits" in run(app, ["lambda", "requests", *options]).output
    name = "o'brien; touch owned"
    deliver(bucket, f"deliveries/{name}/alma/1.jpg")
    shown = run(app, ["lambda", "requests", *options])
    assert "more may come" in shown.output and "1 " in shown.output
    folder = tmp_path / "it's here"
    done = run(app, ["lambda", "requests", "--take", str(folder), *options])
    assert "more may come" in done.output and not folder.exists()
    done = run(app, ["lambda", "requests", "--minutes", "0", "--take", str(folder), *options])
    assert done.exit_code == 0
    batch = batch_of(name)
    lines = done.output.splitlines()
    words = shlex.split(next(line.partition("next: ")[2] for line in lines if line.startswith("next: ")))
    assert words == ["castline", "data", "add", str(folder / batch), "--batch", batch]
    assert lines[-2].strip() == "dvc exp run"


def test_results_that_name_somebody_are_removed(bucket: Bucket) -> None:
    def result(name: str, *nearest: str) -> None:
        people = [{"nearest": person, "name": "unknown"} for person in nearest]
        body = json.dumps({"key": f"inbox/{name}", "people": people})
        bucket.s3.put_object(Bucket=BUCKET, Key=f"inbox/{name}", Body=b"photo")
        bucket.s3.put_object(Bucket=BUCKET, Key=f"results/{name}.json", Body=body.encode())

    result("1.jpg", "alma", "zoë")
    result("2.jpg", "alma")
    bucket.s3.put_object(Bucket=BUCKET, Key="results/odd.json", Body=b"[")
    options = ["--bucket", BUCKET, "--region", REGION, "--pictures"]
    run = CliRunner().invoke
    done = run(app, ["lambda", "forget", "zoe\u0308", *options])
    assert "would be removed: results/1.jpg.json" in done.output and len(keys(bucket, "results/")) == 3
    done = run(app, ["lambda", "forget", "zoe\u0308", *options, "--yes"])
    assert "1 results" in done.output
    assert keys(bucket, "results/") == ["results/2.jpg.json", "results/odd.json"]
    assert keys(bucket, "inbox/") == ["inbox/2.jpg"]


def test_a_result_names_no_object_but_its_picture(bucket: Bucket) -> None:
    bucket.s3.put_object(Bucket=BUCKET, Key="deliveries/winter/alma/1.jpg", Body=b"photo")
    body = json.dumps({"key": "deliveries/winter/alma/1.jpg", "people": [{"nearest": "alma"}]}).encode()
    bucket.s3.put_object(Bucket=BUCKET, Key="results/1.jpg.json", Body=body)
    bucket.s3.put_object(Bucket=BUCKET, Key="results/deep.json", Body=b"[" * 100_000)
    options = ["--bucket", BUCKET, "--region", REGION, "--pictures", "--yes"]
    assert CliRunner().invoke(app, ["lambda", "forget", "alma", *options]).exit_code == 0
    assert keys(bucket, "results/") == ["results/deep.json"]
    assert keys(bucket, "deliveries/") == ["deliveries/winter/alma/1.jpg"]


def test_a_bucket_that_is_not_there_is_said(bucket: Bucket) -> None:
    with pytest.raises(CastlineError, match="bucket not-there: is not there"):
        waiting(Bucket(bucket.s3, "not-there", "123456789012"))

"""The built function, run by Lambda's own runtime client in a process that has nothing else, on what moto's S3 tells a
queue that `castline lambda publish` made. S3 and the queue are moto's, the poller between them and Lambda is here."""

import io
import json
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from edge_device import index_unreachable
from edge_releases import tiny_bundle
from lambda_runtime import Function, packaged, unpacked
from PIL import Image
from servers import moto

from castline.cloud import lambda_build
from castline.cloud.lambda_bucket import Bucket
from castline.cloud.lambda_build import LARGEST, Target, build_zip
from castline.cloud.lambda_handler import Handler, Model
from castline.cloud.lambda_publish import Account, Settings, connect, open_zip, publish
from castline.cloud.lambda_requests import Debounce, take, waiting
from castline.errors import CastlineError
from castline.runtime import Recognizer

BUCKET, NAME = "photos", "castline-recognizer"
NOW = Debounce(minutes=0)


@dataclass
class Cloud:
    """An account with a bucket that tells a queue. zip: what the function was made of; task: unpacked."""

    account: Account
    zip: Path
    task: Path
    bundle: Path
    bucket: Bucket
    variables: dict[str, str]

    def queue(self) -> str:
        return str(self.account.clients["sqs"].get_queue_url(QueueName=f"{NAME}-arrivals")["QueueUrl"])

    def upload(self, key: str, data: bytes) -> str:
        """Put an object; its ETag."""
        return str(self.bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=data)["ETag"]).strip('"')

    def told(self) -> list[dict[str, Any]]:
        """What the queue has, as Lambda's poller hands it to a function, and the queue no more."""
        sqs, url = self.account.clients["sqs"], self.queue()
        records: list[dict[str, Any]] = []
        while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            for message in found:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                records.append(queued(message["MessageId"], message["Body"]))
        return records

    def keys(self, prefix: str) -> list[str]:
        return [key for key, _ in self.bucket.listed(prefix)]

    def result(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.bucket.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        return found


def queued(id: str, body: str) -> dict[str, Any]:
    return {"messageId": id, "body": body, "eventSource": "aws:sqs", "eventSourceARN": "arn", "awsRegion": "here"}


def event_of(key: str, etag: str, sequencer: str = "", size: int = 3, bucket: str = BUCKET) -> dict[str, Any]:
    """As S3 writes it."""
    found = {"key": quote_plus(key, safe="/"), "size": size, "eTag": etag, "sequencer": sequencer}
    record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "awsRegion": "eu-central-1"}
    return {"Records": [record | {"s3": {"bucket": {"name": bucket}, "object": found}}]}


def batch(*events: dict[str, Any]) -> dict[str, Any]:
    """As a queue brings them."""
    return {"Records": [queued(str(number), json.dumps(event)) for number, event in enumerate(events)]}


def stored(path: Path, contents: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


FINE = ("ok", {"batchItemFailures": []})


@pytest.fixture(scope="module")
def cloud(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    work = tmp_path_factory.mktemp("function")
    bundle = tiny_bundle(work / "bundle", sample, seed=1)
    target = Target(python=f"{sys.version_info[0]}.{sys.version_info[1]}")
    try:
        with pytest.MonkeyPatch.context() as patch:  # packing it small takes long; the benchmark does it
            patch.setattr(lambda_build, "write_zip", stored)
            built = build_zip(packaged(bundle, work / "edge"), work, target)
    except CastlineError as error:
        if "could not be installed" in error.what and (why := index_unreachable()):
            pytest.skip(f"no index of packages: {why}")
        raise
    with moto() as url, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nobody")
        patch.setenv("AWS_CONFIG_FILE", str(work / "absent"))
        account = connect("eu-central-1")
        account.clients["s3"].create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        publish(open_zip(built), account, BUCKET, Settings(), say=lambda _: None)
        # Moto would bring what the queue has to a container; here it is this module that brings it.
        (mapping,) = account.clients["lambda"].list_event_source_mappings(FunctionName=NAME)["EventSourceMappings"]
        account.clients["lambda"].update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        deployed = account.clients["lambda"].get_function(FunctionName=NAME)["Configuration"]
        variables = deployed["Environment"]["Variables"] | {"AWS_ENDPOINT_URL": url}
        yield Cloud(account, built, unpacked(built, work / "task"), bundle, account.bucket(BUCKET), variables)


@pytest.fixture(scope="module")
def function(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    with Function(cloud.task, tmp_path_factory.mktemp("one") / "work", cloud.variables) as running:
        yield running


@pytest.fixture
def scene(sample: Path) -> bytes:
    return (sample / "scenes" / "scene_01.jpg").read_bytes()


class Context:
    """Of a call, where the handler runs in this process."""

    def __init__(self, left: Callable[[], int] = lambda: 60_000) -> None:
        self.get_remaining_time_in_millis = left


def other(scene: bytes, note: str) -> bytes:
    """The same picture under another ETag."""
    return scene + note.encode()


def test_it_fits(cloud: Cloud) -> None:
    assert sum(path.stat().st_size for path in cloud.task.rglob("*") if path.is_file()) < LARGEST
    assert not any((cloud.task / "castline" / name).exists() for name in ("training", "commands", "evaluation"))


def test_a_picture_that_arrives_is_named(cloud: Cloud, function: Function, scene: bytes, sample: Path) -> None:
    """Through the notification, the queue and its message of greeting, under names that nobody expects."""
    names = ["a b+c&d=e.jpg", "Łódź/日本/ñ.jpg", "100%.jpg", "%2e%2e%2fdeliveries%2fx.jpg", "\"'; <b>.jpg"]
    for name in names:
        cloud.upload(f"inbox/{name}", scene)
    records = cloud.told()
    assert any("s3:TestEvent" in record["body"] for record in records) and len(records) > len(names)
    assert function.call({"Records": records}) == FINE
    expected = [person.described() for person in Recognizer(cloud.bundle).identify(scene)]
    assert [person["name"] for person in expected] and len(expected) == 2
    for name in names:
        result = cloud.result(f"results/{name}.json")
        assert result["people"] == expected and result["model-version"] == "1.0.0"
        assert (result["key"], result["bucket"], result["width"]) == (f"inbox/{name}", BUCKET, 960)
    assert cloud.told() == []  # what it writes calls nobody


def test_what_cannot_be_looked_at_is_said_and_not_tried_again(cloud: Cloud, function: Function, scene: bytes) -> None:
    odd = {
        "not_a_picture": b"<html>404</html>", "empty_file": b"", "truncated": scene[:9000], "too_many_pixels": bomb(),
        "too_small": small(),
    }  # fmt: skip
    events = [
        event_of(f"inbox/odd/{reason}", cloud.upload(f"inbox/odd/{reason}", data)) for reason, data in odd.items()
    ]
    events.append(event_of("inbox/odd/missing", "0" * 32))
    events.append(event_of("inbox/odd/file_too_large", "0" * 32, size=10**9))
    assert function.call(batch(*events)) == FINE
    for reason in (*odd, "missing", "file_too_large"):
        result = cloud.result(f"results/odd/{reason}.json")
        assert result["rejected"]["reason"] == reason and "people" not in result
    cloud.told()


def bomb() -> bytes:
    """A PNG of 8 pixels a side that says it has 30,000."""
    data, header = small(), b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def small() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "PNG")
    return data.getvalue()


def test_names_that_lead_elsewhere_lead_nowhere(cloud: Cloud, function: Function, scene: bytes) -> None:
    """Whatever a client on the way makes of such a key: another object's contents have another ETag."""
    cloud.upload("deliveries/secret/alma/1.jpg", scene)
    cloud.told()
    key = "inbox/../deliveries/secret/alma/1.jpg"
    assert function.call(event_of(key, "0" * 32)) == FINE
    assert function.call(event_of("inbox/../../etc/passwd", "0" * 32)) == FINE
    assert not any(".." in key or "secret" in key or "passwd" in key for key in cloud.keys("results/"))
    assert cloud.told() == []


def test_the_newest_picture_under_a_name_has_the_last_word(cloud: Cloud, function: Function, scene: bytes) -> None:
    first = cloud.upload("inbox/again.jpg", scene)
    second = cloud.upload("inbox/again.jpg", other(scene, "2"))
    late, early = (event_of("inbox/again.jpg", etag, found) for etag, found in ((second, "0B"), (first, "0A")))
    assert function.call(batch(late, early, late)) == FINE
    assert cloud.result("results/again.jpg.json")["etag"] == second
    cloud.upload("inbox/again.jpg", scene)  # back to the first: an early event comes again, and fits
    assert function.call(early) == FINE
    assert cloud.result("results/again.jpg.json")["etag"] == second
    assert function.call(event_of("inbox/again.jpg", first, "0C0")) == FINE
    assert cloud.result("results/again.jpg.json")["etag"] == first
    cloud.told()


def test_one_message_that_fails_costs_the_others_nothing(cloud: Cloud, function: Function, scene: bytes) -> None:
    good = event_of("inbox/partial.jpg", cloud.upload("inbox/partial.jpg", scene), "01")
    event = batch(good, {"Records": [{"eventSource": "aws:s3"}]}, good, good)
    event["Records"][2]["body"] = "no json"
    event["Records"].append({"body": json.dumps(good)})  # without an id there is nothing to give back
    assert function.call(event) == ("ok", {"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": "2"}]})
    assert cloud.result("results/partial.jpg.json")["people"]
    cloud.told()


@pytest.mark.parametrize(
    "event", [None, [], {}, 5, "text", {"Records": None}, {"Records": {}}, {"Records": [5, None, []]}], ids=str
)
def test_what_is_no_event_of_s3_is_an_error(function: Function, event: object) -> None:
    kind, said = function.call(event)
    assert kind == "error" and "1 of 1 messages failed" in said["errorMessage"]


def test_ten_thousand_records(cloud: Cloud, function: Function, scene: bytes) -> None:
    """Most of them the same, or of elsewhere."""
    (one,) = event_of("inbox/many.jpg", cloud.upload("inbox/many.jpg", scene), "01")["Records"]
    (elsewhere,) = event_of("inbox/many.jpg", "0" * 32, bucket="not-ours")["Records"]
    (ours,) = event_of("results/many.jpg.json", "0" * 32)["Records"]
    begun = len(function.log)
    assert function.call({"Records": [one, elsewhere, ours, one] * 2500}) == FINE
    assert [line["outcome"] for line in function.log[begun:]] == ["named", "ignored", "ignored"]
    assert function.call({"Records": []}) == FINE
    cloud.told()


def test_a_delivery_asks_once_however_often_it_is_told_of(
    cloud: Cloud, function: Function, scene: bytes, tmp_path: Path
) -> None:
    """Duplicated, in any order, to two processes at once, pictures of the inbox between; killed and told again."""
    for number in range(4):
        cloud.upload(f"deliveries/winter/alma/{number}.jpg", other(scene, str(number)))
        cloud.upload(f"inbox/both/{number}.jpg", other(scene, str(number)))
    records = cloud.told()
    assert len(records) == 8
    with Function(cloud.task, tmp_path / "second", cloud.variables) as second:
        second.send({"Records": [*records[::-1], *records]})
        assert function.call({"Records": [*records, *records]}) == FINE == second.answer()
        said = [line["outcome"] for one in (function, second) for line in one.log if "/both/" in line.get("key", "")]
    assert cloud.keys("requests/") == ["requests/winter.json"]
    assert cloud.keys("results/both/") == [f"results/both/{number}.jpg.json" for number in range(4)]
    assert said.count("named") == 4 and set(said) <= {"named", "there already"}
    (one,) = waiting(cloud.bucket)
    assert (one.batch, len(one.ids)) == ("winter", 4)

    assert not one.is_complete(Debounce(photos=5, minutes=15)) and one.is_complete(Debounce(photos=4))
    assert one.is_complete(Debounce(), one.latest + timedelta(minutes=15))
    brought = take(cloud.bucket, one, tmp_path / "here", lambda _: False)
    assert (brought.batch, brought.photos, brought.left) == ("winter", 4, [])
    assert sorted(path.name for path in (tmp_path / "here/winter/alma").iterdir()) == [f"{n}.jpg" for n in range(4)]
    assert function.call({"Records": records}) == FINE  # told once more, though all was taken
    assert cloud.keys("requests/") == [] and waiting(cloud.bucket) == []

    cloud.upload("deliveries/winter/alma/9.jpg", other(scene, "9"))
    assert function.call({"Records": cloud.told()}) == FINE
    assert cloud.keys("requests/") == ["requests/winter.json"]
    (one,) = waiting(cloud.bucket)
    brought = take(cloud.bucket, one, tmp_path / "here", lambda _: False)
    assert (brought.batch, brought.photos) == ("winter-2", 1)


def test_a_function_killed_before_it_asked_is_no_loss(cloud: Cloud, function: Function, scene: bytes) -> None:
    """Its message comes again: the photo is known, the request is not there yet."""
    event = event_of("deliveries/killed/alma/1.jpg", cloud.upload("deliveries/killed/alma/1.jpg", scene))
    assert function.call(event) == FINE
    cloud.bucket.s3.delete_object(Bucket=BUCKET, Key="requests/killed.json")
    assert function.call(event) == FINE
    assert cloud.keys("requests/") == ["requests/killed.json"]
    cloud.bucket.s3.delete_object(Bucket=BUCKET, Key="requests/killed.json")
    cloud.told()


@pytest.fixture
def handler(cloud: Cloud) -> Handler:
    """In this process."""
    return Handler(cloud.account.bucket(BUCKET), Model(cloud.task / "model"), say=lambda _: None)


def test_throttled_it_is_tried_again(cloud: Cloud, scene: bytes) -> None:
    """S3 that says SlowDown for one picture is a double: a hook of botocore answers in its place."""
    once = Config(region_name="eu-central-1", retries={"total_max_attempts": 1})
    busy = Bucket(boto3.client("s3", config=once), BUCKET, cloud.account.id)

    def slow(request: Any, **_: Any) -> AWSResponse | None:
        if not request.url.endswith("inbox/busy.jpg"):
            return None
        body = io.BytesIO(b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
        body.stream = lambda **_: [body.getvalue()]  # type: ignore[attr-defined]
        return AWSResponse(request.url, 503, {"x-amz-request-id": "1"}, body)

    calm, hurried = (event_of(f"inbox/{n}.jpg", cloud.upload(f"inbox/{n}.jpg", scene), "01") for n in ("calm", "busy"))
    busy.s3.meta.events.register("before-send.s3.GetObject", slow)
    lines: list[str] = []
    handler = Handler(busy, Model(cloud.task / "model"), say=lines.append)
    assert handler(batch(hurried, calm), Context()) == {"batchItemFailures": [{"itemIdentifier": "0"}]}
    assert "SlowDown" in lines[0] and cloud.keys("results/calm.jpg.json") and not cloud.keys("results/busy.jpg.json")
    with pytest.raises(RuntimeError, match="1 of 1 messages failed"):  # S3 itself called: Lambda calls again
        handler(hurried, Context())
    busy.s3.meta.events.unregister("before-send.s3.GetObject", slow)
    assert handler(batch(hurried), Context()) == {"batchItemFailures": []}
    assert cloud.keys("results/busy.jpg.json")
    cloud.told()


def test_what_time_does_not_suffice_for_is_left_for_another(cloud: Cloud, handler: Handler, scene: bytes) -> None:
    events = [event_of(f"inbox/late/{n}.jpg", cloud.upload(f"inbox/late/{n}.jpg", scene), "01") for n in range(3)]
    left = iter([60_000, 9_000, 8_000])
    answer = handler(batch(*events), Context(lambda: next(left)))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": "2"}]}
    assert cloud.keys("results/late/") == ["results/late/0.jpg.json"]
    cloud.told()


def test_results_raced_for_end_as_the_newest(cloud: Cloud) -> None:
    """Many writers at once, in any order: conditional writes let none overwrite what is newer."""

    def write(number: int) -> None:
        cloud.account.bucket(BUCKET).put_newer(
            "results/race.json", {"number": number}, {"number": str(number)},
            lambda there: number > int(there.metadata["number"]),
        )  # fmt: skip

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, [3, 1, 5, 2, 4, 0]))
    assert cloud.result("results/race.json") == {"number": 5}


@pytest.mark.parametrize("key", ["inbox/1.json", "deliveries/winter/1.json", "code/x", "1.json"])
def test_it_writes_where_nothing_is_triggered(cloud: Cloud, key: str) -> None:
    with pytest.raises(ValueError, match="nothing is written there"):
        cloud.bucket.put_once(key, {})


def test_code_that_cannot_start_is_said_to_lambda(cloud: Cloud, tmp_path: Path) -> None:
    variables = {name: value for name, value in cloud.variables.items() if name != "CASTLINE_BUCKET"}
    with Function(cloud.task, tmp_path / "work", variables) as broken:
        kind, said = broken.answer()
    assert kind == "error" and "CASTLINE_BUCKET" in said["errorMessage"]

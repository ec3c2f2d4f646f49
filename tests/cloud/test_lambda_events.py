"""What S3 says, read: whatever an event holds it is messages, and whatever names are, keys stay in their place."""

import json
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castline.cloud.lambda_bucket import RESULTS, TRIGGERS, batch_of, result_key
from castline.cloud.lambda_events import Arrival, is_newer, messages_of
from castline.photos.batches import check_name

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Records", "s3", "key"]), inner, max_size=3)
    ),
    max_leaves=8,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
HEX = st.text("0123456789ABCDEF", min_size=1, max_size=18)


def record(name: str, /, event: str = "ObjectCreated:Put", **more: object) -> dict[str, object]:
    found = {"key": quote_plus(name), "size": 3, "eTag": "d41d8cd9", "sequencer": "0055", **more}
    return {"eventSource": "aws:s3", "eventName": event, "s3": {"bucket": {"name": "photos"}, "object": found}}


@given(JSON)
@settings(max_examples=40)
def test_nothing_that_is_json_is_too_odd(event: object) -> None:
    for message in messages_of(event):
        assert message.problem or not message.arrivals


@given(st.sampled_from(["eventSource", "eventName", "s3"]), JSON, TEXT)
@settings(max_examples=40)
def test_a_record_that_is_odd_costs_the_others_nothing(field: str, value: object, key: str) -> None:
    event = {"Records": [record("inbox/1.jpg"), {**record(key), field: value}, record("inbox/2.jpg")]}
    (message,) = messages_of(event)
    assert [message.arrivals[0].key, message.arrivals[-1].key] == ["inbox/1.jpg", "inbox/2.jpg"]
    assert message.problem or len(message.arrivals) == 2 or value == {"aws:s3": 1}


@given(TEXT)
def test_keys_are_decoded(key: str) -> None:
    (message,) = messages_of({"Records": [record(key)]})
    assert message.arrivals == (Arrival("photos", key, "d41d8cd9", "0055", 3),)


@pytest.mark.parametrize(
    "change",
    [
        {"key": "%ff"}, {"key": ""}, {"key": "a" * 1025}, {"key": 5}, {"eTag": "a\r\nx-amz-acl: public-read"},
        {"eTag": None}, {"sequencer": "zz"}, {"sequencer": 5}, {"size": -1}, {"size": "5"}, {"size": True},
    ],
    ids=str,
)  # fmt: skip
def test_values_that_s3_never_gives_are_malformed(change: dict[str, object]) -> None:
    (message,) = messages_of({"Records": [record("inbox/1.jpg", **change)]})
    assert message.problem and not message.arrivals


def test_messages_of_a_queue_fail_one_by_one() -> None:
    good, test = {"Records": [record("inbox/1.jpg")]}, {"Service": "Amazon S3", "Event": "s3:TestEvent"}
    bodies = [json.dumps(good), json.dumps(test), "no json", "[" * 100_000, json.dumps({"Records": "none"})]
    event = {"Records": [{"messageId": str(i), "body": body} for i, body in enumerate(bodies)]}
    found = messages_of(event)
    assert [(message.id, len(message.arrivals), bool(message.problem)) for message in found] == [
        ("0", 1, False), ("1", 0, False), ("2", 0, True), ("3", 0, True), ("4", 0, True),
    ]  # fmt: skip


def test_only_objects_that_were_put_count() -> None:
    names = ["ObjectCreated:Copy", "s3:ObjectCreated:CompleteMultipartUpload", "ObjectRemoved:Delete", "TestEvent"]
    (message,) = messages_of({"Records": [record(str(i), event=name) for i, name in enumerate(names)]})
    assert ([arrival.key for arrival in message.arrivals], message.problem) == (["0", "1"], "")


@given(HEX, HEX)
def test_sequencers_are_ordered(one: str, other: str) -> None:
    length = max(len(one), len(other))
    expected = int(one.ljust(length, "0"), 16) > int(other.ljust(length, "0"), 16)
    assert is_newer(one, other) == expected == is_newer(one.lower(), other)
    assert is_newer(one, "") is is_newer("", other) is None


@given(TEXT, TEXT)
def test_results_stay_in_their_place_and_are_each_pictures_own(one: str, other: str) -> None:
    made = result_key(f"inbox/{one}")
    assert made.startswith(RESULTS) and not made.startswith(TRIGGERS) and len(made.encode()) <= 1024
    assert not {"", ".", ".."} & set(made.split("/"))
    assert (made == result_key(f"inbox/{other}")) == (one == other)


@pytest.mark.parametrize("name", ["../../deliveries/x.jpg", "a//b.jpg", "./a.jpg", "a/..", "x" * 1018, "_odd/5f3a"])
def test_names_that_are_no_plain_path_give_way_to_a_hash(name: str) -> None:
    assert result_key(f"inbox/{name}").startswith(f"{RESULTS}_odd/")


@given(TEXT)
def test_any_delivery_can_be_a_batch(delivery: str) -> None:
    assert check_name(batch_of(delivery))

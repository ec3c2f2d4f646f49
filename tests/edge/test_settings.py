"""The configuration: the public component's keys, ours, and what is said of a wrong one."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from castline.edge.settings import KEYS, Mqtt, parse, read_file, without_password
from castline.edge.sources import Camera
from castline.errors import ConfigError
from castline.photos.settings import PhotoSettings

PUBLIC = {  # as a deployment of the public component has it: strings all of them
    "accessControl": {"aws.greengrass.ipc.mqttproxy": {}},
    "PublishResultsOnTopic": "ml/tflite/image-classification",
    "Accelerator": "cpu",
    "ImageDirectory": "/images",
    "ImageName": "cat.jpeg",
    "InferenceInterval": "3600",
    "ModelResourceKey": {"model": "TensorFlowLite-Mobilenet"},
}


def test_the_public_components_configuration_is_understood() -> None:
    settings, notes = parse(PUBLIC)
    assert (settings.source, settings.interval, settings.topic) == (
        "image:/images/cat.jpeg", 3600.0, "ml/tflite/image-classification",
    )  # fmt: skip
    assert settings.model == "TensorFlowLite-Mobilenet"
    assert (settings.threshold, settings.mqtt, notes) == (None, None, [])


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ({"ImageDirectory": "/images"}, "directory:/images"),
        ({"UseCamera": "True", "ImageName": "a"}, "camera:/dev/video0"),
        ({"UseCamera": "false", "ImageName": "a.jpg"}, "image:a.jpg"),
        ({"Source": "rtsp://u:p@10.0.0.7/1", "UseCamera": True}, "rtsp://u:p@10.0.0.7/1"),
        ({"Source": "video:clip.mp4"}, "video:clip.mp4"),
    ],
)
def test_which_source_wins(given: dict[str, Any], source: str) -> None:
    assert parse(given)[0].source == source


def test_ours_in_full() -> None:
    mqtt = {"host": "h", "ca": "c", "cert": "d", "key": "k", "client_id": "thing", "port": "8884"}
    ours = {
        "Source": "image:a", "Fps": "5", "LocalTopic": "seen", "SpoolMegabytes": 1, "Threshold": "0.5", "Threads": "2",
        "StorePath": "/store", "Mqtt": mqtt,
    }  # fmt: skip
    settings, notes = parse(ours)
    assert (settings.fps, settings.local_topic, settings.spool_bytes) == (5.0, "seen", 1_000_000)
    assert (settings.threshold, settings.threads, settings.store_path) == (0.5, 2, "/store")
    assert settings.mqtt == Mqtt("h", Path("c"), Path("d"), Path("k"), "thing", 8884)
    assert not notes


def test_unknown_keys_are_said_and_harmless() -> None:
    settings, notes = parse({"Source": "image:a", "fps": "9", "Speed": 1, "Fps": None, "Threshold": ""})
    assert notes == ["'fps' is no setting; Fps is meant?", "'Speed' is no setting"]
    assert (settings.fps, settings.threshold) == (2.0, None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "no Source, ImageName, ImageDirectory or UseCamera"),
        ({"Source": "disk:/a"}, "Source is"),
        ({"Source": "image:"}, "Source is"),
        ({"Source": "file:///etc/passwd"}, "Source is"),
        ({"Source": "image:http://10.0.0.7/now.jpg"}, "Source is"),
        ({"ImageName": "http://10.0.0.7/now.jpg"}, "ImageName(.|\n)*a URL belongs into Source"),
        ({"Mqtt": {"host": "mqtts://h", "ca": "c", "cert": "d", "key": "k"}}, r"Mqtt\.host(.|\n)*no URL"),
        ({"InferenceInterval": "soon"}, 'InferenceInterval is "soon"(.|\n)*a number from'),
        ({"InferenceInterval": "nan"}, "InferenceInterval"),
        ({"InferenceInterval": "0"}, "InferenceInterval"),
        ({"Fps": True}, "Fps is true"),
        ({"Fps": [1]}, r"Fps is \[1\]"),
        ({"UseCamera": "perhaps"}, "UseCamera"),
        ({"PublishResultsOnTopic": "a/#"}, "PublishResultsOnTopic"),
        ({"LocalTopic": "ü" * 200}, "LocalTopic"),
        ({"PublishResultsOnTopic": "t" * 250}, "PublishResultsOnTopic(.|\n)*249 bytes"),  # /events is put behind it
        ({"PublishResultsOnTopic": "half a letter: \ud800"}, "PublishResultsOnTopic"),
        ({"Source": "video:\ud800.mp4"}, "Source is"),
        ({"ModelResourceKey": "x"}, "ModelResourceKey"),
        ({"Mqtt": {"host": "h"}}, r"Mqtt\.ca is not configured"),
        ({"Mqtt": {"host": "h", "ca": "c", "cert": "d", "key": "k", "port": 0}}, r"Mqtt\.port is 0"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse({"Source": "image:a", **wrong} if wrong and "Source" not in wrong else wrong)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@hypothesis(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), json_values, max_size=5))
def test_whatever_is_deployed_is_understood_or_refused_in_words(values: dict[str, Any]) -> None:
    try:
        settings, notes = parse(values)
    except ConfigError as error:
        assert error.next
    else:
        assert settings.source
        assert len(notes) == len([key for key in values if key not in KEYS])


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("camera:/dev/video0", "camera:/dev/video0"),
        ("rtsp://10.0.0.7:554/cam/realmonitor?channel=1&subtype=0",) * 2,
        ("rtsp://u:p@ss@h:554/1", "rtsp://h:554/1"),
        ("rtsp://u:p/a@10.0.0.7/1?channel=2", "rtsp://10.0.0.7/1?channel=2"),
        ("http://h/v.cgi?channel=1&UserName=b&pwd=a", "http://h/v.cgi?channel=1&UserName="),
        ("http://h/v.cgi?pwd=a@b", "http://"),
        ("rtsp://h/user=admin&password=a&channel=1", "rtsp://h/user="),
    ],
)
def test_a_source_is_shown_without_its_password(source: str, shown: str) -> None:
    assert without_password(source) == shown


@hypothesis(deadline=None)
@given(
    st.lists(st.text("/@#?:&= %;'\\") | st.text(max_size=3), min_size=2, max_size=4),
    st.sampled_from(
        ["u:{}@10.0.0.7/1", ":{}@h/1?channel=2", "h/v?usr=a&pwd={}", "u:x@h/?token={}&n=1", "h/user=a_password={}_n=1"]
    ),
    st.sampled_from(["rtsp://", "http://", "RTSP://", "rtp://", "rtsp:/", "rtsp//", "image:http://", "video:rtsp:/"]),
)
def test_no_password_is_said_whatever_letters_it_has(odd: list[str], rest: str, scheme: str) -> None:
    """s3cr3t stands for the letters of a password between odd ones."""
    url = scheme + rest.format("s3cr3t".join(odd))
    mqtt = {"host": url, **dict.fromkeys(("ca", "cert", "key"), "x")}
    given: list[dict[str, Any]] = [{"Source": place} for place in (url, [url], {"url": url})]
    given += [{"Source": "image:a", "Mqtt": mqtt}, {"ImageName": url if ":/" in scheme else f"rtsp:/{url}"}]
    for values in given:
        try:
            settings, notes = parse(values)
        except ConfigError as error:
            assert "s3cr3t" not in str(error)
        else:
            assert values == {"Source": url} and not notes
            assert "s3cr3t" not in without_password(settings.source)
            assert "s3cr3t" not in Camera(settings.source, 5, PhotoSettings()).name


@pytest.mark.parametrize("text", ["", "[1]", "{", "\xff", "[" * 100_000])
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str) -> None:
    path = tmp_path / "edge.json"
    path.write_text(text, "latin-1")
    with pytest.raises(ConfigError, match=r"edge\.json"):
        read_file(path)
    with pytest.raises(ConfigError, match="absent"):
        read_file(tmp_path / "absent")

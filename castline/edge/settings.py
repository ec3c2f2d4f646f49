"""The configuration of a device: the keys of the public TFLite component, ours, and what they may be.

Greengrass hands over JSON in which the public component's values are all strings, so "30" and 30 are both thirty.
Source: AWS IoT Greengrass developer guide, tensorflow-lite-image-classification-component.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from castline.errors import ConfigError

__all__ = ["KEYS", "SOURCES", "Mqtt", "Settings", "parse", "read_file", "without_password"]

TOPIC = "ml/tflite/image-classification"
SOURCES = ("image", "directory", "video", "camera")
STREAMS = ("rtsp://", "rtsps://", "http://", "https://", "tcp://")
KEYS = (
    *("ImageName", "ImageDirectory", "InferenceInterval", "PublishResultsOnTopic", "ModelResourceKey", "UseCamera"),
    *("Source", "Fps", "LocalTopic", "SpoolMegabytes", "Threshold", "Threads", "StorePath", "Mqtt"),
)
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
# In queries and, of some cameras, in paths: user=admin&password=…
_SECRET = re.compile(
    r"(?:user|usr|login|account|pas|pwd|psw|token|auth|key|secret|sign|sid|session|cred)[^=/&]*=", re.IGNORECASE
)
_NOT_OURS = ("accessControl", "Accelerator")  # Greengrass reads the first; the second has one value, cpu


@dataclass(frozen=True)
class Mqtt:
    """Where to publish without Greengrass. ca, cert, key: PEM files; the broker is checked, and checks the device."""

    host: str
    ca: Path
    cert: Path
    key: Path
    client_id: str
    port: int = 8883


@dataclass(frozen=True)
class Settings:
    """What a device does.

    source: image:FILE, directory:FOLDER, video:FILE, camera:DEVICE, or the URL of a stream. interval: seconds between
    two looks at one image. fps: frames of a camera, stream or video to look at in a second. topic, local_topic: where
    results go; no local_topic, no local results. model: the folder of a bundle or release, unless store_path is the
    folder of a store, whose current release is taken then. threshold: below it a face is unknown; None: the model's
    own. threads: of LiteRT. spool_bytes: of results that wait for the link. mqtt: None on Greengrass.
    """

    source: str
    interval: float = 3600.0
    fps: float = 2.0
    topic: str = TOPIC
    local_topic: str = ""
    model: str = "models/recognizer"
    store_path: str = ""
    threshold: float | None = None
    threads: int = 1
    spool_bytes: int = 64_000_000
    mqtt: Mqtt | None = None


def parse(values: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """The settings, and what is odd about `values` but does no harm.

    Raises: ConfigError naming the key, its value and what is allowed.
    """
    given = _Given("", values)
    notes = [_unknown(key) for key in values if key not in KEYS and key not in _NOT_OURS]
    model = given.section("ModelResourceKey")
    mqtt = given.section("Mqtt")
    settings = Settings(
        source=_source(given),
        interval=given.number("InferenceInterval", 3600.0, 0.01, 1e7),
        fps=given.number("Fps", 2.0, 0.001, 1000),
        topic=_topic("PublishResultsOnTopic", given.text("PublishResultsOnTopic", TOPIC)),
        local_topic=_topic("LocalTopic", given.text("LocalTopic", "")),
        model=model.text("model", "models/recognizer"),
        store_path=given.text("StorePath", ""),
        threshold=None if given.absent("Threshold") else given.number("Threshold", 0.0, -1, 1),
        threads=round(given.number("Threads", 1, 1, 64)),
        spool_bytes=round(given.number("SpoolMegabytes", 64.0, 0.2, 1e6) * 1e6),
        mqtt=None if given.absent("Mqtt") else _mqtt(mqtt),
    )
    return settings, notes


def read_file(path: Path) -> Mapping[str, Any]:
    """The values in a configuration file, JSON.

    Raises: ConfigError.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: no configuration that can be read ({error})", "it holds a JSON object") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: no JSON object", f'such as {{"Source": "image:photo.jpg", "PublishResultsOnTopic": "{TOPIC}"}}'
        )
    return values


def without_password(source: str) -> str:
    """A source as it may be shown. Of a URL, all before the last @ is left out, and all after such a word as pwd=.

    A password may have any letters, also those that part a URL: what might belong to one is left out with it.

    >>> without_password("rtsp://admin:sec/ret@10.0.0.7/1")
    'rtsp://10.0.0.7/1'
    >>> without_password("http://10.0.0.7/video?channel=2&usr=admin&pwd=secret")
    'http://10.0.0.7/video?channel=2&usr='
    """
    scheme, found, rest = source.partition("://")
    if not found:
        return source
    before, _, rest = rest.rpartition("@")
    if _SECRET.search(before):  # this @ may be one of the password that follows such a word
        return f"{scheme}://"
    secret = _SECRET.search(rest)
    return f"{scheme}://{rest[: secret.end()] if secret else rest}"


@dataclass(frozen=True)
class _Given:
    """Values by key, wherever they come from: null and "" are the same as nothing."""

    where: str
    values: Mapping[str, Any]

    def absent(self, key: str) -> bool:
        return self.values.get(key) in (None, "", {})

    def wrong(self, key: str, allowed: str) -> ConfigError:
        value = json.dumps(self.values.get(key), default=str)
        if key == "Source" or "@" in value or "=" in value:  # there may be a password in it
            value = re.split("[:/@=]", value)[0] + "…"
        return ConfigError(f"{self.where}{key} is {value[:200]}", f"it takes {allowed}")

    def text(self, key: str, default: str) -> str:
        if self.absent(key):
            return default
        value = self.values[key]
        if not isinstance(value, str) or "\0" in value or not _is_unicode(value):
            raise self.wrong(key, "text")
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        if self.absent(key):
            return default
        value, allowed = self.values[key], f"a number from {low:g} to {high:g}"
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise self.wrong(key, allowed)
        try:
            number = float(value)
        except (ValueError, OverflowError) as error:
            raise self.wrong(key, allowed) from error
        if not low <= number <= high:  # nor is NaN
            raise self.wrong(key, allowed)
        return number

    def flag(self, key: str) -> bool:
        value = str(self.values.get(key) or "false").lower()
        if value not in ("true", "false"):
            raise self.wrong(key, "true or false")
        return value == "true"

    def section(self, key: str) -> "_Given":
        value = {} if self.absent(key) else self.values[key]
        if not isinstance(value, Mapping):
            raise self.wrong(key, "an object")
        return _Given(f"{key}.", value)


def _source(given: _Given) -> str:
    """Where frames come from; Source goes before UseCamera, that before ImageName, that before ImageDirectory."""
    source = given.text("Source", "")
    folder, name = given.text("ImageDirectory", ""), given.text("ImageName", "")
    camera = given.flag("UseCamera")
    for key, value in (("ImageDirectory", folder), ("ImageName", name)):
        if _URL.search(value):
            raise given.wrong(key, "a path; a URL belongs into Source")
    if source:
        kind, _, rest = source.partition(":")
        if not source.startswith(STREAMS) and (kind not in SOURCES or not rest or _URL.search(rest)):
            raise given.wrong(
                "Source", f"{', '.join(f'{kind}:PATH' for kind in SOURCES)}, or a URL: {', '.join(STREAMS)}"
            )
        return source
    if camera:
        return "camera:/dev/video0"
    if name:
        return f"image:{Path(folder, name)}"
    if folder:
        return f"directory:{folder}"
    raise ConfigError(
        "no Source, ImageName, ImageDirectory or UseCamera is configured", 'such as "Source": "camera:/dev/video0"'
    )


def _topic(key: str, topic: str) -> str:
    most = 256 - len("/events")  # of IoT Core's
    if any(letter in topic for letter in "+#") or len(topic.encode()) > most:
        raise ConfigError(
            f"{key} is {topic[:200]!r}", f"it takes a topic to publish to: no + or #, {most} bytes at most"
        )
    return topic


def _is_unicode(text: str) -> bool:
    """JSON may hold halves of letters, which neither topics nor file names can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _mqtt(given: _Given) -> Mqtt:
    values = {}
    for key in ("host", "ca", "cert", "key"):
        values[key] = given.text(key, "")
        if not values[key]:
            raise ConfigError(f"Mqtt.{key} is not configured", "Mqtt takes host, ca, cert and key; port and client_id")
    if re.search(r"[/@\s]", values["host"]):
        raise given.wrong("host", "the name or address of a host, no URL")
    return Mqtt(
        host=values["host"],
        ca=Path(values["ca"]),
        cert=Path(values["cert"]),
        key=Path(values["key"]),
        client_id=given.text("client_id", ""),
        port=round(given.number("port", 8883, 1, 65535)),
    )


def _unknown(key: str) -> str:
    for known in KEYS:
        if known.lower() == key.lower():
            return f"{key!r} is no setting; {known} is meant?"
    return f"{key!r} is no setting"

"""paho against a real mosquitto with mutual TLS."""

import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from broker import Authority, Broker
from edge_program import Running, program, spooled
from PIL import Image
from test_greengrass import until

from castline.edge.links import LinkDown, MqttLink
from castline.edge.settings import Mqtt
from castline.errors import ConfigError

# paho leaves it to the garbage collector to close a socket whose handshake failed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture
def broker(tmp_path: Path, authority: Authority) -> Iterator[Broker]:
    made = Broker(tmp_path, authority)
    made.start()
    yield made
    made.stop()


def settings(port: int, authority: Authority, ca: Path | None = None, host: str = "localhost") -> Mqtt:
    certificate, key = authority.issue("thing")
    return Mqtt(host, ca or authority.ca, certificate, key, "thing", port)


class Subscriber:
    """A client of its own that hears all topics, with a session that the broker keeps."""

    def __init__(self, broker: Broker, authority: Authority) -> None:
        self.heard: list[tuple[str, bytes]] = []
        subscribed = threading.Event()
        certificate, key = authority.issue("subscriber")
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="subscriber", clean_session=False)
        self.client.tls_set(str(authority.ca), str(certificate), str(key))
        self.client.reconnect_delay_set(1, 1)
        self.client.on_message = lambda client, data, message: self.heard.append((message.topic, message.payload))
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.connect("localhost", broker.port)
        self.client.loop_start()
        assert subscribed.wait(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_results_arrive_with_their_topic_and_in_order(broker: Broker, authority: Authority) -> None:
    hears = Subscriber(broker, authority)
    link = MqttLink(settings(broker.port, authority), "host")
    sent = [("ml/a", b"%d" % number) for number in range(50)] + [("ml/b", b"x" * 128_000)]
    for topic, payload in sent:
        link.publish(topic, payload)
    until(lambda: len(hears.heard) == len(sent))
    assert hears.heard == sent
    link.close()
    hears.close()


def test_a_broker_that_goes_and_comes_back(broker: Broker, authority: Authority) -> None:
    hears = Subscriber(broker, authority)
    link = MqttLink(settings(broker.port, authority), "host", timeout=1, longest=1)
    link.publish("ml/a", b"1")
    broker.stop()
    for _ in range(2):
        with pytest.raises(LinkDown, match=f"localhost:{broker.port}: "):
            link.publish("ml/a", b"2")
    broker.start()

    def delivered() -> bool:
        try:
            link.publish("ml/a", b"2")
        except LinkDown:
            return False
        return True

    until(delivered)
    link.publish("ml/a", b"3")
    until(lambda: b"3" in [payload for _, payload in hears.heard])
    payloads = [payload for _, payload in hears.heard]
    assert list(dict.fromkeys(payloads)) == [b"1", b"2", b"3"], "each at least once, in order"
    assert payloads.count(b"2") <= 2, "tries in vain do not pile up"
    link.close()
    hears.close()


def test_a_link_connects_when_it_is_used(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        link = MqttLink(settings(server.getsockname()[1], authority), "host", timeout=0.1)
        with pytest.raises(TimeoutError):
            server.accept()
        server.settimeout(10)
        refusal(link)
        server.accept()[0].close()
        link.close()
        assert "closed" in refusal(link)


def test_the_program_goes_over_to_another_link_of_the_same_name(
    broker: Broker, authority: Authority, tmp_path: Path
) -> None:
    """Nobody is thrown out, and nothing is lost of what waited meanwhile."""
    hears = Subscriber(broker, authority)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.jpg")
    to = settings(broker.port, authority)
    mqtt = {name: str(getattr(to, name)) for name in ("host", "port", "ca", "cert", "key", "client_id")}
    values = {"Source": f"image:{tmp_path / 'a.jpg'}", "InferenceInterval": 0.01, "Mqtt": mqtt}
    running = Running(tmp_path / "work", values)
    running.program._link_of = lambda settings: MqttLink(settings.mqtt or to, "host")
    with running:
        for host in ("127.0.0.1", "localhost", "127.0.0.1"):
            seen = len(hears.heard)
            until(lambda seen=seen: len(hears.heard) > seen + 20)
            running.configure(Mqtt={**mqtt, "host": host})
            until(lambda host=host: running.program._link._where.startswith(host))
        seen = len(hears.heard)
        until(lambda: len(hears.heard) > seen + 20)
    hears.close()
    numbers = list(dict.fromkeys(json.loads(payload)["sequence"] for _, payload in hears.heard))
    assert numbers == list(range(1, len(numbers) + 1))
    said = broker.log
    assert said.count("as thing ") == 4 and "already connected" not in said


def test_a_broker_with_a_certificate_of_somebody_else(broker: Broker, authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "theirs")
    link = MqttLink(settings(broker.port, authority, ca=other.ca), "host", timeout=2)
    until(lambda: "certificate verify failed" in refusal(link))
    link.close()


def test_a_broker_under_another_name(broker: Broker, authority: Authority) -> None:
    link = MqttLink(settings(broker.port, authority, host="127.0.0.2"), "host", timeout=2)
    until(lambda: "no connection" in refusal(link))
    link.close()


def test_a_device_whose_certificate_the_broker_does_not_know(
    broker: Broker, authority: Authority, tmp_path: Path
) -> None:
    link = MqttLink(settings(broker.port, Authority(tmp_path / "theirs"), ca=authority.ca), "host", timeout=1)
    for _ in range(2):
        with pytest.raises(LinkDown):
            link.publish("ml/a", b"1")
    link.close()


def refusal(link: MqttLink) -> str:
    try:
        link.publish("ml/a", b"1")
    except LinkDown as down:
        return str(down)
    raise AssertionError("it was published")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ca": Path("absent.pem")}, "Mqtt.ca is absent.pem: No such file"),
        ({"ca": "key"}, "no certificates in it"),
        ({"key": "ca"}, "they do not fit together"),
        ({"key": "other"}, "they do not fit together"),
    ],
)
def test_certificates_that_cannot_be_used(authority: Authority, change: dict[str, Any], said: str) -> None:
    certificate, key = authority.issue("thing")
    files = {"ca": authority.ca, "key": key, "other": authority.issue("other")[1]}
    given = {"ca": authority.ca, "cert": certificate, "key": key}
    for name, value in change.items():
        given[name] = files.get(str(value), Path(value))
    with pytest.raises(ConfigError, match=said):
        MqttLink(Mqtt("localhost", **given, client_id="thing"), "host")


def test_the_program_delivers_to_a_broker_that_comes_later(
    broker: Broker, authority: Authority, tmp_path: Path
) -> None:
    hears = Subscriber(broker, authority)
    broker.stop()
    Image.new("RGB", (32, 32)).save(tmp_path / "a.jpg")
    to = settings(broker.port, authority)
    config = tmp_path / "edge.json"
    mqtt = {
        "host": to.host,
        "port": to.port,
        "ca": str(to.ca),
        "cert": str(to.cert),
        "key": str(to.key),
        "client_id": "t7",
    }
    config.write_text(
        json.dumps(
            {
                "Source": f"image:{tmp_path / 'a.jpg'}",
                "InferenceInterval": 0.1,
                "PublishResultsOnTopic": "ml/a",
                "Mqtt": mqtt,
            }
        )
    )
    with program(tmp_path / "work", "--config", str(config)) as running:
        until(lambda: spooled(tmp_path / "work") > 5)
        broker.start()
        until(lambda: len(hears.heard) > 8)
        running.send_signal(signal.SIGTERM)
        _, log = running.communicate(timeout=20)
    assert running.returncode == 0, log
    said = [json.loads(payload) for _, payload in hears.heard]
    assert [one["sequence"] for one in said] == list(range(1, len(said) + 1))
    assert {one["device"] for one in said} == {"t7"}
    assert "works again" in log
    hears.close()

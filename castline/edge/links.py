"""How results leave a device: through Greengrass, straight to an MQTT broker, or onto standard output.

A link never keeps a result: it was taken when `publish` returns, and else stays in the spool.
"""

import logging
import os
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from castline.edge.settings import Mqtt
from castline.errors import CastlineError, ConfigError, optional_import

__all__ = ["GreengrassLink", "Link", "LinkDown", "MqttLink", "NotAllowed", "PrintLink", "TokenRefused"]

_log = logging.getLogger(__name__)


class LinkDown(CastlineError):
    """It cannot be delivered now; later it can."""


class TokenRefused(LinkDown):
    """The nucleus does not know this program: it was started by somebody else, or by a nucleus before this one."""


class NotAllowed(CastlineError):
    """It will not be delivered to this topic however often it is tried, until somebody allows it."""


class Link(Protocol):
    """Where results go: `publish` is for the cloud, `local` for other programs on the device."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Deliver; taken by the other side when it returns. Raises: LinkDown, NotAllowed."""

    def local(self, topic: str, payload: bytes) -> None:
        """Tell the other programs of the device. Raises: LinkDown, NotAllowed."""

    def state(self, state: str) -> None:
        """Say RUNNING or ERRORED to whoever looks after this program. Never fails."""

    def close(self) -> None: ...


class PrintLink:
    """Results on standard output, one a line."""

    def publish(self, topic: str, payload: bytes) -> None:
        try:
            sys.stdout.buffer.write(payload + b"\n")
            sys.stdout.buffer.flush()
        except OSError as error:
            raise LinkDown(f"standard output: {error.strerror}") from error

    def local(self, topic: str, payload: bytes) -> None:
        """There is nobody else here."""

    def state(self, state: str) -> None: ...

    def close(self) -> None: ...


class GreengrassLink:
    """The nucleus, classic or lite, over its Unix socket: results, configuration and state.

    Connects when it is first used, and again after the nucleus went away. timeout: of each call, seconds.

    Raises: ConfigError when the program was not started by Greengrass, MissingExtra without awsiotsdk.
    """

    _SOCKET, _TOKEN = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT", "SVCUID"

    def __init__(self, timeout: float = 10.0) -> None:
        for name in (self._SOCKET, self._TOKEN):
            if not os.environ.get(name):
                raise ConfigError(
                    f"{name} is not set: this program was not started by Greengrass",
                    "elsewhere, give it a configuration: --config FILE",
                )
        self._ipc = optional_import("awsiot.greengrasscoreipc", "greengrass")
        self._v2 = optional_import("awsiot.greengrasscoreipc.clientv2", "greengrass")
        self._model = optional_import("awsiot.greengrasscoreipc.model", "greengrass")
        self._rpc = optional_import("awsiot.eventstreamrpc", "greengrass")
        self._timeout = timeout
        self._mutex = threading.Lock()
        self._client: Any = None
        self._gone = threading.Event()
        self._changed: Callable[[], None] | None = None
        self._subscription: Any = None

    def publish(self, topic: str, payload: bytes) -> None:
        """To IoT Core, QoS 1. The nucleus has taken it when it returns, and has a queue of its own for the way on."""
        self._call(
            f"publishing to IoT Core, topic {topic}",
            lambda client: client.publish_to_iot_core_async(
                topic_name=topic, qos=self._model.QOS.AT_LEAST_ONCE, payload=payload
            ),
        )

    def local(self, topic: str, payload: bytes) -> None:
        """To the device's other components that subscribe to `topic`."""
        message = self._model.PublishMessage(binary_message=self._model.BinaryMessage(message=payload))
        self._call(
            f"local publishing, topic {topic}",
            lambda client: client.publish_to_topic_async(topic=topic, publish_message=message),
        )

    def configuration(self) -> Mapping[str, Any]:
        """The whole configuration of this component.

        Raises: LinkDown, of it TokenRefused; NotAllowed.
        """
        answer = self._call("reading the configuration", lambda client: client.get_configuration_async(key_path=[]))
        return dict(answer.value or {})

    def on_configuration(self, changed: Callable[[], None]) -> None:
        """Have `changed` called, on a thread of the client's, whenever the configuration may be another.

        It must not ask for the configuration itself, but have that done elsewhere: the call would wait for its own
        thread. After a lost connection it is called, too, since nobody knows what changed meanwhile.

        Raises: LinkDown.
        """
        self._changed = changed
        with self._mutex:
            connected = self._client is not None and not self._gone.is_set()
            if connected:
                self._subscribe(self._client, changed)
        if not connected:
            self._connected()

    def state(self, state: str) -> None:
        """Tell the nucleus RUNNING or ERRORED."""
        try:
            self._call(f"telling the nucleus {state}", lambda client: client.update_state_async(state=state))
        except CastlineError as error:
            _log.warning("%s", error)

    def close(self) -> None:
        with self._mutex:
            self._drop()

    def _call(self, doing: str, call: Callable[[Any], "Future[Any]"]) -> Any:
        client = self._connected()
        try:
            return call(client).result(self._timeout)
        except self._model.UnauthorizedError as error:
            raise NotAllowed(
                f"{doing}: the nucleus does not allow it ({error.message or 'unauthorized'})",
                "name the topic in accessControl of the component's configuration, and deploy that",
            ) from error
        except self._model.InvalidArgumentsError as error:
            raise NotAllowed(f"{doing}: the nucleus refuses it ({error.message})") from error
        except TimeoutError as error:
            self._gone.set()
            raise LinkDown(f"{doing}: the nucleus does not answer within {self._timeout:g} s") from error
        except Exception as error:  # awscrt raises many: closed connections and streams, service errors, ...
            if not isinstance(error, self._model.GreengrassCoreIPCError):
                self._gone.set()  # not an answer
            raise LinkDown(f"{doing}: {_said(error)}") from error

    def _connected(self) -> Any:
        """The client, connected. Raises: LinkDown."""
        with self._mutex:
            if self._client is not None and not self._gone.is_set():
                return self._client
            self._drop()
            gone, changed = threading.Event(), self._changed

            class Handler(self._rpc.LifecycleHandler):  # type: ignore[name-defined, misc]
                def on_disconnect(self, reason: Exception | None) -> None:
                    gone.set()
                    if changed is not None:  # who reads the configuration again, connects again
                        changed()

            path = os.environ[self._SOCKET]
            try:
                client = self._v2.GreengrassCoreIPCClientV2(
                    self._ipc.connect(lifecycle_handler=Handler(), timeout=self._timeout)
                )
            except Exception as error:
                # A nucleus that hangs up at once leaves the client no time to read why.
                if isinstance(error, self._rpc.AccessDeniedError) or "SOCKET_CLOSED" in str(error):
                    raise TokenRefused(
                        f"{path}: the nucleus does not take this component's token ({self._TOKEN})",
                        "let Greengrass start the program: it hands out a token each time",
                    ) from error
                raise LinkDown(f"{path}: no connection to the nucleus ({_said(error)})") from error
            self._client, self._gone = client, gone
            if self._changed is not None:
                try:
                    self._subscribe(client, self._changed)
                except CastlineError:
                    self._gone.set()
                    raise
                self._changed()
            return client

    def _subscribe(self, client: Any, changed: Callable[[], None]) -> None:
        try:
            answer, self._subscription = client.subscribe_to_configuration_update_async(
                key_path=[], on_stream_event=lambda event: changed(), on_stream_error=lambda error: True
            )
            answer.result(self._timeout)
        except self._model.GreengrassCoreIPCError as error:  # results can go out all the same
            _log.warning("subscribing to the configuration: %s", _said(error))
        except Exception as error:
            raise LinkDown(f"subscribing to the configuration: {_said(error)}") from error

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close(executor_wait=False)
        self._client = None


class MqttLink:
    """An MQTT broker, such as AWS IoT Core: 3.1.1 over TLS 1.2 or later, both sides with certificates, QoS 1.

    Connects in the background, again and again, from the first `publish` on: a broker throws out whoever has the same
    client_id, so one link has to be closed before the next one is used. One result is on its way at a time, so that
    their order holds. timeout: until the broker has to say that it has a result, seconds.

    Raises: ConfigError for certificates that cannot be used, MissingExtra without paho-mqtt.
    """

    def __init__(self, settings: Mqtt, client_id: str, timeout: float = 10.0, longest: int = 120) -> None:
        paho = optional_import("paho.mqtt.client", "mqtt")
        self._timeout = timeout
        self._where = f"{settings.host}:{settings.port}"
        self._why = "not connected yet"
        self._up = threading.Event()
        self._waiting: tuple[str, bytes, Any] | None = None
        self._client: Any = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=settings.client_id or client_id, protocol=paho.MQTTv311
        )
        self._client.tls_set_context(_tls(settings))
        self._client.reconnect_delay_set(1, longest)
        self._client.max_queued_messages_set(8)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.connect_async(settings.host, settings.port, keepalive=30)  # says where; nothing is sent yet
        self._mutex = threading.Lock()
        self._begun = self._closed = False

    def publish(self, topic: str, payload: bytes) -> None:
        """QoS 1: the broker has it when it returns."""
        with self._mutex:
            if self._closed:
                raise LinkDown(f"{self._where}: closed")
            if not self._begun:
                self._begun = True
                self._client.loop_start()
        if not self._up.wait(min(2.0, self._timeout)):
            raise LinkDown(f"{self._where}: {self._why}")
        if self._waiting is None or self._waiting[:2] != (topic, payload):
            self._waiting = topic, payload, self._client.publish(topic, payload, qos=1)
        # Else it is in the client's hands already, which sends it again by itself.
        sent = self._waiting[2]
        until = time.monotonic() + self._timeout
        try:
            while not (sent.is_published() or self._closed or time.monotonic() > until):
                sent.wait_for_publish(min(0.2, self._timeout))
        except (ValueError, RuntimeError) as error:
            self._waiting = None
            raise LinkDown(f"{self._where}: {error}") from error
        if not sent.is_published():
            raise LinkDown(f"{self._where}: no acknowledgement within {self._timeout:g} s")
        self._waiting = None

    def local(self, topic: str, payload: bytes) -> None:
        """There is no local pub/sub without Greengrass."""

    def state(self, state: str) -> None: ...

    def close(self) -> None:
        """The broker has been told when it returns, so that another link may take the name."""
        with self._mutex:
            self._closed = True
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._why = f"the broker refuses: {reason}"
            _log.warning("%s: %s", self._where, self._why)
        else:
            self._up.set()

    def _on_connect_fail(self, client: Any, data: Any) -> None:
        error = sys.exc_info()[1]  # paho calls this while it handles the error
        why = f"no connection ({_said(error) if error else 'unknown'})"
        if why != self._why:
            _log.warning("%s: %s", self._where, why)
        self._why = why

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._up.clear()
        self._why = f"disconnected ({reason})"


def _tls(settings: Mqtt) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the certificate and the host's name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path, what in ((settings.ca, "ca"), (settings.cert, "cert"), (settings.key, "key")):
        try:
            path.open("rb").close()
        except OSError as error:
            raise ConfigError(f"Mqtt.{what} is {path}: {error.strerror}", "it takes a PEM file") from error
    try:
        context.load_verify_locations(settings.ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"Mqtt.ca is {settings.ca}: no certificates in it ({_said(error)})") from error
    try:
        # A password would be asked for at a terminal, which a device has not.
        context.load_cert_chain(settings.cert, settings.key, password="")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"Mqtt.cert is {settings.cert}, Mqtt.key is {settings.key}: they do not fit together ({_said(error)})",
            "they take a certificate and its own key, without a password, as PEM files",
        ) from error
    return context


def _said(error: BaseException) -> str:
    return getattr(error, "message", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__

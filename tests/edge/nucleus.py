"""A double of the Greengrass nucleus: the IPC that awsiotsdk's own client speaks, over a Unix socket.

A message is: total length, length of headers, CRC-32 of these; headers; payload; CRC-32 of all. A header is a name, its
type (4: int32, 7: text) and value. Source: the constants of awscrt.eventstream.rpc, eventstream-rpc 0.1.0.
"""

import base64
import io
import json
import secrets
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

_SERVICE = "aws.greengrass#"
_MESSAGE, _ERROR, _PING, _PING_RESPONSE, _CONNECT, _CONNECT_ACK = range(6)
_ACCEPTED, _END = 1, 2  # flags


class Denied(Exception):
    """Not in accessControl."""


@dataclass
class Nucleus:
    """A nucleus with one component.

    configuration: of the component. iot, local: topics that it may publish to. token: that it must show. After `with`,
    published: (iot or local, topic, payload) in the order of arrival; states: what it said of itself.
    cut_after: lose the connection instead of answering, after so many publications; failing: answer them with a
    ServiceError; patient: wait, after a wrong token, until the client has hung up.
    """

    configuration: dict[str, Any] = field(default_factory=dict)
    iot: set[str] = field(default_factory=set)
    local: set[str] = field(default_factory=set)
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    cut_after: int | None = None
    failing: bool = False
    patient: bool = True
    published: list[tuple[str, str, bytes]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> "Nucleus":
        self._folder = Path(tempfile.mkdtemp(prefix="gg"))
        self.path = self._folder / "ipc.socket"
        self._open: list[socket.socket] = []
        self._watching: list[Callable[[dict[str, Any]], None]] = []
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._folder.rmdir()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(self.path),
            "SVCUID": self.token,
            "AWS_IOT_THING_NAME": "test-thing",
        }

    def start(self) -> None:
        """Listen, again perhaps."""
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.path))
        self._server.listen(8)
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def end(self) -> None:
        """As a nucleus that is restarted: every connection is lost."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.disconnect()
        self.path.unlink(missing_ok=True)

    def disconnect(self) -> None:
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()
        self._watching.clear()

    def configure(self, **values: Any) -> None:
        """A deployment that changes the configuration."""
        self.configuration.update(values)
        for push in list(self._watching):
            push({"configurationUpdateEvent": {"componentName": "test", "keyPath": list(values)}})

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        mutex = threading.Lock()

        def send(kind: int, flags: int, stream: int, body: Any = None, model: str = "") -> None:
            headers: dict[str, int | str] = {":message-type": kind, ":message-flags": flags, ":stream-id": stream}
            if body is not None:
                headers |= {":content-type": "application/json", "service-model-type": _SERVICE + model}
            with mutex:
                connection.sendall(_encoded(headers, b"" if body is None else json.dumps(body).encode()))

        with suppress(EOFError, OSError), connection, connection.makefile("rb") as file:
            headers, payload = _decoded(file)
            known = headers[":message-type"] == _CONNECT and json.loads(payload or b"{}").get("authToken") == self.token
            send(_CONNECT_ACK, _ACCEPTED if known else 0, 0)
            self.connections += known
            if not known and self.patient:
                file.read()
            while known:
                headers, payload = _decoded(file)
                stream = headers[":stream-id"]
                if headers[":message-type"] == _PING:
                    send(_PING_RESPONSE, 0, 0)
                if "operation" not in headers:
                    continue
                operation = headers["operation"].removeprefix(_SERVICE)
                try:
                    answer = self._answer(operation, json.loads(payload or b"{}"))
                except Denied as error:
                    send(_ERROR, _END, stream, {"message": str(error)}, "UnauthorizedError")
                    continue
                except Exception as error:
                    send(_ERROR, _END, stream, {"message": str(error)}, "ServiceError")
                    continue
                if answer is None:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                subscribing = operation.startswith("Subscribe")
                if subscribing:
                    self._watching.append(
                        lambda body, stream=stream: send(_MESSAGE, 0, stream, body, "ConfigurationUpdateEvents")
                    )
                send(_MESSAGE, 0 if subscribing else _END, stream, answer, f"{operation}Response")

    def _answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        match operation:
            case "PublishToIoTCore":
                return self._publish("iot", asked["topicName"], base64.b64decode(asked.get("payload", "")))
            case "PublishToTopic":
                message = asked["publishMessage"]["binaryMessage"]["message"]
                return self._publish("local", asked["topic"], base64.b64decode(message))
            case "GetConfiguration":
                return {"componentName": "test", "value": self.configuration}
            case "UpdateState":
                self.states.append(asked["state"])
                return {}
            case "SubscribeToConfigurationUpdate":
                return {}
        raise NotImplementedError(operation)

    def _publish(self, kind: str, topic: str, payload: bytes) -> dict[str, Any] | None:
        if topic not in (self.iot if kind == "iot" else self.local):
            raise Denied(f"not allowed to publish to {topic}")
        if self.failing:
            raise RuntimeError("the spooler is full")
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after < 0:
                self.cut_after = None
                return None
        self.published.append((kind, topic, payload))
        return {}


def _encoded(headers: dict[str, int | str], payload: bytes) -> bytes:
    packed = b""
    for name, value in headers.items():
        packed += bytes([len(name)]) + name.encode()
        if isinstance(value, int):
            packed += b"\x04" + struct.pack(">i", value)
        else:
            packed += b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    message = prelude + struct.pack(">I", crc32(prelude)) + packed + payload
    return message + struct.pack(">I", crc32(message))


def _decoded(file: io.BufferedReader) -> tuple[dict[str, Any], bytes]:
    def take(size: int) -> bytes:
        data = file.read(size)
        if len(data) != size:
            raise EOFError
        return data

    prelude = take(12)
    total, length, check = struct.unpack(">III", prelude)
    assert crc32(prelude[:8]) == check
    rest = take(total - 12)
    assert crc32(prelude + rest[:-4]) == struct.unpack(">I", rest[-4:])[0]
    packed, headers = io.BytesIO(rest[:length]), {}
    while packed.tell() < length:
        name = packed.read(packed.read(1)[0]).decode()
        match packed.read(1)[0]:
            case 4:
                headers[name] = struct.unpack(">i", packed.read(4))[0]
            case 7:
                headers[name] = packed.read(struct.unpack(">H", packed.read(2))[0]).decode()
            case kind:
                raise ValueError(f"header type {kind}")
    return headers, rest[length:-4]

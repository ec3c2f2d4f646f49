"""A double of S3 on loopback, for what no real server here can be made to do: to stop, or to stand still, midway.

It is written from AWS's description of Signature Version 4 and shares no code with botocore, which DVC signs with: two
independent accounts of the signature have to agree. It keeps objects in memory, counts what passes, and knows the part
of S3 that DVC uses; it answers anything else with 501 NotImplemented.
"""

import hashlib
import hmac
import re
import socket
import threading
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

ACCESS_KEY, SECRET_KEY, REGION, BUCKET = "AKIACASTLINE", "not/a+secret", "eu-central-1", "castline"
_BLOCK = 64 * 1024


class Refused(Exception):
    """An error that S3 has a name for."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class S3Double(ThreadingHTTPServer):
    """Serves one bucket, empty at first. `objects` are its keys and bytes; `moved` counts what came and went."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, objects: dict[str, bytes] | None = None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.objects = {} if objects is None else objects
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.moved: Counter[str] = Counter()  # objects and bytes of their contents, up and down
        self.refused: Counter[str] = Counter()  # by S3's name of the error
        self.lock = threading.Lock()
        self.reached = threading.Event()  # set when `limit` bytes have passed
        self.limit: int | None = None
        self.then = "stop"
        self._release = threading.Event()
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def after(self, size: int, then: str) -> None:
        """Once `size` more bytes of contents have passed: "stop", as if switched off, or "stall", as if hung."""
        self.limit, self.then = self.total() + size, then
        self.reached.clear()

    def total(self) -> int:
        return self.moved["bytes up"] + self.moved["bytes down"]

    def passed(self, direction: str, size: int) -> None:
        """Count bytes of contents, and do what was asked for when the limit is reached."""
        with self.lock:
            self.moved[f"bytes {direction}"] += size
            over = self.limit is not None and self.total() >= self.limit
        if over:
            self.reached.set()
            if self.then == "stop":
                self._switch_off()
                raise ConnectionAbortedError
            self._release.wait()
            raise ConnectionAbortedError

    def _switch_off(self) -> None:
        self.socket.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "S3Double":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._release.set()
        self.shutdown()
        self._switch_off()
        self._thread.join()
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: S3Double

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do(self) -> None:
        parts = urlsplit(self.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        _, self.bucket, *key = unquote(parts.path).split("/", 2)
        self.key = key[0] if key else ""
        try:
            body = self._body()
            self._check_signature(parts.path, parts.query, body)
            self._answer(body)
        except Refused as error:
            self.server.refused[error.code] += 1
            self._send(f"<Error><Code>{error.code}</Code><Message>{error.code}</Message></Error>", error.status)
        except OSError:
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do  # noqa: N815 (http.server asks for these names)

    def _body(self) -> bytes:
        """All of the body. One that ends early raises: half of an object is never stored."""
        left, blocks = int(self.headers.get("Content-Length", 0)), []
        while left:
            block = self.rfile.read1(min(left, _BLOCK))
            if not block:
                raise ConnectionAbortedError
            left -= len(block)
            blocks.append(block)
            if self.command == "PUT" and self.key:
                self.server.passed("up", len(block))
        return b"".join(blocks)

    def _check_signature(self, path: str, query: str, body: bytes) -> None:
        """Compute the signature anew. docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html"""
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?"
            r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})",
            self.headers.get("Authorization", ""),
        )
        if not found:
            raise Refused(403, "AccessDenied")
        access_key, day, region, names, signature = found.groups()
        if access_key != ACCESS_KEY:
            raise Refused(403, "InvalidAccessKeyId")
        content = self.headers.get("x-amz-content-sha256", "")
        if not re.fullmatch(r"[0-9a-f]{64}", content):  # unsigned and streamed payloads: no client of ours sends them
            raise Refused(501, "NotImplemented")
        pairs = sorted((_encode(name), _encode(value)) for name, value in parse_qsl(query, keep_blank_values=True))
        canonical = "\n".join(
            [
                self.command,
                path,
                "&".join(f"{name}={value}" for name, value in pairs),
                *(f"{name}:{' '.join(self.headers.get(name, '').split())}" for name in names.split(";")),
                "",
                names,
                content,
            ]
        )
        scope = f"{day}/{region}/s3/aws4_request"
        stamp = self.headers.get("x-amz-date", "")
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{SECRET_KEY}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        must_sign = {"host", "x-amz-content-sha256", "x-amz-date"}
        right = hmac.digest(key, to_sign.encode(), "sha256").hex()
        if not must_sign <= set(names.split(";")) or not hmac.compare_digest(right, signature):
            raise Refused(403, "SignatureDoesNotMatch")
        if hashlib.sha256(body).hexdigest() != content:
            raise Refused(400, "XAmzContentSHA256Mismatch")

    def _answer(self, body: bytes) -> None:
        if self.bucket != BUCKET:
            raise Refused(404, "NoSuchBucket")
        asked = (
            self.command,
            bool(self.key),
            *sorted({"uploads", "uploadId", "delete", "list-type"} & set(self.query)),
        )
        match asked:
            case ("HEAD", False):
                self._send("")
            case ("GET", False, "list-type"):
                self._list()
            case ("POST", False, "delete"):
                keys = [node.text or "" for node in ElementTree.fromstring(body).iter() if node.tag.endswith("Key")]
                for key in keys:
                    self.server.objects.pop(key, None)
                self._send("<DeleteResult/>")
            case ("HEAD" | "GET", True):
                self._get()
            case ("PUT", True):
                self._put(body)
            case ("DELETE", True):
                self.server.objects.pop(self.key, None)
                self._send("", 204)
            case ("POST", True, "uploads"):
                name = f"upload{len(self.server.uploads)}"
                self.server.uploads[name] = {}
                self._send(
                    f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
                )
            case ("PUT", True, "uploadId"):
                self.server.uploads[self.query["uploadId"]][int(self.query["partNumber"])] = body
                self._send("", etag=_etag(body))
            case ("POST", True, "uploadId"):
                parts = self.server.uploads.pop(self.query["uploadId"])
                self._store(b"".join(parts[number] for number in sorted(parts)))
                self._send("<CompleteMultipartUploadResult><ETag>done</ETag></CompleteMultipartUploadResult>")
            case ("DELETE", True, "uploadId"):
                self.server.uploads.pop(self.query["uploadId"], None)
                self._send("", 204)
            case _:
                raise Refused(501, "NotImplemented")

    def _put(self, body: bytes) -> None:
        if "x-amz-copy-source" in self.headers:
            raise Refused(501, "NotImplemented")
        self._store(body)
        self._send("", etag=_etag(body))

    def _store(self, body: bytes) -> None:
        with self.server.lock:
            self.server.objects[self.key] = body
            self.server.moved["objects up"] += 1

    def _get(self) -> None:
        try:
            body = self.server.objects[self.key]
        except KeyError:
            raise Refused(404, "NoSuchKey") from None
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        part = body[int(span[1]) : int(span[2]) + 1 if span[2] else None] if span else body
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(part)))
        if span:
            self.send_header("Content-Range", f"bytes {span[1]}-{int(span[1]) + len(part) - 1}/{len(body)}")
        self.send_header("ETag", _etag(body))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if self.command == "HEAD":
            return
        with self.server.lock:
            self.server.moved["objects down"] += not span or span[1] == "0"
        for start in range(0, len(part), _BLOCK):
            block = part[start : start + _BLOCK]
            self.server.passed("down", len(block))
            self.wfile.write(block)

    def _list(self) -> None:
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
        after, size = self.query.get("continuation-token", ""), int(self.query.get("max-keys", 1000))
        rows: dict[str, str] = {}
        for key in sorted(self.server.objects):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if key.startswith(prefix) and found:
                folder = prefix + head + delimiter
                rows[folder] = f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            elif key.startswith(prefix):
                length = len(self.server.objects[key])
                rows[key] = (
                    f"<Contents><Key>{escape(key)}</Key><Size>{length}</Size><ETag>{_etag(self.server.objects[key])}"
                    "</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        names = [name for name in sorted(rows) if name > after]
        more = len(names) > size
        self._send(
            f"<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"<KeyCount>{len(names[:size])}</KeyCount>"
            + (f"<NextContinuationToken>{escape(names[size - 1])}</NextContinuationToken>" if more else "")
            + "".join(rows[name] for name in names[:size])
            + "</ListBucketResult>"
        )

    def _send(self, xml: str, status: int = 200, etag: str = "") -> None:
        body = xml.encode() if self.command != "HEAD" else b""
        self.send_response(status)
        if etag:
            self.send_header("ETag", etag)
        if self.command == "HEAD" and not self.key:
            self.send_header("x-amz-bucket-region", REGION)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/xml")
        self.end_headers()
        self.wfile.write(body)


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'  # S3's own choice; it protects nothing here

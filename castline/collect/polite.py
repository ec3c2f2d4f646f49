"""HTTP with manners: one request at a time, not too often, again after a pause where one is asked for, no redirects.

Source: MediaWiki, "API:Etiquette" and "Manual:Maxlag parameter"; Wikimedia's User-Agent policy and robot policy.
"""

import email.utils
import json
import random
import re
import time
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from castline import __version__
from castline.errors import CastlineError, ConfigError, optional_import
from castline.photos.decode import Rejected

if TYPE_CHECKING:
    import requests

__all__ = ["Polite", "Refused", "origin_of"]

T = TypeVar("T")
_CONTACT = re.compile(r"[!-~]+@[!-~]+\.[!-~]+|https?://[!-~]+")
_BLOCK = 1 << 16
_JSON_LIMIT = 32 << 20  # a person of whom much is known fills about a megabyte
_DEADLINE = 300.0  # seconds for one answer, however slowly it drips
_PATIENCE = 300.0  # seconds; whoever asks to be left alone for longer is left alone
_FAILURES = 5  # in a row, each tried several times: then something else is wrong
_AGAIN = (429, 500, 502, 503, 504)
_BUSY = re.compile(r"maxlag|ratelimited|readonly|cirrussearch-(too-busy|backend)-error|internal_api_error.*")


class Refused(CastlineError):
    """The server does not want to be asked any more, or cannot answer."""


class _Again(Exception):
    """May work a little later. after: seconds that the server asks for. limit: it counts requests, and has its fill."""

    def __init__(self, why: str, after: float = 0.0, limit: bool = False) -> None:
        super().__init__(why)
        self.after, self.limit = after, limit


@dataclass
class Polite:
    """A client that asks `origins` alone, such as https://commons.wikimedia.org.

    contact: an e-mail address or a URL, by which whoever runs the server can reach whoever runs this. interval: seconds
    from one request to the next. tries: of one request. timeout: seconds without a byte. sleep: waits so many seconds.
    """

    contact: str
    origins: Collection[str]
    interval: float = 1.0
    tries: int = 5
    timeout: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    _failures: int = field(default=0, init=False)
    _next: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if not _CONTACT.fullmatch(self.contact) or len(self.contact) > 200:
            raise ConfigError(
                f"{self.contact!r} is neither an e-mail address nor a URL",
                "--contact you@example.org: by which the server's owners can reach you, as they ask for",
            )

    @cached_property
    def _session(self) -> "requests.Session":
        library = optional_import("requests", "pipeline")
        session: requests.Session = library.Session()
        agent = f"castline-bot/{__version__} ({self.contact}) python-requests/{library.__version__}"
        session.headers.update({"User-Agent": agent, "Accept-Encoding": "gzip"})
        return session

    def ask(self, api: str, **params: str) -> dict[str, Any]:
        """What a MediaWiki API answers to a query.

        Raises: Rejected when it has no answer to this one; Refused.
        """
        query = {**params, "format": "json", "formatversion": "2", "maxlag": "5"}
        return self._get(api, query, ("application/json",), _JSON_LIMIT, _answer_of)

    def fetch(self, url: str, types: Collection[str], limit: int) -> bytes:
        """A file of at most `limit` bytes and one of the media types.

        Raises: Rejected when it is not to be had; Refused.
        """
        return self._get(url, {}, types, limit, lambda data, _: data)

    def _get(
        self,
        url: str,
        params: Mapping[str, str],
        types: Collection[str],
        limit: int,
        read: Callable[[bytes, float], T],
    ) -> T:
        if origin_of(url) not in self.origins:
            raise Rejected("other_host", f"{origin_of(url) or url!r} is none of {', '.join(sorted(self.origins))}")
        why = _Again("")
        for number in range(self.tries):
            if number:
                self.sleep(max(why.after, min(2.0**number, 60.0) * random.uniform(1, 1.5)))  # noqa: S311 (no secret)
            try:
                found = self._once(url, params, types, limit, read)
            except _Again as again:
                why = again
                if why.after > _PATIENCE:
                    break
            else:
                self._failures = 0
                return found
        self._failures += 1
        if why.limit or why.after > _PATIENCE or self._failures >= _FAILURES:
            pause = f" and asks for {why.after:.0f} seconds of rest" if why.after else ""
            raise Refused(f"{origin_of(url)} does not answer: {why}{pause}", "run it again later: it goes on from here")
        raise Rejected("no_answer", f"{why}, {self.tries} times")

    def _once(
        self,
        url: str,
        params: Mapping[str, str],
        types: Collection[str],
        limit: int,
        read: Callable[[bytes, float], T],
    ) -> T:
        import requests

        pause = self._next - time.monotonic()
        if pause > 0:
            self.sleep(pause)
        self._next = time.monotonic() + self.interval
        try:
            with self._session.get(
                url, params=params, stream=True, timeout=self.timeout, allow_redirects=False
            ) as answer:
                after = _seconds(answer.headers.get("Retry-After", ""))
                self._check(answer, after, types, limit)
                return read(_body(answer, limit), after)
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ContentDecodingError,
        ) as error:
            raise _Again(f"{type(error).__name__}: {_short(error)}") from error
        except (requests.RequestException, UnicodeError) as error:
            raise Rejected("bad_url", f"{type(error).__name__}: {_short(error)}") from error

    def _check(self, answer: "requests.Response", after: float, types: Collection[str], limit: int) -> None:
        code, host = answer.status_code, origin_of(answer.url)
        if code in _AGAIN:
            raise _Again(f"{code} {answer.reason}", after, code == 429)
        if code in (401, 403):
            raise Refused(
                f"{host} refuses: {code} {answer.reason}",
                "look whether --contact reaches you, and at the host's rules; then run it again: it goes on from here",
            )
        if 300 <= code < 400:
            raise Rejected("redirect", f"to {origin_of(answer.headers.get('Location', '')) or 'elsewhere'}")
        if code != 200:
            raise Rejected("not_there", f"{code} {answer.reason}")
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind not in types:
            raise Rejected("wrong_type", f"{kind or 'no type'}, not {', '.join(types)}")
        size = answer.headers.get("Content-Length", "")
        if size.isdecimal() and int(size) > limit:
            raise Rejected("file_too_large", f"{size} bytes, at most {limit} are taken")


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL; "" where it has none, or a password.

    >>> origin_of("https://upload.wikimedia.org/a/b.jpg"), origin_of("https://me:pw@x.org/"), origin_of("/a")
    ('https://upload.wikimedia.org', '', '')
    """
    try:
        parts = urllib.parse.urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.lower()}" if parts.hostname and "@" not in parts.netloc else ""
    except ValueError:
        return ""


def _answer_of(data: bytes, after: float) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _Again(f"not JSON: {_short(error)}") from error
    if not isinstance(answer, dict):
        raise _Again("not the API's JSON")
    said = answer.get("error")
    if said is not None:
        code, info = (str(said.get(key, "")) for key in ("code", "info")) if isinstance(said, dict) else ("", "")
        if _BUSY.fullmatch(code):
            raise _Again(f"{code}: {info[:200]}", max(after, 5.0), code == "ratelimited")
        raise Rejected("api_error", f"{code}: {info[:200]}")
    return answer


def _body(answer: "requests.Response", limit: int) -> bytes:
    parts, size, end = [], 0, time.monotonic() + _DEADLINE
    for part in answer.iter_content(_BLOCK):
        size += len(part)
        if size > limit:
            raise Rejected("file_too_large", f"more than {limit} bytes")
        if time.monotonic() > end:
            raise _Again(f"no end after {_DEADLINE:.0f} seconds")
        parts.append(part)
    return b"".join(parts)


def _seconds(header: str) -> float:
    """Of a Retry-After: a number, or the time when."""
    if re.fullmatch(r"\d{1,9}", header.strip()):
        return float(header)
    try:
        when = email.utils.parsedate_to_datetime(header)
        return max(0.0, (when - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _short(error: Exception) -> str:
    return str(error)[:200]

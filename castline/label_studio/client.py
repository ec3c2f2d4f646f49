"""Label Studio's HTTP API: two kinds of token, patience with a server that fails, and an error one can act on.

Source: Label Studio 1.23.2's own routes; its SDK is not used, since its pins fit nobody else's.
"""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from castline.errors import CastlineError
from castline.label_studio import server
from castline.text import shown

__all__ = ["TOKEN", "Client", "connect"]

TOKEN = "CASTLINE_LABEL_TOKEN"  # noqa: S105 (a variable's name)
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")
_TIMEOUT = (10.0, 300.0)  # seconds to connect, and without a byte: an export of many tasks is made before it is sent
_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before asking again


def connect(url: str | None = None, variable: str = TOKEN) -> "Client":
    """The server at `url`, with the token in the environment's `variable`; None: this project's own, which must run.

    Raises: CastlineError when there is no server or no token, or they do not fit each other.
    """
    if url is None:
        url, token = server.running(), server.credentials().token
        if url is None:
            raise CastlineError(
                "this project's Label Studio does not run",
                "castline label start, in another terminal; or --url URL for a server of your team's",
            )
    else:
        token = os.environ.get(variable, "").strip()
        if not token:
            raise CastlineError(
                f"{variable} is not set", f"{variable}=TOKEN: Label Studio shows yours under Account & Settings"
            )
        if urlsplit(url).scheme == "http" and urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1"):
            print("warning: over http the token and what people say travel readably; https hides them", file=sys.stderr)
    client = Client(url, token)
    client.get("/api/current-user/whoami")
    return client


class Client:
    """One server, as one user."""

    def __init__(self, url: str, token: str) -> None:
        """url: http or https, with a path where the server has one. token: a personal access token, or a legacy one.

        Raises: CastlineError when the URL is none.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise CastlineError(f"{shown(url)!r} is no server's URL", "such as --url https://labels.example.org")
        self.url = url.rstrip("/")
        self._token = token
        self._session = requests.Session()
        # An object, not a header: else requests prefers what ~/.netrc says of the host.
        self._auth = _Bearer() if _JWT.fullmatch(token) else _Legacy(token)
        self._answered = False

    def get(self, path: str, **params: object) -> Any:
        """What the server has there. Asked again where it fails for the moment."""
        return self._ask("GET", path, params)

    def post(self, path: str, body: Any, **params: object) -> Any:
        """Make something. Never asked twice, since it might then be there twice."""
        return self._ask("POST", path, params, body)

    def patch(self, path: str, body: Any) -> Any:
        """Change something. Asked again where the server fails: the second time changes nothing more."""
        return self._ask("PATCH", path, {}, body)

    def pages(self, path: str, **params: object) -> Iterator[Any]:
        """What a list has, page after page: `results` or `tasks`, until there are as many as it says, or none."""
        seen = 0
        for page in range(1, 1_000_000):
            answer = self.get(path, page=page, page_size=500, **params)
            found = answer.get("results", answer.get("tasks")) if isinstance(answer, Mapping) else None
            total = answer.get("count", answer.get("total")) if isinstance(answer, Mapping) else None
            if not isinstance(found, list) or not isinstance(total, int):
                raise self._foreign(path)
            yield from found
            seen += len(found)
            if seen >= total or not found:
                return

    def _ask(self, method: str, path: str, params: Mapping[str, object], body: Any = None) -> Any:
        renewed, again = False, method != "POST"
        for pause in (*_PAUSES, None):
            try:
                answer = self._sent(method, path, params, body)
                if answer.status_code == 401 and isinstance(self._auth, _Bearer) and not renewed:
                    renewed = True  # an access token lasts for minutes, the one that renews it for months
                    self._renew()
                    answer = self._sent(method, path, params, body)
            except requests.RequestException as error:
                # One that never answered most likely does not run; one that did may be about to again.
                if (
                    again
                    and pause is not None
                    and self._answered
                    and not isinstance(error, requests.exceptions.SSLError)
                ):
                    time.sleep(pause)
                    continue
                raise self._unreachable(error) from error
            self._answered = True
            if again and pause is not None and (answer.status_code >= 500 or answer.status_code == 429):
                time.sleep(pause)
                continue
            return self._read(method, path, answer)
        raise AssertionError  # the last round always returns or raises

    def _sent(self, method: str, path: str, params: Mapping[str, object], body: Any) -> requests.Response:
        # No redirects: the token goes to this host alone.
        return self._session.request(
            method,
            self.url + path,
            params={key: str(value) for key, value in params.items()},
            json=body,
            auth=self._auth,
            timeout=_TIMEOUT,
            allow_redirects=False,
        )

    def _renew(self) -> None:
        answer = self._session.post(
            f"{self.url}/api/token/refresh/",
            json={"refresh": self._token},
            auth=_Bearer(),
            timeout=_TIMEOUT,
            allow_redirects=False,
        )
        try:
            access = answer.json()["access"] if answer.ok else ""
        except (ValueError, KeyError, TypeError):
            access = ""
        if not isinstance(access, str) or not access:
            raise self._refused(answer.status_code)
        self._auth = _Bearer(access)

    def _read(self, method: str, path: str, answer: requests.Response) -> Any:
        status = answer.status_code
        if answer.ok and not answer.is_redirect:
            try:
                return answer.json() if answer.content else None
            except ValueError as error:
                raise self._foreign(path) from error
        if answer.is_redirect:
            raise CastlineError(
                f"{self.url} sends on to another address", "--url: the one where Label Studio itself is"
            )
        if status == 403 and "reserved network address" in answer.text:
            raise CastlineError(f"{self.url} asks no address of that network")
        if status == 401 or (status == 403 and "token" in answer.text.lower()):
            raise self._refused(status)
        if status == 403:
            raise CastlineError(f"{self.url}: this token's user may not {method} {path}", "ask who runs the server")
        said = shown(answer.text[:600].replace(self._token, "…"))
        if status == 404:
            raise CastlineError(
                f"{self.url}{path}: not there (404)", "is it a Label Studio, and does it have the project?"
            )
        if status >= 500 or status == 429:
            raise CastlineError(
                f"{self.url}: the server failed ({status}) at {method} {path}",
                "look into its log; then run this again: what is done stays done",
            )
        raise CastlineError(f"{self.url}: refused ({status}) {method} {path}: {said}")

    def _refused(self, status: int) -> CastlineError:
        return CastlineError(
            f"{self.url}: the token is not accepted ({status})",
            "take a new one from Account & Settings there; legacy tokens may be switched off for the organisation",
        )

    def _foreign(self, path: str) -> CastlineError:
        return CastlineError(f"{self.url}{path}: not what Label Studio answers", "is there a Label Studio at this URL?")

    def _unreachable(self, error: requests.RequestException) -> CastlineError:
        if isinstance(error, requests.exceptions.SSLError):
            return CastlineError(
                f"{self.url}: its certificate cannot be verified",
                "REQUESTS_CA_BUNDLE=FILE names the certificates of your team's authority",
            )
        if isinstance(error, requests.Timeout):
            return CastlineError(f"{self.url}: no answer in time", "look whether it is busy; then run this again")
        return CastlineError(
            f"{self.url}: no answer ({type(error).__name__})", "does it run there? castline label start runs your own"
        )


class _Legacy(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Token {self._token}"
        return request


class _Bearer(AuthBase):
    def __init__(self, access: str = "") -> None:
        self._access = access

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._access:
            request.headers["Authorization"] = f"Bearer {self._access}"
        return request

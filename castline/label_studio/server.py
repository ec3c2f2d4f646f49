"""Label Studio's server for this project: started and stopped here, on loopback, with nothing phoning home.

.castline/label-studio/
    credentials.json      login name, password and token, made at the first start; for this user's eyes only
    server.json           where it runs, while it does
    server.log            what it said since it was started
    served/               what it may read photos from: links to data/ and build/label
    label_studio.sqlite3  projects, tasks, annotations
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path

from castline.environments import clean
from castline.errors import CastlineError
from castline.label_studio.environment import LABEL_STUDIO, database
from castline.servers import Server, check_free

__all__ = ["CREDENTIALS", "SERVED", "Credentials", "credentials", "running", "start"]

_HOME = Path(".castline/label-studio")
CREDENTIALS = _HOME / "credentials.json"
SERVED = _HOME / "served"
_STATE, _LOG, _LOCK = _HOME / "server.json", _HOME / "server.log", _HOME / "server.lock"
_DATABASE = _HOME / "label_studio.sqlite3"
_LINKS = ("data", "build/label")
_SERVER = Server("Label Studio", _LOG, _STATE)
# What Label Studio 1.23 asks no address of (core/utils/io.py, validate_ip), but this machine itself, where a model may
# answer. A backend elsewhere is let in by a list of one's own in this variable.
_BANNED = "LABEL_STUDIO_USER_ADDITIONAL_BANNED_SUBNETS"
_ALL_BUT_LOOPBACK = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
    "233.252.0.0/24", "240.0.0.0/4", "255.255.255.255/32", "::/128", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96",
    "64:ff9b:1::/48", "100::/64", "2001:0000::/32", "2001:20::/28", "2001:db8::/32", "2002::/16", "fc00::/7",
    "fe80::/10", "ff00::/8",
)  # fmt: skip
_NOWHERE = "http://127.0.0.1:9"  # nothing listens on the discard port


@dataclass(frozen=True)
class Credentials:
    """Who the server's first user is. token: of the older kind, 40 hex digits."""

    username: str
    password: str
    token: str


def credentials() -> Credentials:
    """The first user of this project's server.

    Raises: CastlineError when there are none, or they cannot be read.
    """
    try:
        return Credentials(**json.loads(CREDENTIALS.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise CastlineError(f"{CREDENTIALS}: not there, Label Studio never ran here", "castline label start") from error
    except (OSError, TypeError, ValueError) as error:
        wrong = f"{CREDENTIALS}: cannot be read ({type(error).__name__})"
        raise CastlineError(wrong, f"put it back, or move {_HOME} aside to begin anew") from error


def running() -> str | None:
    """The address of this project's server if it runs."""
    with contextlib.suppress(FileNotFoundError), _LOCK.open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _SERVER.url()
    return None


def start(port: int = 8090, host: str = "127.0.0.1", allow_backend: bool = False) -> None:
    """Run the server until it is interrupted; return at once if it runs already. Says on stdout where it is.

    allow_backend: lets it ask a model (castline label backend) on this machine. That takes a part of its protection
    away: whoever may set up a project can then make it send requests to other services on this machine.

    Raises: CastlineError when it cannot be installed, the port is taken, or it does not come up.
    """
    made = LABEL_STUDIO.made()
    _HOME.mkdir(parents=True, exist_ok=True)
    _HOME.chmod(0o700)
    with _LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Label Studio runs already: {running() or 'it is starting'}")
            return
        check_free(host, port, "castline label start")
        _prepare()
        url = f"http://{_written('127.0.0.1' if _is_wildcard(host) else host)}:{port}"
        command: list[Path | str] = [made / "bin" / "python", made / "bin" / "label-studio", "start", "--no-browser"]
        command += ["--internal-host", host, "--port", str(port)]
        with _SERVER.running(command, _variables(url, host, allow_backend), lock.fileno()) as server:
            _SERVER.wait(server, "127.0.0.1" if _is_wildcard(host) else host, port)
            _STATE.write_text(json.dumps({"url": url}), encoding="utf-8")
            print(f"Label Studio: {url}\nlog in as {credentials().username}; the password is in {CREDENTIALS}")
            if not _is_loopback(host):
                print("it can be reached from other machines, unencrypted: docs/labelling.md says what follows")
            print("next: castline label push --batch NAME\nCtrl-C stops it", flush=True)
            _SERVER.outlast(server)


def _prepare() -> None:
    """Credentials, the database and the folder of links, each made if it is not there."""
    if not CREDENTIALS.exists():
        if _DATABASE.exists():
            raise CastlineError(
                f"{CREDENTIALS} is gone, and {_DATABASE} knows its password only as a hash",
                f"put it back, or move {_HOME} aside to begin anew; labels that were pulled are in labels/",
            )
        made = Credentials("castline@localhost", secrets.token_urlsafe(15), secrets.token_hex(20))
        # Whole or not at all, and never readable by others, not even for a moment.
        unfinished = CREDENTIALS.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(made), file, indent=1)
        unfinished.replace(CREDENTIALS)
    credentials()
    if not _DATABASE.exists():
        # Migrating an empty one takes a minute, so that is done once for all projects.
        unfinished = _DATABASE.with_suffix(".part")
        shutil.copyfile(database(), unfinished)
        unfinished.chmod(0o600)
        unfinished.replace(_DATABASE)
    # Anybody who may log in can make the server read any folder below its document root. So that is not the project's
    # folder, where the credentials are, but one that leads to the photos alone.
    for name in _LINKS:
        link = SERVED / name
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(name).absolute(), target_is_directory=True)
        elif link.readlink() != Path(name).absolute():  # the project was moved
            link.unlink()
            link.symlink_to(Path(name).absolute(), target_is_directory=True)


def _variables(url: str, host: str, allow_backend: bool) -> dict[str, str]:
    first = credentials()
    settings = {
        "BASE_DATA_DIR": str(_HOME.absolute()),
        "DATABASE_NAME": str(_DATABASE.absolute()),
        "DJANGO_DB": "sqlite",
        "DEBUG": "false",
        "HOST": "" if _is_wildcard(host) else url,
        "USERNAME": first.username,
        "PASSWORD": first.password,
        "USER_TOKEN": first.token,
        "ENABLE_LEGACY_API_TOKEN": "true",
        "DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LOCAL_FILES_SERVING_ENABLED": "true",
        "LOCAL_FILES_DOCUMENT_ROOT": str(SERVED.absolute()),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "CORS_ALLOW_ALL_ORIGINS": "false",
    }
    if _is_loopback(host):  # a page that names its own address 127.0.0.1 gets no answer
        settings["ALLOWED_HOSTS"] = "127.0.0.1,localhost,[::1]"
    if allow_backend:
        # Not ML_BLOCK_LOCAL_IP=false, which would let a backend be anywhere, whatever the list says.
        settings["USE_DEFAULT_BANNED_SUBNETS"] = "false"
        settings["USER_ADDITIONAL_BANNED_SUBNETS"] = os.environ.get(_BANNED) or ",".join(_ALL_BUT_LOOPBACK)
    # What would still call out (the tips of its start page, from GitHub) finds a proxy that is not there.
    shut = {"https_proxy": _NOWHERE, "HTTPS_PROXY": _NOWHERE}
    if not (allow_backend and os.environ.get(_BANNED)):
        here = "127.0.0.1,localhost,::1" if allow_backend else ""
        shut |= {"http_proxy": _NOWHERE, "no_proxy": here, "NO_PROXY": here}
    # LABEL_STUDIO_X counts before HEARTEX_X and X, which may be there for another purpose.
    return clean() | {f"LABEL_STUDIO_{name}": value for name, value in settings.items()} | shut


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 (asked for, not bound to)


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host

"""`python -m castline.edge`: the program as Greengrass starts it, or, with --config FILE, anywhere."""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from castline.edge.links import GreengrassLink, Link, LinkDown, MqttLink, PrintLink, TokenRefused
from castline.edge.model import open_model
from castline.edge.program import Program
from castline.edge.remembered import keep, last_good
from castline.edge.settings import Settings, parse, read_file
from castline.edge.store import Event, Store
from castline.errors import ConfigError, exits_cleanly
from castline.text import shown

__all__ = ["main", "run"]

_log = logging.getLogger(__name__)


def run(config: Path | None, work: Path, once: bool = False, release: Path | None = None) -> int:
    """Run the program until it is told to end (SIGTERM, SIGINT).

    config: a JSON file, watched for changes; results go to its Mqtt, or to standard output. None: Greengrass has the
    configuration and takes the results. work: a folder for spool and state. once: end when the source has been read.
    release: a zip to bring into the store first; refused or not, the store's current release is run.

    Returns 0, or 1 when it broke. Raises: CastlineError when it cannot begin.
    """
    _log_to_stderr()
    device = os.environ.get("AWS_IOT_THING_NAME") or socket.gethostname()
    greengrass = GreengrassLink() if config is None else None
    file = config or Path()

    def read() -> Mapping[str, Any]:
        return greengrass.configuration() if greengrass is not None else read_file(file)

    def link_of(settings: Settings) -> Link:
        if greengrass is not None:
            return greengrass
        return PrintLink() if settings.mqtt is None else MqttLink(settings.mqtt, device)

    def tell(event: Event) -> None:
        program.event(**event.described())

    def releases_of(settings: Settings) -> Store | None:
        return Store(Path(settings.store_path), tell=tell, ending=ending) if settings.store_path else None

    def end(*_: object) -> None:
        ending.set()
        program.stop()

    ending = threading.Event()
    values, settings = _begin(read, work)
    if settings.mqtt is not None and settings.mqtt.client_id:
        device = settings.mqtt.client_id
    if release is not None and not settings.store_path:
        raise ConfigError("--install, but no StorePath is configured", "name the folder that releases are kept in")
    program = Program(settings, read, link_of, open_model, work, device, once, releases_of, release)
    if greengrass is None:
        _watch(file, program.configuration_changed)
    else:
        try:
            greengrass.on_configuration(program.configuration_changed)
        except LinkDown as error:
            _log.warning("%s", error)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    keep(work, values)
    return program.run()


def _begin(read: Callable[[], Mapping[str, Any]], work: Path) -> tuple[Mapping[str, Any], Settings]:
    """The configuration to begin with: as it is now or, when that is wrong or out of reach, the last good one."""
    try:
        values = read()
        settings, notes = parse(values)
    except TokenRefused:
        raise
    except (ConfigError, LinkDown) as error:
        try:
            values = last_good(work)
            settings, notes = parse(values)
        except ConfigError:
            raise error from None
        _log.warning("%s: the last good configuration is used", error)
    for note in notes:
        _log.warning("configuration: %s", note)
    return values, settings


def _watch(path: Path, changed: Callable[[], None]) -> None:
    """Call `changed` when a file changes, for as long as the program lives."""

    def stamp() -> tuple[int, int, int] | None:
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def look() -> None:
        before = stamp()
        while True:
            pause.wait(1.0)
            if (found := stamp()) != before:
                before = found
                changed()

    pause = threading.Event()  # never set: a daemon ends with the program
    threading.Thread(target=look, name="watch", daemon=True).start()


class _OneLine(logging.Formatter):
    """Names of files may hold anything; each message stays the line that it is. Tracebacks are our own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = " ".join(shown(line.strip()) for line in record.message.split("\n"))
        return super().formatMessage(record)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger("castline").handlers[:] = [handler]
    logging.getLogger("castline").setLevel(logging.INFO)


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; ends the interpreter."""
    parser = argparse.ArgumentParser(prog="python -m castline.edge", description=__doc__)
    parser.add_argument("--config", type=Path, help="a JSON file instead of Greengrass's configuration")
    parser.add_argument("--work", type=Path, default=Path("edge-work"), help="a folder for spool and state")
    parser.add_argument("--once", action="store_true", help="end when the source has been read and all is delivered")
    parser.add_argument("--install", type=Path, metavar="ZIP", help="a release to bring into the store first")
    given = parser.parse_args(arguments)
    sys.exit(run(given.config, given.work, given.once, given.install))


if __name__ == "__main__":
    main()

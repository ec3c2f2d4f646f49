"""The self-test of a release in a process of its own, where a crash or a hang of the interpreter does no harm."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from castline.errors import ReleaseError

__all__ = ["self_tested"]

_TIMEOUT = 120.0  # seconds, from starting Python to the last comparison
_POLL = 0.2  # seconds until somebody who is told to end notices
# Sent by whoever ends a whole group of processes, as systemd does, and by nothing that a release can do.
_FROM_OUTSIDE = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def self_tested(folder: Path, ending: threading.Event | None = None) -> None:
    """Run the self-test of an unpacked release.

    ending: set when this program is told to end; the test is then ended, too.

    Raises: ReleaseError with the reason; InterruptedError when it could not be run to its end, which says nothing about
    the release.
    """
    # The second number ends it if this process is killed while it waits.
    command = [sys.executable, "-m", "castline.edge.golden", str(folder), str(round(2 * _TIMEOUT))]
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            out, err = _said(process, ending or threading.Event())
        except BaseException:
            process.kill()
            raise
    code = process.returncode
    if -code in _FROM_OUTSIDE:
        raise _interrupted()
    if code < 0:
        raise ReleaseError(f"self-test: ended by signal {-code} ({signal.strsignal(-code)})")
    if code:
        last = (out.strip() or err.strip()).splitlines()[-1:] or [f"exit code {code}"]
        raise ReleaseError(f"self-test: {last[0][:500]}")


def _said(process: "subprocess.Popen[str]", ending: threading.Event) -> tuple[str, str]:
    """What the test wrote until it ended."""
    until = time.monotonic() + _TIMEOUT
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=_POLL)
        if ending.is_set():
            raise _interrupted()
        if time.monotonic() > until:
            raise ReleaseError(f"self-test: no answer in {_TIMEOUT:g} s")


def _interrupted() -> InterruptedError:
    return InterruptedError(errno.EINTR, "told to end during the self-test; the release is tested again next time")

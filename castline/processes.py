"""Commands of DVC's as children: in a session of their own, so that they can be stopped with all that they started."""

import os
import signal
import subprocess

__all__ = ["stop"]


def stop(child: "subprocess.Popen[bytes]") -> None:
    """Let DVC and its stage end as on Ctrl-C; after 30 seconds, make them.

    child: the first process of a session (`start_new_session=True`).
    """
    os.killpg(child.pid, signal.SIGINT)
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()

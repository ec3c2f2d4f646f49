"""What a command costs, by the operating system's account of it."""

import os
import subprocess
import sys
import time
from pathlib import Path


def environment() -> dict[str, str]:
    """Programs of this environment first on the PATH, as `make` has it; and Python keeps what it compiled, as it does
    unless it is told not to."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def account(command: list[str], log: Path, folder: Path | None = None) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds, and the peak megabytes of the largest process. What it prints goes into `log`."""
    start = time.perf_counter()
    with log.open("w") as output:
        child = subprocess.Popen(command, cwd=folder, env=environment(), stdout=output, stderr=output)
        _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(command)}: exit {child.returncode}\n{log.read_text()[-3000:]}")
    kilobytes = used.ru_maxrss if sys.platform != "darwin" else used.ru_maxrss / 1024
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, kilobytes / 1024

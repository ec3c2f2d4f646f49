"""The app as a visitor has it: `castline app` in a project, and Chromium in front of it."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, sync_playwright
from projects import ROOT, environment

# Nothing but the page: no updates, no sync, no first run.
_OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic",
)  # fmt: skip
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def served(folder: Path, *options: str) -> Iterator[str]:
    """`castline app` in `folder`; the address. It has to end when it is told to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from castline.cli import main; sys.argv[0] = 'castline'; main()"
    command = [sys.executable, "-P", "-c", code, "app", "--port", str(port), *options]
    variables = {**environment(), "PYTHONPATH": str(ROOT)}
    log = folder / "app.log"
    with (
        log.open("w") as file,
        subprocess.Popen(command, cwd=folder, env=variables, stdout=file, stderr=file) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 60
            while True:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                try:
                    if requests.get(f"{url}/_stcore/health", timeout=5).text == "ok":
                        break
                except requests.ConnectionError:
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(30)
    assert "Traceback" not in log.read_text(), log.read_text()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium of the system, or the one that Playwright has fetched; skips, saying why, where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=[*_OPTIONS])
        except Error as error:
            pytest.skip(f"no Chromium: apt-get install chromium, or playwright install chromium ({error})")
        try:
            yield browser
        finally:
            browser.close()


def serious(page: Page) -> list[dict[str, Any]]:
    """What axe finds on the page that is serious or critical, in short."""
    found = Axe().run(page).response["violations"]
    return [
        {"rule": one["id"], "where": [node["html"][:200] for node in one["nodes"]][:3]}
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def settled(page: Page) -> None:
    """Until the script that makes the page has ended."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=60_000)

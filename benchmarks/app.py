"""How quick the app is.

    python benchmarks/app.py models/recognizer
    python benchmarks/app.py models/recognizer --only video

picture: a group photo of 12 megapixels, made of the sample's scenes. From its bytes to the names of everybody in it:
cold, in the first process that is started; then warm, the median of some others of the size.
video: the sample's clip, likewise from its bytes.
page: `castline app`, in Chromium: the time to open the first page, first by the first visitor of the server, then the
median of others; and the time from giving such a group photo to the names on the page.
sessions: memory of the server and its processes, before anybody is there and with ten visitors, each with a group photo
of their own on the page.

Rows are appended to a CSV beside this file.
"""

import argparse
import io
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import requests
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Page, sync_playwright
from record import command_line, record

from castline.app.limits import Limits
from castline.app.models import Model, open_model
from castline.app.serve import command
from castline.app.settings import AppSettings
from castline.app.work import Job, Workers
from castline.text import table

ROOT = Path(__file__).parents[1]
REPEATS, SESSIONS = 5, 10
SIZE = (4000, 3000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a released model")
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "app.csv", help="rows are appended")
    options = parser.parse_args()
    model = open_model("workspace", options.bundle)
    rows: list[tuple[str, str, str, object]] = []
    for part in options.only:
        rows += [("app", part, measure, value) for measure, value in PARTS[part](model)]
    print(table([("", "measure", "value"), *((name, measure, str(value)) for _, name, measure, value in rows)], {2}))
    record(options.csv, command_line(options.bundle), rows)


def picture(model: Model) -> Iterator[tuple[str, object]]:
    """Bytes to names."""
    photos = [group_photo(number) for number in range(REPEATS + 1)]
    took, inside, faces = [], [], []
    with closing(Workers(Limits())) as workers:
        for data in photos:
            start = time.perf_counter()
            seen = ended(workers.picture(data, model))
            names = [model.cast.name(face.raw) for face in seen.faces]
            took.append(time.perf_counter() - start)
            inside.append(seen.seconds)
            faces.append(len(names))
    yield "megapixels", SIZE[0] * SIZE[1] / 1e6
    yield "file_mb", round(median(len(data) for data in photos) / 1e6, 1)
    yield "faces", median(faces[1:])
    yield "cold_s", round(took[0], 2)
    yield "warm_s", round(median(took[1:]), 2)
    yield "of_which_looking_s", round(median(inside[1:]), 2)


def video(model: Model) -> Iterator[tuple[str, object]]:
    """Bytes to appearances."""
    data = (ROOT / "sample/clip.mp4").read_bytes()
    took = []
    with closing(Workers(Limits())) as workers:
        for number in range(REPEATS + 1):
            start = time.perf_counter()
            seen = ended(workers.video(data + bytes([number]), model, model.cast))  # what follows its end is no matter
            took.append(time.perf_counter() - start)
    yield "seconds", seen.length
    yield "appearances", len(seen.appearances)
    yield "cold_s", round(took[0], 2)
    yield "warm_s", round(median(took[1:]), 2)
    yield "times_real_time", round(seen.length / median(took[1:]), 1)


def page(model: Model) -> Iterator[tuple[str, object]]:
    """Opening, and giving a photo."""
    opened, named = [], []
    with served(model) as (url, _), chromium() as browser:
        for number in range(REPEATS + 1):
            start = time.perf_counter()
            visit = visited(browser, url)
            opened.append(time.perf_counter() - start)
            start = time.perf_counter()
            give(visit, group_photo(number))
            named.append(time.perf_counter() - start)
            visit.context.close()
    yield "first_opened_s", round(opened[0], 2)
    yield "opened_s", round(median(opened[1:]), 2)
    yield "first_named_s", round(named[0], 2)
    yield "named_s", round(median(named[1:]), 2)


def sessions(model: Model) -> Iterator[tuple[str, object]]:
    """Memory, in megabytes: resident, summed over the server and its processes."""
    with served(model) as (url, server), chromium() as browser:

        def memory() -> list[float]:
            return [one.memory_info().rss / 1e6 for one in (server, *server.children(recursive=True))]

        visited(browser, url).context.close()
        before = memory()
        yield "before_mb", round(sum(before))
        for number in range(SESSIONS):
            give(visited(browser, url), group_photo(number))
        after = memory()
        yield "sessions", SESSIONS
        yield "with_sessions_mb", round(sum(after))
        yield "of_which_server_mb", round(after[0])


PARTS = {"picture": picture, "video": video, "page": page, "sessions": sessions}


@contextmanager
def served(model: Model) -> Iterator[tuple[str, psutil.Process]]:
    """The app on a port of its own: its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = command(AppSettings(str(model.folder)), "127.0.0.1", port, open_browser=False)
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            while True:
                try:
                    requests.get(f"{url}/_stcore/health", timeout=5)
                    break
                except requests.ConnectionError:
                    time.sleep(0.1)
            yield url, psutil.Process(process.pid)
        finally:
            process.terminate()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium of the system, or the one that Playwright has fetched."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


def visited(browser: Browser, url: str) -> Page:
    """The first page, opened by somebody new."""
    visit = browser.new_context().new_page()
    visit.set_default_timeout(60_000)
    visit.goto(url)
    visit.get_by_text("Pictures and videos").first.wait_for()
    return visit


def give(visit: Page, photo: bytes) -> None:
    """A photo, until its faces are named on the page."""
    file = {"name": "group.jpg", "mimeType": "image/jpeg", "buffer": photo}
    visit.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]
    visit.get_by_role("button", name="Face 1:").first.wait_for()


def group_photo(first: int) -> bytes:
    """Four of the sample's scenes side by side, as JPEG."""
    scenes = sorted((ROOT / "sample" / "scenes").glob("*.jpg"))
    quarter = SIZE[0] // 2, SIZE[1] // 2
    photo, file = Image.new("RGB", SIZE), io.BytesIO()
    for place in range(4):
        with Image.open(scenes[(first + place) % len(scenes)]) as scene:
            photo.paste(ImageOps.fit(scene, quarter), (place % 2 * quarter[0], place // 2 * quarter[1]))
    photo.save(file, "JPEG", quality=90 - first // len(scenes))
    return file.getvalue()


def ended(job: Job) -> Any:
    """What was seen."""
    job.wait()
    if job.result is None:
        raise SystemExit(job.error)
    return job.result


if __name__ == "__main__":
    main()

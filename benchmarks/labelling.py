"""Label Studio with 1,000 photos: how long it takes to install, to start, and to bring a batch in and out.

    python benchmarks/labelling.py WORK              # WORK: a folder to make photos and a project in
    python benchmarks/labelling.py WORK --install    # installs it once more, into a folder below WORK: 1 GB

The photos are those of sample/photos, moved by a few pixels and compressed again. Every one gets an answer before the
last pull. Seconds are of a clock, so what else runs on the machine counts. Prints a table and appends to a CSV beside
this file, with machine, versions and command.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

from PIL import Image, ImageChops
from record import command_line, record

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from projects import environment, make_project  # noqa: E402

from castline.label_studio.client import Client  # noqa: E402
from castline.label_studio.environment import VERSION  # noqa: E402
from castline.label_studio.projects import find  # noqa: E402
from castline.label_studio.server import CREDENTIALS  # noqa: E402

BATCH = "pile"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("--photos", type=int, default=1000, help="how many")
    parser.add_argument("--port", type=int, default=8095)
    parser.add_argument("--install", action="store_true", help="measure the installation, too")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "labelling.csv", help="rows are appended")
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if options.install:
        os.environ["CASTLINE_CACHE"] = str(work / "cache")
    folder, pile = make_project(work / "project"), work / "photos"
    (folder / "data.dvc").unlink()
    make_photos(pile, options.photos)
    took: dict[str, float] = {}

    @contextmanager
    def measured(step: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        took[step] = time.monotonic() - started
        print(f"{step:<46}{took[step]:8.1f} s", flush=True)

    if options.install:
        with measured("install"):
            run(folder, "-c", "from castline.label_studio.environment import LABEL_STUDIO; LABEL_STUDIO.made()")
        with measured("empty database"):
            run(folder, "-c", "from castline.label_studio.environment import database; database()")
    castline(folder, "data", "use", str(pile), "--batch", BATCH)
    with measured("faces"):
        run(folder, "-m", "dvc", "repro", "-q", f"faces@{BATCH}")
    for step in ("first start", "later start"):
        with measured(step):
            server = start(folder, options.port)
        if step == "first start":
            stop(server)
    try:
        for step in ("push", "push of the same again"):
            with measured(step):
                castline(folder, "label", "push", "--batch", BATCH)
        with measured("pull without answers"):
            castline(folder, "label", "pull", "--batch", BATCH)
        with measured("answers by the API, one after the other"):
            answer(Client(f"http://127.0.0.1:{options.port}", json.loads((folder / CREDENTIALS).read_text())["token"]))
        for step in ("pull", "pull of the same again"):
            with measured(step):
                castline(folder, "label", "pull", "--batch", BATCH)
    finally:
        stop(server)
    size = (folder / "labels" / "batches" / f"{BATCH}.json").stat().st_size
    print(f"labels/batches/{BATCH}.json: {size:,} bytes")
    kind, name = f"label-studio {VERSION}", f"{options.photos} photos"
    rows: list[tuple[str, str, str, object]] = [(kind, name, f"{step}, s", round(s, 1)) for step, s in took.items()]
    record(options.csv, command_line(work), [*rows, (kind, name, "labels file, bytes", size)])


def make_photos(folder: Path, count: int) -> None:
    """Each has other bytes; none lies in a person's folder."""
    if folder.is_dir():
        return
    folder.mkdir(parents=True)
    sources = cycle(sorted((ROOT / "sample" / "photos").rglob("*.jpg")))
    for number, source in zip(range(count), sources, strict=False):
        with Image.open(source) as photo:
            moved = ImageChops.offset(photo.convert("RGB"), number % 7, number // 7 % 5)
        moved.save(folder / f"{number:05}.jpg", quality=85 + number % 10)


def answer(client: Client) -> None:
    """Every box is confirmed, under the first name there is."""
    project = find(client, BATCH)
    assert project is not None  # noqa: S101 (it was just pushed)
    for prediction in client.get("/api/predictions/", project=project.id):
        for region in prediction["result"]:
            region["value"]["rectanglelabels"] = ["unknown_person"]
        client.post(f"/api/tasks/{prediction['task']}/annotations/", {"result": prediction["result"], "lead_time": 1.0})


def start(folder: Path, port: int) -> subprocess.Popen[str]:
    command = [*python("-c", CASTLINE), "label", "start", "--port", str(port)]
    server = subprocess.Popen(command, cwd=folder, env=variables(), stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None  # noqa: S101
    if "http" not in server.stdout.readline():
        sys.exit("it did not start")
    return server


def stop(server: subprocess.Popen[str]) -> None:
    server.send_signal(signal.SIGTERM)
    server.wait()


CASTLINE = "import sys; from castline.cli import main; sys.argv[0] = 'castline'; main()"


def castline(folder: Path, *words: str) -> None:
    run(folder, "-c", CASTLINE, *words)


def run(folder: Path, *words: str) -> None:
    done = subprocess.run(python(*words), cwd=folder, env=variables(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def python(*words: str) -> list[str]:
    return [sys.executable, "-P", *words]  # this clone's code, not the project's copy of it


def variables() -> dict[str, str]:
    return {**environment(), "PYTHONPATH": str(ROOT)}


if __name__ == "__main__":
    main()

"""How fast the program for devices is on one core, and whether it stays so.

    python benchmarks/edge_speed.py models/recognizer                                # float32, float16 and int8
    python benchmarks/edge_speed.py models/recognizer --formats float16 --minutes 10

The bundle is packed for devices, and `python -m castline.edge` looks at every frame of the video: one processor is all
it may use, LiteRT has one thread, results leave by a pipe. start: from starting the process to its first result, the
files being in memory. Steps are means over the frames, of the wall: decoding goes on beside the others on the same
processor, so they may add up to more than a frame takes. rss: the most memory that was resident.

--minutes plays the video over and over for so long, and tells of each minute: frames in a second, memory at its end,
bytes in the spool, and what was skipped and dropped.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import av
from record import command_line, record

from castline.edge.package import pack_release

ROOT = Path(__file__).parents[1]
FORMATS = ("float32", "float16", "int8")
STEPS = ("decode", "detect", "align", "embed", "total")
REPEATS = 5


@dataclass(frozen=True)
class Result:
    """A message of the program's, when it came (seconds since the program was started), and its memory then (MB)."""

    message: dict[str, Any]
    came: float
    rss: float
    peak: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a released model")
    parser.add_argument("--video", type=Path, default=ROOT / "sample/clip.mp4")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--minutes", type=int, default=0, help="play the video for so long instead")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "edge_speed.csv", help="rows are appended")
    options = parser.parse_args()
    rows: list[tuple[str, str, str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        for number, format in enumerate(options.formats):
            work = Path(name, format)
            with zipfile.ZipFile(pack_release(options.bundle, work, format, "0.0.0")) as archive:
                archive.extractall(work / "release")
            measured = minutes(work, options) if options.minutes else speed(work, options.video)
            for line, (which, values) in enumerate(measured):
                if not number and not line:
                    print(f"{'':<20}" + "".join(f"{measure:>16}" for measure in values))
                print(f"{f'{format} {which}':<20}" + "".join(f"{value:>16}" for value in values.values()), flush=True)
                rows += [(f"edge {format}", which, measure, value) for measure, value in values.items()]
    record(options.csv, command_line(options.bundle), rows)


def speed(work: Path, video: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Medians of some runs over the video."""
    runs = []
    for _ in range(REPEATS):
        with program(work, video) as results:
            runs.append(list(results))
    seen = [result.message for run in runs for result in run]
    values: dict[str, object] = {
        "start_s": round(median(run[0].came for run in runs), 2),
        "fps": round(median((len(run) - 1) / (run[-1].came - run[0].came) for run in runs), 1),
    }
    values |= {f"{step}_ms": round(mean(message["latency-ms"][step] for message in seen), 1) for step in STEPS}
    values["faces"] = round(mean(len(message["faces"]) for message in seen), 2)
    values["rss_mb"] = round(median(max(result.peak for result in run) for run in runs), 1)
    yield video.name, values


def minutes(work: Path, options: argparse.Namespace) -> Iterator[tuple[str, dict[str, object]]]:
    """Each minute of a long run. The first begins with the first result."""
    long = looped(options.video, work / "long.mkv", options.minutes * 60 * 100)
    spool = work / "work/spool"
    with program(work, long) as results:
        last = first = next(results)
        minute, frames = 1, 0
        for result in results:
            frames += 1
            if result.came - first.came >= 60 * minute:
                message = result.message
                yield (
                    f"minute {minute}",
                    {
                        "fps": round(frames / (result.came - last.came), 2),
                        "rss_mb": round(result.rss, 1),
                        "spool_bytes": sum(path.stat().st_size for path in spool.glob("*.log")),
                        "frames": message["frame"] + 1,
                        "results": message["sequence"],
                        "skipped": message["skipped"],
                        "dropped": message["dropped"],
                    },
                )
                minute, frames, last = minute + 1, 0, result
                if minute > options.minutes:
                    return
    raise SystemExit(f"the video ended in minute {minute}")


def looped(video: Path, path: Path, frames: int) -> Path:
    """The video's own packets, over and over, `frames` of them or more; nothing is encoded anew."""
    with av.open(video) as source:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        first, last = packets[0], packets[-1]
        length = last.dts + last.duration - first.dts
        with av.open(path, "w") as target:
            added = target.add_stream_from_template(stream)
            stamps = [(packet.pts, packet.dts, packet.duration) for packet in packets]
            for number in range(-(-frames // len(packets))):
                for packet, (pts, dts, duration) in zip(packets, stamps, strict=True):
                    packet.stream, packet.time_base, packet.duration = added, stream.time_base, duration
                    packet.pts, packet.dts = pts + number * length, dts + number * length
                    target.mux(packet)
    return path


@contextmanager
def program(work: Path, video: Path) -> Iterator[Iterator[Result]]:
    """The program, started on one processor, and its results as they come; it is ended when they are left."""
    config = work / "edge.json"
    values = {"Source": f"video:{video}", "Fps": "1000", "Threads": "1", "ModelResourceKey": {"model": "release"}}
    config.write_text(json.dumps(values))
    processor = max(os.sched_getaffinity(0))
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "castline.edge", "--config", config.name, "--work", "work", "--once"],
        cwd=work,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {processor}),
    ) as running:
        pid, lines = running.pid, running.stdout or ()
        try:
            yield (Result(json.loads(line), time.perf_counter() - start, *memory(pid)) for line in lines)
        finally:
            running.terminate()


def memory(pid: int) -> tuple[float, float]:
    """What is resident of a process, and the most that ever was: megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {key: int(value.split()[0]) for key, _, value in (line.partition(":") for line in lines) if "kB" in value}
    return found.get("VmRSS", 0) * 1024 / 1e6, found.get("VmHWM", 0) * 1024 / 1e6  # none of one that has ended


if __name__ == "__main__":
    main()

"""`castline identify` on videos: seconds for a second of video, memory by length, and how exact its times are.

    python benchmarks/video.py CLIP...                      # a built models/recognizer, or --bundle
    python benchmarks/video.py CLIP... --times 1 10 100

Each clip is brought to 854×480 (--size) and repeated, in a temporary folder. Wall and CPU seconds and the peak memory
are the operating system's account of the command, the start of Python included. Where CLIP.json stands beside a clip,
as beside the sample's, people and times are compared with it. Rows are appended to a CSV beside this file.
"""

import argparse
import json
import shlex
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from account import account
from record import record

from castline.text import table

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "recognizer")
    parser.add_argument("--file", default="float32", help="of the bundle")
    parser.add_argument("--fps", type=float, default=12.0)
    parser.add_argument("--size", default="854x480", help="width and height of the frames")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10], help="how often each clip is repeated")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "video.csv", help="rows are appended")
    options = parser.parse_args()
    asked = ["--file", options.file, "--fps", f"{options.fps:g}"]
    width, height = map(int, options.size.split("x"))
    rows = [("clip", "seconds", "frames", "times on screen", "wall s", "CPU s", "× real time", "peak MB")]
    for clip in options.clips:
        command = shlex.join(["python", "benchmarks/video.py", clip.name, *asked, "--size", options.size])
        for times in options.times:
            with tempfile.TemporaryDirectory() as folder:
                long = Path(folder, "clip.mp4")
                repeat(clip, long, times, width, height)
                log = Path(folder, "log")
                identify = ["castline", "identify", str(long), "--json", "--bundle", str(options.bundle), *asked]
                wall, cpu, peak = account(identify, log)
                found = json.loads(log.read_text())[0]
            seconds = found["seconds"]
            name = f"{clip.name} × {times}"
            shown = len(found["appearances"])
            speed, memory = f"{seconds / wall:.1f}", f"{peak:.0f}"
            rows.append(
                (name, f"{seconds:.1f}", str(found["frames"]), str(shown), f"{wall:.1f}", f"{cpu:.1f}", speed, memory)
            )
            values = {
                "seconds": seconds,
                "frames": found["frames"],
                "appearances": shown,
                "wall_s": round(wall, 2),
                "cpu_s": round(cpu, 2),
                "wall_s_per_second": round(wall / seconds, 4),
                "times_real_time": round(seconds / wall, 2),
                "peak_mb": round(peak),
            }
            truth = clip.with_suffix(".json")
            if times == 1 and truth.is_file():
                values |= compared(found["appearances"], json.loads(truth.read_text())["people"])
            record(options.csv, command, [("video", name, measure, value) for measure, value in values.items()])
    print(table(rows, right=range(1, 8)))


def repeat(clip: Path, target: Path, times: int, width: int, height: int) -> None:
    """Write a clip so many times after one another, in another size."""
    count = 0
    with av.open(str(target), "w") as out:
        stream = None
        for _ in range(times):
            with av.open(str(clip)) as source:
                video = source.streams.video[0]
                rate = Fraction(video.average_rate)
                if stream is None:
                    stream = out.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
                    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                for frame in source.decode(video):
                    frame = frame.reformat(width, height, "yuv420p")
                    frame.pts, frame.time_base, count = count, 1 / rate, count + 1
                    out.mux(stream.encode(frame))
        out.mux(stream.encode())


def compared(found: list[dict[str, Any]], truth: list[dict[str, Any]]) -> dict[str, float]:
    """How many of the true times were found, each with its person, and by how many seconds they are off at most."""
    off = []
    for true in truth:
        near = [
            max(abs(seen["start"] - true["start"]), abs(seen["end"] - true["end"]))
            for seen in found
            if seen["name"] == true["person"]
        ]
        off += [min(near)] if near else []
    print(f"{len(off)} of {len(truth)} times found, off by {max(off, default=0):.2f} s at most; {len(found)} in all")
    return {"true_times": len(truth), "found": len(off), "most_off_s": round(max(off, default=0), 3)}


if __name__ == "__main__":
    main()

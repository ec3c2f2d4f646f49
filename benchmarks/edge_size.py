"""What a device has to hold: the artifacts for each format, and what the recipe's install step makes of them.

    python benchmarks/edge_size.py                  # packages come from wherever pip is set up to get them
    python benchmarks/edge_size.py --no-install     # the artifacts alone

The install step of the classic nucleus's recipe is run as it is, in a folder of its own: Python packages, the release
unpacked, tested and made current. Sizes are of files, in megabytes of 10^6 bytes. Prints a table and appends to a CSV.
"""

import argparse
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from record import record

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from edge_device import Device, of_this_python  # noqa: E402

from castline.edge.package import pack_program, pack_release  # noqa: E402

FORMATS = ("float32", "float16", "int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/recognizer")
    parser.add_argument("--no-install", action="store_true", help="leave out what needs packages")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "edge_size.csv", help="rows are appended")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = measure(options, Path(name))
    for kind, what, measured, value in rows:
        print(f"{kind:<10}{what:<22}{measured:<12}{value:>10}")
    record(options.csv, "python benchmarks/edge_size.py" + " --no-install" * options.no_install, rows)


def measure(options: argparse.Namespace, work: Path) -> list[tuple[str, str, str, object]]:
    rows: list[tuple[str, str, str, object]] = []
    packed = {name: pack_release(options.bundle, work / name, name, "0.0.0") for name in FORMATS}
    for name, path in packed.items():
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        rows += [("release", name, "zip_mb", mb(path.stat().st_size)), ("release", name, "unpacked_mb", mb(unpacked))]
    program = pack_program(work)
    rows.append(("program", program.stem, "zip_mb", mb(program.stat().st_size)))
    if not options.no_install:
        device = Device(work / "device", program)
        start = time.perf_counter()
        done = device.step("classic", "install", packed["float16"], of_this_python())
        rows.append(("device", "install", "seconds", round(time.perf_counter() - start, 1)))
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        rows.append(("device", "environment", "files_mb", mb(size(device.python.parents[1]))))
        rows.append(("device", "store", "files_mb", mb(size(device.work / "store"))))
    return rows


def size(folder: Path) -> int:
    """Bytes of the files in a folder, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def mb(size: int) -> float:
    return round(size / 1e6, 3)


if __name__ == "__main__":
    main()

"""Updates of a device's model: how long they take, and what runs after a kill at every step of one.

    python benchmarks/edge_update.py models/recognizer

The bundle is packed in each format for devices. Timed are bringing a release in, of it the self-test in a process of
its own, the same release once more, a start and a rollback: medians on this machine, its disk included. Then an update,
and the rollback after it, are killed by SIGKILL before each of their steps. The table says which version runs
afterwards, once it has passed its self-test again, and what comes of the same update once more. Prints both and appends
to a CSV beside this file, with machine, versions and command.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from record import command_line, record

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from edge_kill import copied, kill, steps  # noqa: E402

from castline.edge.package import pack_release  # noqa: E402
from castline.edge.store import Store  # noqa: E402
from castline.edge.trial import self_tested  # noqa: E402

FORMATS = ("float32", "float16", "int8")
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a released model with all formats")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "edge_update.csv", help="rows are appended")
    options = parser.parse_args()
    rows: list[tuple[str, str, str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        zips = {format: pack_release(options.bundle, work, format, f"{i}.0.0") for i, format in enumerate(FORMATS, 1)}
        print(f"{'':<10}{'MB':>8}{'update s':>10}{'self-test':>11}{'again s':>9}{'start ms':>10}{'rollback ms':>13}")
        for format, path in zips.items():
            before = zips["int8" if format != "int8" else "float16"]
            took = timed(work / "timed", before, path)
            size = path.stat().st_size
            print(
                f"{format:<10}{size / 1e6:>8.2f}{took['update']:>10.2f}{took['self-test']:>11.2f}{took['again']:>9.3f}"
                f"{1000 * took['start']:>10.1f}{1000 * took['rollback']:>13.1f}"
            )
            rows += [("release", format, "bytes", size)]
            rows += [("time", format, f"{measure}_s", f"{seconds:.4f}") for measure, seconds in took.items()]
        print(f"\n{'killed before':<54}{'runs':<8}the same once more")
        for kind, step, runs, once_more in kill_table(work / "killed", zips["float16"], zips["int8"]):
            print(f"{kind:<10}{step:<44}{runs:<8}{once_more}")
            rows += [(f"killed {kind}", step, "runs_afterwards", runs), (f"killed {kind}", step, "again", once_more)]
    record(options.csv, command_line(options.bundle), rows)


def timed(root: Path, old: Path, new: Path) -> dict[str, float]:
    """Median seconds of what an update from the one to the other takes."""
    found: dict[str, list[float]] = {name: [] for name in ("update", "self-test", "again", "start", "rollback")}

    def test(folder: Path) -> None:
        found["self-test"].append(seconds(lambda: self_tested(folder)))

    for _ in range(REPEATS):
        store = Store(prepared(root, old).root, attempts=1, test=test)
        found["update"].append(seconds(lambda store=store: store.install(new)))
        found["again"].append(seconds(lambda store=store: store.install(new)))
        found["start"].append(seconds(store.started))
        found["rollback"].append(seconds(store.started))
    return {name: statistics.median(values) for name, values in found.items()}


def prepared(root: Path, old: Path) -> Store:
    """A store in which a release has run well."""
    shutil.rmtree(root, ignore_errors=True)
    store = Store(root, test=lambda folder: None)
    store.install(old)
    store.started()
    store.healthy()
    return store


def kill_table(root: Path, old: Path, new: Path) -> Iterator[tuple[str, str, str, str]]:
    """For each step: what was done, the step, the version that runs afterwards, and what the update then comes to."""
    begin = prepared(root / "begin", old).root
    store = Store(copied(begin, root / "failing"))
    store.install(new)
    for _ in range(2):
        store.started()
    operations: list[tuple[str, Path, Callable[[Store], object]]] = [
        ("update", begin, lambda store: store.install(new)),
        ("rollback", store.root, Store.started),
    ]
    for kind, before, do in operations:
        store = Store(root / "now")
        names = steps(Store(copied(before, store.root)), do)
        for number, step in enumerate(names):
            copied(before, store.root)
            kill(store, do, number)
            release = store.started()
            self_tested(release.folder)
            outcome = store.install(new)
            yield kind, f"{number + 1:>2} {step}", release.version, outcome.result


def seconds(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

"""How many of the cast are still named when strangers are not: TPIR at chosen FPIRs, of every exported file.

    python benchmarks/open_set.py PHOTOS STRANGERS       # two folders of a folder of photos for each person
    python benchmarks/open_set.py PHOTOS                 # strangers are the people themselves, each held out in turn

A stranger who has the name of one of the cast, however written, is left out. Prints tables and appends to a CSV beside
this file.
"""

import argparse
import json
import re
import shutil
import tempfile
from pathlib import Path

from pipeline import bundle, make_project, run
from record import command_line, record

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("strangers", type=Path, nargs="?")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="Hydra overrides")
    parser.add_argument("--work", type=Path, help="the project's folder; a temporary one if left out")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "open_set.csv", help="rows are appended")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        project = options.work or Path(temporary, "project")
        if not project.exists():
            make_project(project)
            together(options.photos, options.strangers, project.parent / "photos")
            run(project, "castline", "data", "use", str(project.parent / "photos"), "--batch", "photos")
        run(project, "castline", "compose", *options.set)
        run(project, "dvc", "repro")
        report(project, options)


def together(photos: Path, strangers: Path | None, folder: Path) -> None:
    """One batch of both: the cast as it is, the strangers below _strangers."""
    shutil.copytree(photos, folder)
    cast = {written_plainly(path.name) for path in photos.iterdir()}
    left_out = []
    for person in sorted(strangers.iterdir()) if strangers else []:
        if written_plainly(person.name) in cast:
            left_out.append(person.name)
        else:
            shutil.copytree(person, folder / "_strangers" / person.name)
    if left_out:
        print(f"of the cast, so no strangers: {', '.join(left_out)}\n")


def written_plainly(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def report(project: Path, options: argparse.Namespace) -> None:
    metrics = json.loads((project / "reports" / "metrics.json").read_text())
    exported = json.loads((project / "reports" / "export.json").read_text())
    command = command_line(options.photos)
    print(f"$ {command}\n")
    print(f"top-1 {metrics['top1']:.4f} on {metrics['n_test']} test faces", end="")
    if "random_split_top1" in metrics:
        print(f"; {metrics['random_split_top1']:.4f} of {metrics['random_split_faces']} on a random split", end="")
    print(f"\nECE {metrics['ece_before']:.4f} before calibration, {metrics['ece']:.4f} after\n")
    print(f"{'TPIR at FPIR':<16}{'0.1':>8}{'0.01':>8}{'0.001':>8}")
    for by in ("similarity", "confidence"):
        values = [metrics.get(f"tpir_at_fpir_{rate}_by_{by}") for rate in ("0.1", "0.01", "0.001")]
        print(f"by {by:<13}" + "".join(f"{'–' if value is None else format(value, '.4f'):>8}" for value in values))
    print(f"\n{'file':<10}{'top-1':>8}{'TPIR':>8}{'threshold':>11}{'worst':>8}{'ECE':>8}")
    for name, file in exported.items():
        tpir, threshold = file.get("tpir", float("nan")), file.get("threshold", float("nan"))
        print(f"{name:<10}{file['top1']:>8.4f}{tpir:>8.4f}{threshold:>11.4f}{file['worst_person']:>8.4f}", end="")
        print(f"{file['ece']:>8.4f}")
    print(f"\nint8: {json.dumps(bundle(project)['provenance']['int8'])}")
    rows: list[tuple[str, str, str, object]] = [("metric", "pytorch", name, value) for name, value in metrics.items()]
    rows += [("file", name, key, value) for name, file in exported.items() for key, value in file.items()]
    record(options.csv, command, rows)


if __name__ == "__main__":
    main()

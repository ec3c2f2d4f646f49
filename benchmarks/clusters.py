"""How many faces are named by naming a cluster, and how many of them wrongly: clusters held against the folders' names.

    python benchmarks/clusters.py PHOTOS                 # a folder of photos for each person
    python benchmarks/clusters.py PHOTOS --work DIR      # keep the project, and go on from it
    python benchmarks/clusters.py PHOTOS --copies 8      # and how long 8 times as many faces take

All labels are hidden from the clustering. A cluster is named after the folder that most of its faces are from; a face
of another folder is one that the labeller has to say the number of. Folders are taken at their word, so wrong labels of
the collection count as errors here. BCubed (Bagga and Baldwin, 1998): of a face's cluster, the share that is of
the face's person (precision); of the person's faces, the share that is in the face's cluster (recall); each over all
faces. Pairs: of two faces in one cluster, of one person; of two faces of one person, in one cluster.

Prints tables and appends to a CSV beside this file.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pipeline import make_project, run
from record import command_line, record

from castline.curation.choose import centred
from castline.files import tables
from castline.label_studio.faces import SAME_PERSON
from castline.label_studio.linkage import linked
from castline.photos.batches import label_of

ROOT = Path(__file__).parents[1]
MEASURES = (
    "clusters",
    "faces",
    "wrong",
    "people",
    "bcubed_precision",
    "bcubed_recall",
    "pairs_precision",
    "pairs_recall",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--least", type=float, nargs="+", default=[0.35, 0.4, SAME_PERSON, 0.5, 0.55, 0.6])
    parser.add_argument("--min-faces", type=int, default=3)
    parser.add_argument("--copies", type=int, default=0)
    parser.add_argument("--work", type=Path, help="the project's folder; a temporary one if left out")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "clusters.csv", help="rows are appended")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        project = options.work or Path(temporary, "project")
        if not project.exists():
            make_project(project)
            run(project, "castline", "data", "use", str(options.photos.resolve()), "--batch", "photos")
        run(project, "dvc", "repro", "embeddings")
        embedded = tables.read(project / "build/embeddings/photos.parquet")
    labels = [label_of(photo) for photo in embedded.column("photo").to_pylist()]
    named = [i for i, label in enumerate(labels) if label]
    vectors = centred(tables.matrix(embedded, "feature"))[named]
    names = [label.person for label in labels if label]
    _, people = np.unique(names, return_inverse=True)

    command = command_line(options.photos)
    print(f"$ {command}\n")
    print(f"{len(people)} faces of {len(set(names))} people, clusters of {options.min_faces} faces and more\n")
    rows: list[tuple[str, str, str, object]] = []
    similar, same = pairs(vectors, people)
    print("two faces alike by  of two people  of one")
    for least in options.least:
        of_two, of_one = float((similar[~same] >= least).mean()), float((similar[same] >= least).mean())
        print(f"{least:>19g}{of_two:>15.4f}{of_one:>8.4f}")
        rows += [
            ("pairs", f"{least:g}", "alike_of_two", f"{of_two:.4f}"),
            ("pairs", f"{least:g}", "alike_of_one", f"{of_one:.4f}"),
        ]
    print(f"\n{'least':<7}" + "".join(f"{name:>18}" for name in MEASURES))
    for least in options.least:
        found = measured(linked(vectors, least), people, options.min_faces)
        print(f"{least:<7g}" + "".join(f"{found[name]:>18g}" for name in MEASURES))
        rows += [("least", f"{least:g}", name, found[name]) for name in MEASURES]
    print("\nthe largest clusters at the default: faces named, of them wrongly, and people")
    clusters = linked(vectors, SAME_PERSON)
    for count in (10, 20, 40, 60, 80):
        found = measured(clusters[:count], people, options.min_faces)
        print(f"{count:<7}" + "".join(f"{found[name]:>8g}" for name in ("faces", "wrong", "people")))
        rows += [("largest", str(count), name, found[name]) for name in ("faces", "wrong", "people")]
    if options.copies:
        seconds = timed(vectors, options.copies)
        count = options.copies * len(vectors)
        print(f"\n{count} faces: {seconds:.1f} CPU s")
        rows.append(("time", str(count), "cpu_s", f"{seconds:.1f}"))
    record(options.csv, command, rows)


def pairs(vectors: NDArray[np.float32], people: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The cosine of each two faces, and whether they are of one person."""
    upper = np.triu_indices(len(vectors), 1)
    return (vectors @ vectors.T)[upper], (people[:, None] == people)[upper]


def measured(clusters: list[list[int]], people: NDArray[np.intp], min_faces: int) -> dict[str, float]:
    large = [Counter(people[rows].tolist()) for rows in clusters if len(rows) >= min_faces]
    every = [Counter(people[rows].tolist()) for rows in clusters]
    total = Counter(people.tolist())
    named = sum(sum(count.values()) for count in large)
    right = sum(max(count.values()) for count in large)
    precision = sum(n * n / sum(count.values()) for count in every for n in count.values()) / len(people)
    recall = sum(n * n / total[person] for count in every for person, n in count.items()) / len(people)
    together = sum(n * (n - 1) for count in every for n in count.values())
    return {
        "clusters": len(large),
        "faces": named,
        "wrong": named - right,
        "people": len({count.most_common(1)[0][0] for count in large}),
        "bcubed_precision": round(precision, 4),
        "bcubed_recall": round(recall, 4),
        "pairs_precision": round(together / max(1, sum(len(rows) * (len(rows) - 1) for rows in clusters)), 4),
        "pairs_recall": round(together / max(1, sum(n * (n - 1) for n in total.values())), 4),
    }


def timed(vectors: NDArray[np.float32], copies: int) -> float:
    """CPU seconds for so many times the faces, each changed a little, so that no two are equal."""
    noise = np.random.default_rng(0).normal(size=(copies * len(vectors), vectors.shape[1]))
    many = centred(np.float32(np.tile(vectors, (copies, 1)) + 0.05 * noise))
    start = time.process_time()
    linked(many, SAME_PERSON)
    return time.process_time() - start


if __name__ == "__main__":
    main()

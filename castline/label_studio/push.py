"""A batch as a project: a task a photo, the faces that were found as boxes, with names where a model has some."""

import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from castline.curation.settings import CurationSettings
from castline.errors import CastlineError, DataError
from castline.files import params, tables
from castline.files.bundle import read_bundle
from castline.forgetting.register import read_register
from castline.label_studio import server
from castline.label_studio.client import Client
from castline.label_studio.clusters import SHEETS, cluster_tasks
from castline.label_studio.projects import Filled, Project, allow_photos, clusters_of, fill, find, open_again, opened
from castline.label_studio.tasks import below, first_label, photo_address, rectangle
from castline.labels.clusters import CLUSTERS_CONFIG
from castline.labels.export import name_of, read_export
from castline.labels.form import FACES_CONFIG, PERSON, STRANGER, UNNAMED
from castline.labels.gather import COLUMNS, hear
from castline.labels.settings import LabelsSettings
from castline.photos.batches import DataSettings, check_name, label_of, walk
from castline.photos.decode import Rejected, decode, read
from castline.photos.settings import PhotoSettings
from castline.runtime import Name

__all__ = [
    "BUNDLE",
    "Found",
    "Place",
    "Pushed",
    "PushedClusters",
    "ask_again",
    "candidates",
    "faces_of",
    "find_faces",
    "labelled",
    "photo_tasks",
    "push",
    "push_clusters",
]

BUNDLE = Path("models/recognizer")


@dataclass(frozen=True)
class Place:
    """How the server comes to the photos of the project.

    root: its document root, a folder that has the same path there as here; None: of this project's own server.
    """

    root: Path | None = None

    def address(self, path: Path) -> str:
        """What a task says of a photo. Raises: ConfigError when it does not lie below the root."""
        return photo_address(path.as_posix() if self.root is None else below(self.root, path))

    def folder(self, path: Path) -> Path:
        """The folder's path on the server. Raises: ConfigError."""
        if self.root is None:
            return server.SERVED.absolute() / path
        return self.root.resolve() / below(self.root, path)


@dataclass(frozen=True)
class Found:
    """What the faces stage made of a batch: its table, the chips left out; photos without a face; what is no photo."""

    faces: pa.Table
    faceless: Sequence[str]
    unusable: Counter[str]


@dataclass(frozen=True)
class Pushed:
    """filled: what became of the tasks. copies: photos that are byte for byte another one. labels: the faces by where
    the name in their box is from: folder, model, nobody.
    """

    project: Project
    filled: Filled
    copies: int
    labels: Counter[str]


def push(
    client: Client,
    batch: str,
    place: Place,
    overlap: int | None = None,
    only: Sequence[str] | None = None,
    named: Sequence[Name | None] | None = None,
    found: Found | None = None,
) -> Pushed:
    """Bring a batch, or of it the photos `only` (paths below it, the most urgent first), into its project.

    named: what the model says of each row of the face table; None: it is asked here, if there is one.

    Raises: CastlineError.
    """
    found = found or faces_of(batch)
    everybody = candidates()
    if named is None and (BUNDLE / "bundle.json").is_file():
        named = _ask(found.faces, only)
    tasks, copies, labels = photo_tasks(batch, found, place, everybody, named, only)
    project = opened(client, batch, FACES_CONFIG, overlap)
    allow_photos(client, project, place.folder(Path("data", batch)))
    return Pushed(project, fill(client, project, tasks), copies, labels)


@dataclass(frozen=True)
class PushedClusters:
    """filled: what became of the tasks, one a sheet. faces: on all sheets."""

    project: Project
    filled: Filled
    sheets: int
    faces: int


def push_clusters(
    client: Client, batch: str, place: Place, overlap: int | None = None, min_faces: int = 3
) -> PushedClusters:
    """Bring the faces of a batch that nobody has named, and that no model names, into a project of their own, in
    clusters.

    What was said is known as far as it was pulled: sheets of what has a name are removed.

    Raises: CastlineError.
    """
    from castline.label_studio.naming import names

    found, batches = faces_of(batch), params.read("data", DataSettings).read
    find_faces(batches, "embeddings")
    faces = tables.read_many([Path(f"build/faces/{name}.parquet") for name in batches], COLUMNS).to_pylist()
    rejects = tables.read_many([Path(f"build/faces/{name}.rejects.parquet") for name in batches]).to_pylist()
    heard = hear(batches, faces, rejects, params.read("labels", LabelsSettings))
    tasks = cluster_tasks(
        batch,
        batches,
        candidates(),
        labelled(batches),
        names(found.faces, BUNDLE) if (BUNDLE / "bundle.json").is_file() else None,
        settings=params.read("curation", CurationSettings),
        said={key for key, said in heard.said.items() if said.person or said.stranger},
        min_faces=min_faces,
    )
    project = opened(client, clusters_of(batch), CLUSTERS_CONFIG, overlap)
    allow_photos(client, project, place.folder(SHEETS / batch))
    address = place.address(SHEETS / batch)
    for task in tasks:
        task["data"]["image"] = f"{address}/{task['data']['cluster']}.jpg"
    filled = fill(client, project, tasks, lambda data: data.get("cluster"))
    return PushedClusters(project, filled, len(tasks), sum(len(task["data"]["faces"]) for task in tasks))


def ask_again(client: Client, batch: str) -> int:
    """Have photos labelled once more where, by what was pulled, labellers disagree; how many were not yet waiting.

    Raises: CastlineError when the server has no project of the batch; DataError when nothing was pulled yet.
    """
    project = find(client, check_name(batch))
    if project is None:
        raise CastlineError(f"{client.url}: there is no project of {batch}", f"castline label push --batch {batch}")
    if not Path(f"labels/batches/{batch}.json").is_file():
        raise DataError(f"labels/batches/{batch}.json: nothing was pulled yet", f"castline label pull --batch {batch}")
    faces = tables.read(Path(f"build/faces/{batch}.parquet"), COLUMNS).to_pylist()
    rejects = tables.read(Path(f"build/faces/{batch}.rejects.parquet")).to_pylist()
    heard = hear([batch], faces, rejects, params.read("labels", LabelsSettings))
    photos = {f"{batch}/{photo}" for photo in heard.to_label_again(batch)}
    tasks = client.pages("/api/tasks", project=project.id, resolve_uri="false")
    return open_again(client, [task for task in tasks if task["data"].get("photo") in photos])


def find_faces(batches: Iterable[str], stage: str = "faces") -> None:
    """Have DVC bring the face tables of `batches` up to date, or what another stage makes of each; its output is shown.

    Raises: CastlineError.
    """
    variables = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    targets = [f"{stage}@{check_name(batch)}" for batch in batches]
    command = [sys.executable, "-m", "dvc", "repro", *targets]
    # Onto stderr (2): what this command itself says is on stdout.
    done = subprocess.run(command, env=variables, stdout=2, check=False)
    if done.returncode:
        raise CastlineError(f"dvc repro {' '.join(targets)}: failed", "what it said is above")


def faces_of(batch: str) -> Found:
    """A batch's faces, found now if they were not or something changed.

    Raises: CastlineError, also when there is no such batch.
    """
    data = params.read("data", DataSettings)
    if check_name(batch) not in data.batches:
        raise DataError(f"there is no batch {batch!r}; there are: {', '.join(data.batches)}", "castline data add PATH")
    if batch in data.read:
        find_faces([batch])
    faces = tables.read(Path(f"build/faces/{batch}.parquet"))
    rejects = tables.read(Path(f"build/faces/{batch}.rejects.parquet")).to_pylist()
    faceless = [row["photo"] for row in rejects if row["reason"] == "no_face"]
    return Found(faces, faceless, Counter(row["reason"] for row in rejects if row["reason"] != "no_face"))


def candidates() -> list[str]:
    """Whom labellers choose from: everybody who has a folder, is known to the model, or was named by a labeller."""
    names: set[str | None] = set()
    for batch in params.read("data", DataSettings).batches:
        folders = (label_of(entry.name) for entry in walk(Path("data", batch)) if not entry.problem)
        names.update(name_of(label.person) for label in folders if label and not label.stranger)
    if (BUNDLE / "bundle.json").is_file():
        names.update(name_of(person) for person in read_bundle(BUNDLE).people)
    for path in sorted((*Path("labels/batches").glob("*.json"), *Path("labels/clusters").glob("*.json"))):
        for task in read_export(path)[0]:
            for answer in task.annotations:
                names.update(name_of(name) for name in (answer.name, *(box.name for box in answer.boxes)))
    forgotten = read_register().knows
    return sorted(name for name in names if name and name not in (STRANGER, UNNAMED) and not forgotten(name))


def labelled(batches: Iterable[str]) -> set[str]:
    """SHA-256 of the photos of `batches` that somebody has labelled, as far as it was pulled.

    Raises: DataError when a labels file is none.
    """
    paths = [Path(f"labels/batches/{batch}.json") for batch in batches]
    return {task.sha256 for path in paths if path.is_file() for task in read_export(path)[0]}


def photo_tasks(
    batch: str,
    found: Found,
    place: Place,
    people: Sequence[str],
    named: Sequence[Name | None] | None = None,
    only: Collection[str] | None = None,
) -> tuple[list[dict[str, Any]], int, Counter[str]]:
    """Tasks by the photo's path, or in the order of `only`; how many photos are copies of another; faces by whose word
    their boxes have: of the folder (a lone face's), of the model, or of nobody.

    named: for each row of the face table, or None where nothing is known of it.
    """
    columns = ["photo", "face", "photo_sha256", "photo_width", "photo_height", "box"]
    by_photo: dict[str, list[tuple[Mapping[str, Any], Name | None]]] = defaultdict(list)
    for i, row in enumerate(found.faces.select(columns).to_pylist()):
        by_photo[row["photo"]].append((row, named[i] if named else None))
    names, offered = [{"value": name} for name in people], set(people)
    order = sorted({*by_photo, *found.faceless}) if only is None else only
    tasks: list[dict[str, Any]] = []
    seen: set[str] = set()
    labels: Counter[str] = Counter()
    for photo in order:
        path = Path("data", batch, photo)
        rows = by_photo.get(photo, [])
        sha256, width, height = _size(rows[0][0]) if rows else _measured(path)
        if sha256 in seen:
            continue
        seen.add(sha256)
        regions, scores = [], []
        for row, name in rows:
            known = name.nearest if name and name.known and name.nearest in offered else ""
            label, word = first_label(photo, known, alone=len(rows) == 1)
            score = name.confidence if name and word == "model" else None
            regions.append(rectangle(row["face"], PERSON, label, row["box"], (width, height), score))
            scores.append(score or 0.0)
            labels[word] += 1
        tasks.append(
            {
                "data": {
                    "image": place.address(path),
                    "photo": f"{batch}/{photo}",
                    "sha256": sha256,
                    "width": width,
                    "height": height,
                    "people": names,
                },
                "predictions": [{"result": regions, "score": round(min(scores), 3)}] if regions else [],
            }
        )
    return tasks, len(order) - len(seen), labels


def _ask(faces: pa.Table, only: Collection[str] | None) -> list[Name | None]:
    """What the model says of the faces that no folder names, by the table's rows."""
    from castline.label_studio.naming import names

    photos = faces.column("photo").to_pylist()
    count, wanted = Counter(photos), set(photos if only is None else only)
    asked = [i for i, photo in enumerate(photos) if photo in wanted and not (count[photo] == 1 and label_of(photo))]
    found: list[Name | None] = [None] * len(photos)
    for i, name in zip(asked, names(faces.take(np.array(asked, np.int64)), BUNDLE), strict=True):
        found[i] = name
    return found


def _size(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["photo_sha256"], row["photo_width"], row["photo_height"]


def _measured(path: Path) -> tuple[str, int, int]:
    """SHA-256, width and height, upright, of a photo that is in no table's row.

    Raises: DataError.
    """
    settings = params.read("photos", PhotoSettings)
    try:
        photo = decode(read(path, settings), settings)
    except Rejected as rejected:
        raise DataError(f"{path}: not the photo it was ({rejected})", "dvc repro") from rejected
    return photo.sha256, photo.width, photo.height

"""`castline forget`: what there is of a person, first to look at, then taken out.

Taken out at once is what people wrote: labels. What stages wrote goes with the next `dvc repro`, because the faces of
each batch that has them are found again without theirs. What is elsewhere is listed: see castline.forgetting.holders.
"""

import csv
import difflib
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from castline import project
from castline.curation.choose import centred
from castline.curation.settings import CurationSettings
from castline.errors import ConfigError, DataError
from castline.files import params, tables
from castline.files.weights import sha256_of
from castline.forgetting.holders import Holder, holders
from castline.forgetting.labels import AUDIT, Edited, Mention, Theirs, edited, label_files, mentions, names_in
from castline.forgetting.register import Face, Register, Spot, normal, read_register
from castline.photos.batches import DataSettings, Entry, label_of, walk
from castline.text import csv_cell, short

__all__ = ["Alike", "Plan", "described", "forget", "look"]

_AUDIT = ["date", "person", "batches", "photos", "faces", "labels", "photos_deleted", "held_elsewhere_by", "reason"]
_BUNDLE = Path("models/recognizer")


@dataclass(frozen=True)
class Alike:
    """A face that nobody is named for and that looks like them. similarity: of centred embeddings, -1 to 1."""

    photo: str
    face: int
    similarity: float


@dataclass(frozen=True)
class Plan:
    """What there is of a person. Nothing of it is done yet.

    register: with them in it; new: whether that says more than the one that is there. photos: BATCH/path of those that
    are forgotten as a whole, with sha256. faces: how many in photos of others. rows: by table, that go with the next
    run. labels: files as they will be. folders: photos that lie in folders of that name. alike: faces to look at.
    still_named: files of labels, and paths of photos, in which the name occurs otherwise.
    """

    name: str
    register: Register
    new: bool
    photos: dict[str, str]
    faces: int
    rows: dict[str, int]
    labels: dict[Path, Edited]
    folders: list[Path]
    alike: list[Alike]
    still_named: list[str]
    holders: list[Holder]

    @property
    def batches(self) -> list[str]:
        """Those whose faces are found again."""
        person = self.register.person(self.name)
        return sorted({spot.batch for spot in self.register.spots if spot.person == person and spot.batch})

    @property
    def tasks(self) -> dict[str, list[int]]:
        """Ids of Label Studio's tasks that were about them, by file."""
        return {str(path): one.tasks for path, one in self.labels.items() if one.tasks}


@dataclass
class _Found:
    """A row of any table, as far as it matters here."""

    batch: str
    photo: str
    face: int
    sha256: str
    person: str | None = None
    box: tuple[float, ...] = ()

    @property
    def key(self) -> Face:
        return self.sha256, self.face


def look(name: str, alike: bool = False) -> Plan:
    """Everything that the project has of a person; nothing is changed.

    alike: also faces that no label names and that look like them.

    Raises: DataError for a name that occurs nowhere, with those that are close to it; ConfigError outside a project.
    """
    if not Path("conf/config.yaml").is_file():
        raise ConfigError(f"{Path.cwd()}: no Castline project here (no conf/config.yaml)", "cd into your clone")
    if not normal(name):
        raise ConfigError("an empty name is nobody's", "castline forget NAME")
    name, batches = normal(name), params.read("data", DataSettings, Path("conf/data.yaml")).batches
    register = read_register()
    files, entries = label_files(), _entries(batches)
    rows, remembered = _faces(batches), _remembered()
    known = Theirs(name)

    said = [mention for path in files for mention in mentions(path, name)]
    own = {(batch, entry.name): sha256_of(entry.path) for batch, entry in _in_folder(entries, name)}
    own |= {(row.batch, row.photo): row.sha256 for row in [*rows, *remembered] if known.has_folder_of(row.photo)}
    named = [row for row in [*rows, *remembered] if row.person == name and not known.has_folder_of(row.photo)]
    folders = [entry.path for _, entry in _in_folder(entries, name, problems=True)]
    files_named = any(edited(path, known).entries for path in files)
    if not (own or named or said or folders or files_named or name in _people() or register.knows(name)):
        everybody = _everybody(entries, [*rows, *remembered], files)
        close = difflib.get_close_matches(name, everybody, 3, 0.6)
        raise DataError(
            f"there is nobody called {name!r} here"
            + (f"; close to it: {', '.join(map(repr, close))}" if close else ""),
            "give the name as the folder has it",
        )

    lookalikes = _alike(name, set(own), {row.key for row in named})
    person = register.person(name)
    spots = {Spot(person, batch) for batch in {batch for batch, _ in own} | _batches_of(folders)}
    spots |= _spots(name, person, rows, own, named, said, lookalikes if alike else [])
    if not spots:  # known by a version, a table of people, or the register alone
        spots = {Spot(person, "")}
    salted = Register(register.spots | spots)
    whole = {spot.sha256 for spot in spots if spot.sha256 and spot.face is None and not spot.box}
    faces = {(spot.sha256, spot.face) for spot in spots if spot.face is not None}
    theirs = Theirs(name, whole, faces)
    done = {path: after for path in files if (after := edited(path, theirs)).entries}
    return Plan(
        name,
        salted,
        salted != register,
        {"/".join(photo): sha256 for photo, sha256 in sorted(own.items())},
        len([spot for spot in spots if spot.face is not None or spot.box]),
        _counted(theirs, {(row.batch, row.photo, row.face) for row in rows if row.key in faces}, set(own)),
        done,
        folders,
        [] if alike else [one for one, _ in lookalikes],
        _still_named(name, files, done, entries),
        holders(name, whole | {sha256 for sha256, _ in faces}),
    )


def forget(plan: Plan, reason: str = "", delete_photos: bool = False) -> int:
    """Do what `plan` says and write an audit line; how many photos were deleted.

    reason: who asked, or why, for the audit; it must not have the name in it. delete_photos: those in the person's own
    folders, too; a link is deleted and not what it leads to.

    Raises: ConfigError, DataError, before anything is changed.
    """
    if plan.name.casefold() in normal(reason).casefold():
        raise ConfigError("the reason has the name in it, and it is kept", "word it without, such as a ticket's number")
    if delete_photos and plan.folders and Path("data.dvc").is_file():
        raise DataError("data/ is what data.dvc imports, and would come back", "delete them where they come from")
    if not (plan.new or plan.labels or (delete_photos and plan.folders)):
        return 0
    deleted = _delete(plan.folders) if delete_photos else 0
    for path, one in plan.labels.items():
        path.write_text(one.text, encoding="utf-8", newline="")
    plan.register.write()
    _audit(plan, reason, deleted)
    project.settle_forgotten(plan.register)
    return deleted


def _entries(batches: Sequence[str]) -> dict[str, list[Entry]]:
    """What lies in the batches that are on this machine."""
    return {batch: walk(folder) for batch in batches if (folder := Path("data", batch)).is_dir()}


def _in_folder(entries: dict[str, list[Entry]], name: str, problems: bool = False) -> Iterator[tuple[str, Entry]]:
    for batch, found in entries.items():
        for entry in found:
            label = label_of(entry.name)
            if label is not None and label.person == name and (problems or not entry.problem):
                yield batch, entry


def _batches_of(folders: Sequence[Path]) -> set[str]:
    return {path.parts[1] for path in folders}


def _faces(batches: Sequence[str]) -> list[_Found]:
    """Every face that was found, with the name that the dataset gives it."""
    dataset = Path("build/dataset.parquet")
    columns = ["batch", "photo", "face", "person"]
    told = tables.read(dataset, columns).to_pylist() if dataset.is_file() else []
    people = {(row["batch"], row["photo"], row["face"]): row["person"] for row in told}
    found = []
    for batch in batches:
        path = Path(f"build/faces/{batch}.parquet")
        wanted = ["batch", "photo", "face", "photo_sha256", "photo_width", "photo_height", "box"]
        for row in tables.read(path, wanted).to_pylist() if path.is_file() else ():
            sizes = (row["photo_width"], row["photo_height"]) * 2
            box = tuple(round(min(max(edge / size, 0.0), 1.0), 4) for edge, size in zip(row["box"], sizes, strict=True))
            key = (row["batch"], row["photo"], row["face"])
            found.append(_Found(*key, row["photo_sha256"], people.get(key), box))
    return found


def _remembered() -> list[_Found]:
    """Every face that the model of this folder, and the one that it started from, remember."""
    found = []
    for path in (_BUNDLE / "memory.parquet", Path("build/base/memory.parquet")):
        columns = ["batch", "photo", "face", "photo_sha256", "person"]
        for row in tables.read(path, columns).to_pylist() if path.is_file() else ():
            found.append(_Found(row["batch"], row["photo"], row["face"], row["photo_sha256"], row["person"]))
    return found


def _people() -> set[str]:
    """Whom the model of this folder and the versions name."""
    from castline.versions.facts import facts_at
    from castline.versions.tags import read_registry

    facts = [facts_at(version.commit) for version in read_registry().versions.values()]
    names = {name for one in facts for name in (*(one.people or ()), *one.tested)}
    if (_BUNDLE / "bundle.json").is_file():
        from castline.files.bundle import read_bundle

        names |= set(read_bundle(_BUNDLE).people)
    return names


def _everybody(entries: dict[str, list[Entry]], rows: Sequence[_Found], files: Sequence[Path]) -> set[str]:
    labels = [label_of(entry.name) for found in entries.values() for entry in found]
    names = {label.person for label in labels if label} | {row.person for row in rows if row.person}
    return names.union(_people(), *map(names_in, files))


def _spots(
    name: str,
    person: str,
    rows: Sequence[_Found],
    own: dict[tuple[str, str], str],
    named: Sequence[_Found],
    said: Sequence[Mention],
    alike: Sequence[tuple[Alike, _Found]],
) -> set[Spot]:
    """A row of the register for each photo and face of theirs, in every batch that has it.

    A photo of their folder that also lies in somebody else's is forgotten as far as it shows them, if that is known.
    """
    of_photo: dict[str, list[_Found]] = defaultdict(list)
    for row in rows:
        of_photo[row.sha256].append(row)
    spots = set()
    for (batch, _), sha256 in own.items():
        elsewhere = [
            row
            for row in of_photo[sha256]
            if (row.batch, row.photo) not in own and (label := label_of(row.photo)) and not label.stranger
        ]
        shown = {row.key: row for row in of_photo[sha256] if (row.batch, row.photo) in own and row.person == name}
        for other in {batch, *(row.batch for row in of_photo[sha256])}:
            if elsewhere and shown:
                spots |= {Spot(person, other, sha256, row.face, row.box) for row in shown.values()}
            else:
                spots.add(Spot(person, other, sha256))
    boxes = {row.key: row.box for row in rows}
    whole = {spot.sha256 for spot in spots if spot.face is None}
    marked: list[tuple[str, str, int | None, tuple[float, ...]]]
    marked = [(row.batch, row.sha256, row.face, row.box) for row in named]
    marked += [(row.batch, row.sha256, row.face, row.box) for _, row in alike]
    marked += [(one.photo.partition("/")[0], one.sha256, one.face, one.box) for one in said]
    for batch, sha256, face, box in marked:
        if sha256 in whole:
            continue
        box = box or boxes.get((sha256, -1 if face is None else face), ())
        for other in {row.batch for row in of_photo[sha256]} or {batch}:
            spots.add(Spot(person, other, sha256, face, box))
    return spots


def _alike(name: str, own: set[tuple[str, str]], theirs: set[Face]) -> list[tuple[Alike, _Found]]:
    """Faces of nobody in the cast that look like them, and more like them than like anybody else: most alike first."""
    dataset, curation = Path("build/dataset.parquet"), params.read("curation", CurationSettings)
    batches = params.read("data", DataSettings).read
    paths = [Path(f"build/embeddings/{batch}.parquet") for batch in batches]
    if not dataset.is_file() or not all(path.is_file() for path in paths):
        return []
    rows = tables.read(dataset).to_pylist()
    embeddings = tables.read_many(paths)
    if len(rows) != len(embeddings):
        return []
    vectors = centred(tables.matrix(embeddings, "feature"))
    people: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if row["kept"] and not row["stranger"]:
            people[row["person"]].append(i)
    if name not in people:
        return []
    names = sorted(people)
    centres = np.array([vectors[people[person]].mean(0) for person in names])
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    likeness = vectors @ centres.T
    place, found = names.index(name), []
    boxes = {(row.batch, row.photo, row.face): row for row in _faces(batches)}
    for i, row in enumerate(rows):
        key = (row["batch"], row["photo"], row["face"])
        cast = row["kept"] and not row["stranger"]
        if cast or key[:2] in own or (row["photo_sha256"], row["face"]) in theirs or key not in boxes:
            continue
        if likeness[i].argmax() == place and likeness[i, place] >= curation.min_agreement:
            seen = Alike(f"{row['batch']}/{row['photo']}", row["face"], round(float(likeness[i, place]), 2))
            found.append((seen, boxes[key]))
    return sorted(found, key=lambda pair: -pair[0].similarity)


def _counted(theirs: Theirs, faces: set[tuple[str, str, int]], own: set[tuple[str, str]]) -> dict[str, int]:
    """Rows about them, by table."""
    counts = {}
    for path in (*sorted(Path("build").rglob("*.parquet")), _BUNDLE / "memory.parquet"):
        if not path.is_file():
            continue
        columns = pq.read_schema(path).names
        if not {"batch", "photo"} <= set(columns):
            continue
        some = [column for column in ("batch", "photo", "face", "person") if column in columns]
        count = 0
        for row in tables.read(path, some).to_pylist():
            key = (row["batch"], row["photo"])
            about = key in own or (*key, row.get("face")) in faces or row.get("person") == theirs.name
            count += about or theirs.has_folder_of(row["photo"])
        if count:
            counts[path.as_posix()] = count
    return counts


def _still_named(
    name: str, files: Sequence[Path], done: dict[Path, Edited], entries: dict[str, list[Entry]]
) -> list[str]:
    """Files of labels, and other people's photos, in whose text or path the name still occurs."""
    texts = {path: done[path].text if path in done else path.read_text(encoding="utf-8") for path in files}
    found = [str(path) for path, text in texts.items() if name in text]
    for batch, those in entries.items():
        for entry in those:
            label = label_of(entry.name)
            if name.casefold() in normal(entry.name).casefold() and not (label and label.person == name):
                found.append(f"data/{batch}/{entry.name}")
    return found


def _delete(paths: Sequence[Path]) -> int:
    """Files that lie in folders of theirs; a folder that is then empty goes, too."""
    for path in paths:
        try:
            path.unlink()
        except OSError as error:
            raise DataError(
                f"{path}: cannot be deleted: {error.strerror}", "delete it yourself, then the same again"
            ) from error
    for folder in sorted({path.parent for path in paths}, key=lambda folder: -len(folder.parts)):
        while len(folder.parts) > 2 and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
    return len(paths)


def _audit(plan: Plan, reason: str, deleted: int) -> None:
    """A line in labels/audit.csv: whom, by the end of the hash, and how much, without a name."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not AUDIT.is_file():
        writer.writerow(_AUDIT)
    writer.writerow(
        [
            datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            plan.register.person(plan.name)[-12:],
            " ".join(plan.batches),
            len(plan.photos),
            plan.faces,
            sum(one.entries for one in plan.labels.values()),
            deleted,
            "; ".join(holder.place for holder in plan.holders if holder.commands),
            csv_cell(short(reason, 200)) if reason else "",
        ]
    )
    with AUDIT.open("a", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())


def described(plan: Plan) -> dict[str, Any]:
    """A plan as plain values, for JSON."""
    return {
        "name": plan.name,
        "batches": plan.batches,
        "photos": list(plan.photos),
        "faces_in_photos_of_others": plan.faces,
        "rows": plan.rows,
        "labels": {str(path): one.entries for path, one in plan.labels.items()},
        "label_studio_tasks": plan.tasks,
        "folders": [str(path) for path in plan.folders],
        "alike": [vars(one) for one in plan.alike],
        "still_named": plan.still_named,
        "held_by": [vars(holder) for holder in plan.holders],
    }

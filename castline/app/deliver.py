"""What the app writes into the project, on request only: uploads as a new batch, and decisions about photos it has.

deliveries/BATCH/PERSON/SHA256.jpg     a picture that shows one person, who is enrolled
deliveries/BATCH/SHA256.jpg            a picture of which faces were corrected
labels/batches/BATCH.json              whose those faces are, as `castline label pull` writes it
labels/review.json                     decisions about faces of photos that the project has already

deliveries/ lies beside data/, which is DVC's or holds links to where photos lie: here, too, a batch is a link. Git
ignores it, and nobody else writes into it. The bytes are those of the upload; its name is kept nowhere.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from castline import project
from castline.app.names import checked_name
from castline.app.session import Upload
from castline.app.undo import all_or_nothing, alone
from castline.curation.decisions import IT_IS, LEAVE_OUT, Decision, read_decisions
from castline.errors import DataError
from castline.faces.boxes import iou
from castline.files import params
from castline.forgetting.register import read_register
from castline.label_studio.tasks import photo_address, rectangle
from castline.labels.form import PERSON, STRANGER, UNNAMED
from castline.labels.gather import COLUMNS
from castline.labels.settings import LabelsSettings
from castline.photos.batches import DataSettings, check_name, label_of
from castline.text import short

__all__ = [
    "APP",
    "DELIVERIES",
    "REVIEW",
    "Delivered",
    "FaceLabel",
    "Plan",
    "next_commands",
    "plan",
    "tasks_of",
    "write_batch",
]

DELIVERIES, REVIEW = Path("deliveries"), Path("labels/review.json")

APP = 0
"""The labeller's number of whoever corrects in the app. Label Studio's own begin at 1."""

_CHANGED = (*map(Path, ("conf/data.yaml", "params.yaml", ".gitignore", ".dvcignore", "data.dvc")), REVIEW)
_KINDS = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\0": "tif",
    b"MM\0*": "tif",
}


@dataclass(frozen=True)
class FaceLabel:
    """box: x1 y1 x2 y2 in pixels of the upright picture. person: whose face it is, "" of nobody of the cast, None where
    nobody was asked. said: what the model had said, "" where it had named nobody.
    """

    box: tuple[float, float, float, float]
    person: str | None
    said: str = ""


@dataclass(frozen=True, eq=False)
class Delivered:
    """An upload and what is known of it: the `person` whom the whole picture shows, alone, or else whose its `faces`
    are, of which one at least was asked about. width, height: of the upright picture, pixels; needed with faces.
    version: of the model that named them, as castline.label_studio.naming.model_version has it.
    """

    upload: Upload
    person: str = ""
    faces: tuple[FaceLabel, ...] = ()
    width: int = 0
    height: int = 0
    version: str = ""


@dataclass(frozen=True)
class Plan:
    """What writing would come to. pictures: for a new batch. decisions: about faces of photos that the project has, by
    the photo's sha256 and the face's number. settled: photos that the project has under that very name already.
    """

    pictures: Sequence[Delivered] = ()
    decisions: Mapping[tuple[str, int], Decision] = field(default_factory=dict)
    settled: int = 0


def write_batch(deliveries: Sequence[Delivered], batch: str) -> Path:
    """Write all of it, or nothing: pictures as a new batch, the newest, and decisions about those the project has.

    batch: its name; where that is taken, a number is added. Returns the folder of the batch, or labels/review.json
    where no picture is new.

    Raises: DataError, ConfigError in words for the visitor; the project then is as it was.
    """
    from castline.label_studio import pull  # brings a client of its server, which takes its time

    project.check_in_project()
    check_name(batch)
    with alone():
        planned = plan(deliveries)
        if not (planned.pictures or planned.decisions):
            raise DataError("the project has all of these photos already, under the same name", "nothing is to be done")
        name = _free(batch)
        folder, labels = DELIVERIES / name, Path("labels/batches", f"{name}.json")
        part = DELIVERIES / f".{name}.part"
        with all_or_nothing(_CHANGED, [part, folder, labels, Path("data", name)]):
            if planned.decisions:
                _decide(planned.decisions)
            if planned.pictures:
                for one in planned.pictures:
                    path = part / _path(one)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(one.upload.data)
                part.replace(folder)
                if tasks := tasks_of(planned.pictures, name):
                    pull.write(labels, tasks)
                project.add_batch(folder, name)
    return folder if planned.pictures else REVIEW


def next_commands(written: Path) -> list[str]:
    """What to type once `write_batch` has returned `written`: train on it, and keep in git what git keeps of it."""
    if written == REVIEW:
        return ["dvc repro", 'git add labels && git commit -a -m "Decisions from the app"']
    data = Path("data")
    links = "data" if all(path.is_symlink() for path in data.iterdir()) else f"data/{written.name}"
    return ["dvc repro", f'git add conf labels {links} && git commit -a -m "Batch {written.name} from the app"']


def plan(deliveries: Sequence[Delivered]) -> Plan:
    """What writing `deliveries` would come to; nothing is written.

    Raises: DataError when it cannot be; ConfigError for a name that nobody can have, and outside a project.
    """
    project.check_in_project()
    if not deliveries:
        raise DataError("there is nothing to write")
    register, found = read_register(), _Project({one.upload.sha256 for one in deliveries})
    pictures: dict[str, Delivered] = {}
    decisions: dict[tuple[str, int], Decision] = {}
    settled = 0
    for one in map(_checked, deliveries):
        sha256, called = one.upload.sha256, short(one.upload.name)
        for name in {one.person, *(face.person for face in one.faces)}:
            if register.knows(name):
                raise DataError(
                    "somebody of that name asked to be forgotten, and does not come back by an upload",
                    f"leave {called} out, or use another name for another person",
                )
        if sha256 in found.faces:
            decided = found.decisions(one)
            for face, decision in decided.items():
                if decisions.setdefault(face, decision) != decision:
                    raise DataError(f"{called}: one face is said to be two people's", "remove one of the corrections")
            settled += not decided
            continue
        if register.has_photo(sha256):
            raise DataError(f"{called} shows somebody who asked to be forgotten", "leave it out")
        if batch := found.waiting(sha256):
            raise DataError(
                f"{called} was written into the batch {batch}, whose faces have not been found yet",
                "dvc repro; it can be corrected again after that",
            )
        if pictures.setdefault(sha256, one) is not one:
            raise DataError(f"{called} is there twice", "leave one of them out")
    return Plan(tuple(pictures.values()), decisions, settled)


def tasks_of(deliveries: Sequence[Delivered], batch: str, now: datetime | None = None) -> list[dict[str, Any]]:
    """Label Studio's tasks of the pictures whose faces were corrected, as `castline label pull` writes them.

    A face that nobody was asked about is boxed and left `not_named_yet`, which says nothing of whose it is: a face
    without a box would be taken for one that is nobody's. What the model had said stands beside it, as a prediction.
    """
    moment = (now or datetime.now(UTC)).isoformat()
    return [_task(number, one, batch, moment) for number, one in enumerate((one for one in deliveries if one.faces), 1)]


def _task(number: int, one: Delivered, batch: str, moment: str) -> dict[str, Any]:
    photo, size = f"{batch}/{_path(one).as_posix()}", (one.width, one.height)
    asked = [(i, face, face.person) for i, face in enumerate(one.faces) if face.person is not None]
    labels = {i: person or STRANGER for i, _, person in asked}
    answer = {
        "id": number,
        "completed_by": APP,
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": moment,
        "updated_at": moment,
        "lead_time": None,
        "result": [rectangle(i, PERSON, labels.get(i, UNNAMED), face.box, size) for i, face in enumerate(one.faces)],
    }
    said = [rectangle(i, PERSON, face.said or UNNAMED, face.box, size) for i, face, _ in asked]
    return {
        "id": number,
        "data": {
            "image": photo_address(f"data/{photo}"),
            "photo": photo,
            "sha256": one.upload.sha256,
            "width": one.width,
            "height": one.height,
            "people": [{"value": name} for name in sorted(set(labels.values()) - {STRANGER})],
        },
        "annotations": [answer],
        "predictions": [{"model_version": one.version, "result": said}],
    }


class _Project:
    """Some of the photos that the project's batches have, as far as the last run has found faces in them."""

    def __init__(self, photos: Collection[str]) -> None:
        """photos: their sha256."""
        from castline.files import tables  # brings Arrow

        self.batches = params.read("data", DataSettings, Path("conf/data.yaml")).batches
        self.min_iou = params.read("labels", LabelsSettings).min_iou
        self.faces: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for path in (Path(f"build/faces/{batch}.parquet") for batch in self.batches):
            if not path.is_file():
                continue
            table = tables.read(path, COLUMNS)
            wanted = [i for i, sha256 in enumerate(table.column("photo_sha256").to_pylist()) if sha256 in photos]
            for row in table.take(np.array(wanted, np.int64)).to_pylist():
                rows = self.faces[row["photo_sha256"]]
                if not rows or all(row[key] == rows[0][key] for key in ("batch", "photo")):
                    rows.append(row)  # of a photo that lies there twice, one has all its faces

    def waiting(self, sha256: str) -> str:
        """The batch that the app has written a picture into before; "" where there is none."""
        return next(
            (batch for batch in self.batches if any((DELIVERIES / batch).rglob(f"{sha256}.*"))),
            "",
        )

    def decisions(self, one: Delivered) -> dict[tuple[str, int], Decision]:
        """What a delivery of a photo that is there says of its faces; nothing where its folder says the same.

        Raises: DataError when no such face was found.
        """
        rows, called = self.faces[one.upload.sha256], short(one.upload.name)
        if one.person:
            folder = label_of(rows[0]["photo"])
            if folder and not folder.stranger and folder.person == one.person:
                return {}
            if len(rows) > 1:
                raise DataError(
                    f"{called} is in the project already, and {len(rows)} faces were found in it",
                    "correct the face itself, on the page Identify",
                )
            return {(rows[0]["photo_sha256"], rows[0]["face"]): Decision(IT_IS, one.person)}
        found = {}
        boxes = np.array([np.divide(row["box"], _sides(row["photo_width"], row["photo_height"])) for row in rows])
        for face in one.faces:
            if face.person is None:
                continue
            box = np.divide(face.box, _sides(one.width, one.height))
            overlap = iou(np.array([box], np.float32), boxes.astype(np.float32))[0]
            if overlap.max() < self.min_iou:
                raise DataError(
                    f"{called} is in the project already, and no face was found there when it was last run",
                    "remove that correction; castline label push shows the photo to labellers",
                )
            row = rows[int(overlap.argmax())]
            decision = Decision(IT_IS, face.person) if face.person else Decision(LEAVE_OUT)
            found[row["photo_sha256"], row["face"]] = decision
        return found


def _checked(one: Delivered) -> Delivered:
    """With names as folders have them.

    Raises: DataError, ConfigError.
    """
    if bool(one.person) == bool(one.faces) or (one.faces and min(one.width, one.height) <= 0):
        raise DataError(f"{short(one.upload.name)}: either the whole picture is somebody's, or faces in it are")
    _kind(one)
    return Delivered(
        one.upload,
        checked_name(one.person) if one.person else "",
        tuple(
            FaceLabel(face.box, checked_name(face.person) if face.person else face.person, face.said)
            for face in one.faces
        ),
        one.width,
        one.height,
        one.version,
    )


def _path(one: Delivered) -> Path:
    """Below the batch."""
    return Path(one.person, f"{one.upload.sha256}.{_kind(one)}")


def _kind(one: Delivered) -> str:
    """Raises: DataError when it begins like no picture that the pipeline reads."""
    head = one.upload.data[:32]
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return "avif"
    for begins, kind in _KINDS.items():
        if head.startswith(begins):
            return kind
    raise DataError(f"{short(one.upload.name)}: not a picture that the pipeline reads", "save it as JPEG or PNG")


def _free(batch: str) -> str:
    """`batch`, with a number where something is called so already."""
    taken = {*params.read("data", DataSettings, Path("conf/data.yaml")).batches}
    number, name = 1, batch
    while name in taken or any(
        path.exists() or path.is_symlink()
        for path in (
            DELIVERIES / name,
            Path("data", name),
            Path("build/faces", f"{name}.parquet"),
            Path("labels/batches", f"{name}.json"),
            Path("labels/clusters", f"{name}.json"),
            Path("labels/manifests", f"{name}.csv"),
        )
    ):
        number += 1
        name = f"{batch[:58]}-{number}"
    return name


def _decide(decisions: Mapping[tuple[str, int], Decision]) -> None:
    """Put decisions into labels/review.json; what is there stays.

    Raises: DataError when it says otherwise of a face, or is another program's file.
    """
    before = read_decisions(REVIEW)
    content = json.loads(REVIEW.read_text(encoding="utf-8")) if REVIEW.is_file() else {"decisions": []}
    if not isinstance(content, dict):
        raise DataError(
            f"{REVIEW} is an export of Label Studio and is left as it is",
            "decide there, or move the file away; these are faces of photos that the project has already",
        )
    for (sha256, face), decision in decisions.items():
        there = before.get((sha256, face), decision)
        if there != decision:
            who = f" {short(there.person)}" if there.person else ""
            raise DataError(
                f"{REVIEW} says otherwise of face {face} of {sha256[:12]}…: {there.kind}{who}",
                "remove that correction, or change the file",
            )
        said = {"decision": decision.kind, "person": decision.person}
        entries = [
            entry
            for entry in content["decisions"]
            if str(entry.get("sha256")).lower() == sha256 and entry.get("face") == face
        ]
        for entry in entries:
            entry.update(said)
        if not entries:
            content["decisions"].append({"sha256": sha256, "face": face, **said})
    lines = ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in content.pop("decisions"))
    rest = "".join(f",\n {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items())
    REVIEW.parent.mkdir(exist_ok=True)
    REVIEW.write_text(f'{{"decisions": [\n  {lines}\n]{rest}}}\n', encoding="utf-8")


def _sides(width: int, height: int) -> tuple[int, int, int, int]:
    return width, height, width, height

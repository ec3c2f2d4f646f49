"""What a visitor said of faces, until it is written or thrown away."""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime

from castline.app.deliver import Delivered, FaceLabel, tasks_of
from castline.app.models import Model
from castline.app.names import checked_name
from castline.app.seen import Picture
from castline.app.session import Correction, Session, Upload
from castline.runtime import Name

__all__ = ["as_json", "batch_name", "correct", "deliveries", "version_of"]


def correct(
    session: Session, upload: Upload, picture: Picture, face: int, person: str, model: Model, name: Name
) -> Correction:
    """Keep what was said of a face, in place of what was said of it before; nothing is written.

    person: who it is, "" for nobody of the cast. name: what the model said.

    Raises: ConfigError for a name that nobody can have here.
    """
    seen = picture.faces[face]
    said = Correction(
        upload,
        face,
        seen.box,
        picture.width,
        picture.height,
        checked_name(person) if person else "",
        name.nearest if name.known else "",
        version_of(model),
        seen.chip,
        tuple(other.box for i, other in enumerate(picture.faces) if i != face),
    )
    session.corrections[upload.sha256, face] = said
    return said


def version_of(model: Model) -> str:
    """What labels call a model: as castline.label_studio.naming.model_version has it, without reading the bundle."""
    return f"castline-{model.key[:12]}"


def deliveries(corrections: Iterable[Correction]) -> list[Delivered]:
    """A picture each, with all that was said of its faces; those that nobody was asked about are in it as such."""
    of_picture: dict[str, dict[int, Correction]] = defaultdict(dict)
    for one in corrections:
        of_picture[one.upload.sha256][one.face] = one
    found = []
    for said in of_picture.values():
        first = next(iter(said.values()))
        asked = {one.box: FaceLabel(one.box, one.person, one.said) for one in said.values()}
        faces = [*asked.values(), *(FaceLabel(box, None) for box in first.others if box not in asked)]
        found.append(
            Delivered(
                first.upload,
                faces=tuple(sorted(faces, key=lambda face: face.box)),
                width=first.width,
                height=first.height,
                version=first.version,
            )
        )
    return found


def batch_name(today: date | None = None) -> str:
    """What a batch that is written on that day, UTC, is called unless somebody says otherwise.

    >>> batch_name(date(2026, 11, 22))
    'app-2026-11-22'
    """
    return f"app-{today or datetime.now(UTC).date()}"


def as_json(corrections: Iterable[Correction], batch: str) -> str:
    """What labels/batches/BATCH.json would hold, for a project that lies elsewhere; it knows the pictures by sha256."""
    return json.dumps(tasks_of(deliveries(corrections), batch), ensure_ascii=False, indent=1) + "\n"

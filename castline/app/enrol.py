"""People added to a model's cast for one visit: nothing is trained, and nothing is written."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from castline.app.deliver import Delivered, FaceLabel
from castline.app.gallery import remembered
from castline.app.models import Model
from castline.app.names import checked_name
from castline.app.seen import Picture, SeenFace
from castline.app.session import Enrolled, Session, Upload
from castline.curation.quality_gate import too_poor
from castline.curation.settings import CurationSettings
from castline.errors import BundleError, ConfigError, DataError
from castline.forgetting.register import read_register
from castline.runtime import Cast
from castline.text import short
from castline.training.examples import Part
from castline.training.gallery import with_gallery
from castline.training.incremental import extended

__all__ = ["Chosen", "cast_of", "deliveries", "doubts", "poor", "try_out"]


@dataclass(frozen=True, eq=False)
class Chosen:
    """A picture of somebody who is to be enrolled, and which of its faces, left to right, is theirs."""

    upload: Upload
    picture: Picture
    index: int

    @property
    def face(self) -> SeenFace:
        return self.picture.faces[self.index]


def cast_of(model: Model, enrolled: Sequence[Enrolled]) -> Cast:
    """The model's cast and, after its own people, those of `enrolled` whose embeddings are this model's.

    Each is imprinted (see castline.training.incremental.extended) and has the mean of their faces in the gallery, so
    that similarity and threshold work for them as for everybody, and it is by similarity that they are named; what the
    model says of its own people's similarity stays what it is. Somebody enrolled twice is one person with all of those
    faces.

    Raises: ConfigError for a name that the model knows: without training it could not learn more of them, only be
    pulled towards a few photos; BundleError when it has no gallery.
    """
    rows: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    for person in enrolled:
        if person.key == model.key:
            rows[person.name].append(person.raw)
    if not rows:
        return model.cast
    if again := sorted(rows.keys() & set(model.cast.people)):
        raise ConfigError(f"this model knows {again[0]!r} already", "write the photos as a batch, and train")
    raw = {name: np.concatenate(some) for name, some in rows.items()}
    digests = tuple((name, hashlib.sha256(some.tobytes()).hexdigest()) for name, some in raw.items())
    return _cast(_Asked(model.key, digests, model, raw))


def try_out(session: Session, model: Model, name: str, chosen: Sequence[Chosen]) -> Enrolled:
    """Enrol somebody for this visit, in place of whoever was enrolled by that name and for that model before.

    Raises: ConfigError, DataError in words for the visitor.
    """
    name = checked_name(name)
    if not chosen:
        raise DataError("there is no face to enrol", "add a picture of one person")
    if known := next((one for one in model.cast.people if one.casefold() == name.casefold()), ""):
        raise ConfigError(
            f"this model knows {short(known)} already, and more photos help it by training only",
            "write them as a batch; or use another name for another person",
        )
    if read_register().knows(name):
        raise DataError(
            "somebody of that name asked to be forgotten, and does not come back by an upload",
            "use another name for another person",
        )
    raw = np.stack([one.face.raw for one in chosen])
    chips = tuple(one.face.chip for one in chosen)
    made = Enrolled(name, model.key, raw, tuple(one.upload for one in chosen), chips)
    others = [one for one in session.enrolled if (one.key, one.name) != (model.key, name)]
    cast_of(model, [*others, made])  # before anything is kept, it is seen to work
    session.enrolled = [*others, made]
    return made


def poor(settings: CurationSettings, chosen: Sequence[Chosen]) -> list[str]:
    """Of each face, why it is too poor to learn from, as the pipeline has it; "" of one that is not."""
    return [too_poor(one.face.quality, settings) for one in chosen]


def doubts(cast: Cast, settings: CurationSettings, raw: NDArray[np.float32]) -> list[str]:
    """What speaks against faces being one person, who is not in the cast: sentences, with names as they are.

    cast: without that person. raw: (N, D) float32, of the faces. A face is unlike the others as curation has it: by the
    cosine with their mean, without what all faces have in common.
    """
    found = []
    unit = cast.centred(raw)
    others = unit.sum(0) - unit
    alike = (unit * others).sum(1) / np.maximum(np.linalg.norm(others, axis=1), 1e-12)
    odd = [i + 1 for i in range(len(raw)) if len(raw) > 1 and alike[i] < settings.doubtful_similarity]
    if len(raw) == 2 and odd:
        found.append("The two faces do not look like one person.")
    elif odd:
        faces = f"Face {odd[0]} does" if len(odd) == 1 else f"Faces {', '.join(map(str, odd))} do"
        found.append(f"{faces} not look like the others.")
    if cast.threshold is not None:
        similar = np.stack([cast.similarities(one) for one in raw]).mean(0)
        name = cast.name(raw.mean(0), similar)
        if name.known:
            found.append(f"To this model they look like {short(name.nearest)}.")
    return found


def deliveries(cast: Cast, version: str, name: str, chosen: Sequence[Chosen]) -> list[Delivered]:
    """The pictures, to be written as a batch: one that shows nobody else as a photo of that person, and in others the
    face. cast: who says whose a face is. version: of the model, as labels have it.
    """
    found = []
    for one in chosen:
        if len(one.picture.faces) == 1:
            found.append(Delivered(one.upload, name))
            continue
        said = cast.name(one.face.raw)
        faces = tuple(
            FaceLabel(face.box, name, said.nearest if said.known else "")
            if i == one.index
            else FaceLabel(face.box, None)
            for i, face in enumerate(one.picture.faces)
        )
        width, height = one.picture.width, one.picture.height
        found.append(Delivered(one.upload, faces=faces, width=width, height=height, version=version))
    return found


@dataclass(frozen=True)
class _Asked:
    """Who is to be added to what; the same again is answered from memory, and with the same object."""

    key: str
    digests: tuple[tuple[str, str], ...]
    model: Model = field(compare=False)
    raw: Mapping[str, NDArray[np.float32]] = field(compare=False)


@lru_cache(maxsize=32)
def _cast(asked: _Asked) -> Cast:
    cast, scorer = asked.model.cast, asked.model.cast.scorer
    new = Part(
        np.concatenate(list(asked.raw.values())),
        np.repeat(np.arange(len(asked.raw)) + len(scorer.people), [len(some) for some in asked.raw.values()]),
        np.zeros(sum(map(len, asked.raw.values())), np.int64),
    )
    larger = extended(scorer, list(asked.raw), _known(asked.model, new.features), new, {})
    # As of one face each, the means of the model's own people stay what they are.
    once = dict.fromkeys(scorer.people, 1)
    return replace(cast, scorer=with_gallery(larger, new, scorer.metric, scorer, once), newcomers=len(asked.raw))


def _known(model: Model, raw: NDArray[np.float32]) -> Part:
    """Faces that the model was trained on, as it remembers them; without a memory, its gallery: a face for each person.

    raw: (N, D), of others, for how long embeddings are; a gallery of directions does not say that.
    """
    scorer = model.cast.scorer
    if scorer.gallery is None:
        raise BundleError(f"{model.name}: this model has no gallery, so nobody can be added to it", "dvc repro")
    if (known := remembered(model, "train")) is not None:
        return known
    means = scorer.gallery
    if scorer.metric == "cosine":
        length = np.linalg.norm(raw, axis=1).mean()
        means = means * (length / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12))
    count = np.arange(len(means))
    return Part(means.astype(np.float32), count, count)

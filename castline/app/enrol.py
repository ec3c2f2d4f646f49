"""People added to a model's cast for one visit: nothing is trained, and nothing is written."""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from castline.app.gallery import remembered
from castline.app.models import Model
from castline.app.session import Enrolled
from castline.errors import BundleError, ConfigError
from castline.photos.batches import STRANGERS
from castline.runtime import UNKNOWN, Cast
from castline.text import shown
from castline.training.examples import Part
from castline.training.gallery import with_gallery
from castline.training.incremental import extended

__all__ = ["cast_of", "checked_name"]

LONGEST = 80
"""Characters of a name."""


def checked_name(name: str) -> str:
    """`name` as the pipeline reads that of a person's folder: in Unicode's form NFC, without blanks around it.

    Raises: ConfigError for what cannot be such a folder, or would be taken for something else.
    """
    name = unicodedata.normalize("NFC", name).strip()
    why = ""
    if not name:
        why = "it is empty"
    elif len(name) > LONGEST or len(name.encode(errors="replace")) > 255:  # bytes are what file systems count
        why = f"it is longer than {LONGEST} characters, or than 255 bytes"
    elif shown(name) != name:
        why = "it has characters in it that are invisible or turn the reading direction round"
    elif "/" in name or "\\" in name:
        why = "it has a slash in it"
    elif name.startswith("."):
        why = "it starts with a dot"
    elif name.casefold() in (STRANGERS, UNKNOWN):
        why = "it stands for people whom nobody knows"
    if why:
        raise ConfigError(f"This cannot be the name of a person: {why}", "choose another name")
    return name


def cast_of(model: Model, enrolled: Sequence[Enrolled]) -> Cast:
    """The model's cast and, after its own people, those of `enrolled` whose embeddings are this model's.

    Each is imprinted (see castline.training.incremental.extended) and has the mean of their faces in the gallery, so
    that similarity and threshold work for them as for everybody; what the model says of its own people's similarity
    stays what it is. Somebody enrolled twice is one person with all of those faces.

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
    return replace(cast, scorer=with_gallery(larger, new, scorer.metric, scorer, once))


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

"""The gallery: what each person's training faces have in common, so that a face can be told to be like nobody."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from castline.scoring import Scorer
from castline.training.examples import Part

__all__ = ["with_gallery"]


def with_gallery(
    scorer: Scorer, train: Part, metric: str, before: Scorer | None = None, counts: Mapping[str, int] | None = None
) -> Scorer:
    """`scorer` with a gallery: the mean of each person's training faces.

    metric: the base model's. before: the version that training went on from, whose means go on as those of `counts`
    faces a person; `train` holds what is new.
    """
    scorer = replace(scorer, metric=metric)
    sums = np.zeros((len(scorer.people), train.features.shape[1]), np.float64)
    np.add.at(sums, train.people, scorer.compared(train.features))
    faces = np.bincount(train.people, minlength=len(scorer.people)).astype(np.float64)
    if before is not None and before.gallery is not None:
        place = {person: i for i, person in enumerate(scorer.people)}
        for person, mean in zip(before.people, before.gallery, strict=True):
            known = (counts or {}).get(person, 0)
            sums[place[person]] += known * mean
            faces[place[person]] += known
    return replace(scorer, gallery=(sums / np.maximum(faces, 1)[:, None]).astype(np.float32))

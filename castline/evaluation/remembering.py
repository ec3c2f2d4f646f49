"""What an incremental update did to those whom the model knew before, and how well it knows those who are new."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castline.evaluation.measures import Evaluation
from castline.scoring import Scorer

__all__ = ["Group", "Remembering"]


@dataclass(frozen=True)
class Group:
    """Some test faces, and how many of them are named right; before: by the version that training started from, None
    where it could not know them."""

    faces: int
    before: int | None
    after: int

    @property
    def lost(self) -> float:
        """Points of top-1, in percent, lost by the update; below 0 where it gained."""
        return 0.0 if self.before is None or not self.faces else 100 * (self.before - self.after) / self.faces


@dataclass(frozen=True)
class Remembering:
    """Three groups of test faces: of old people, remembered from earlier batches; of old people, in new photos; and of
    new people. version_people: how many the version knew. faces_read: in new photos; faces_seen: in all photos, which a
    full run would have read."""

    old: Group
    old_in_new_photos: Group
    new: Group
    version_people: int
    faces_read: int
    faces_seen: int

    @classmethod
    def of(
        cls,
        after: Evaluation,
        before: Scorer,
        raw: NDArray[np.float32],
        remembered: Sequence[bool],
        faces_read: int,
        faces_seen: int,
    ) -> "Remembering":
        """after: of the updated model on all test faces. before: the version's head, on the same raw embeddings (N, D).
        remembered: (N,) which faces are of earlier batches."""
        place = {person: i for i, person in enumerate(before.people)}
        known = np.array([place.get(after.people[person], -1) for person in after.truth], np.int64)
        right_before = (before(raw)[1].argmax(1) == known) & (known >= 0)
        right_after = after.ranks == 0
        earlier = np.asarray(remembered, bool)

        def group(mask: NDArray[np.bool_], knew: bool = True) -> Group:
            return Group(int(mask.sum()), int(right_before[mask].sum()) if knew else None, int(right_after[mask].sum()))

        return cls(
            group(earlier),
            group(~earlier & (known >= 0)),
            group(~earlier & (known < 0), False),
            len(before.people),
            faces_read,
            faces_seen,
        )

    def metrics(self) -> dict[str, float | int]:
        """For `dvc metrics show`: shares named right, points lost by the update, and the share of faces read."""
        numbers: dict[str, float | int] = {}
        for name, group in (("old", self.old), ("old_in_new_photos", self.old_in_new_photos), ("new", self.new)):
            if not group.faces:
                continue
            numbers[f"{name}_faces"] = group.faces
            if group.before is not None:
                numbers[f"{name}_before"] = round(group.before / group.faces, 4)
            numbers[f"{name}_after"] = round(group.after / group.faces, 4)
        share_read = self.faces_read / self.faces_seen
        return numbers | {"points_forgotten": round(self.old.lost, 4), "share_read": round(share_read, 4)}

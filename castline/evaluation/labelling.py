"""What labellers said, as the report shows it: read from reports/labels.json, which the dataset stage writes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from castline.evaluation.measures import wilson_interval

__all__ = ["Labelling", "Person", "read_labelling"]


@dataclass(frozen=True)
class Person:
    """same: of how many times, `said`, that one of two labellers named this person, the other did too."""

    name: str
    same: int
    said: int


@dataclass(frozen=True)
class Labelling:
    """photos: that somebody finished. rule: whose word counts. faces, agreement, not_used: counts and rates by name.
    labellers, pairs: the same for each. people: who is agreed on least comes first.
    """

    rule: str
    photos: int
    photos_of_several: int
    clusters: int
    faces: Mapping[str, int]
    agreement: Mapping[str, float]
    not_used: Mapping[str, int]
    labellers: Mapping[str, Mapping[str, float]]
    pairs: Mapping[str, Mapping[str, float]]
    people: Sequence[Person]

    @property
    def words(self) -> str:
        """Krippendorff's alpha for those who have never heard of it; his bounds are 0.667 and 0.8."""
        alpha = self.agreement.get("alpha")
        if alpha is None:
            return ""
        return (
            "reliable" if alpha >= 0.8 else "good enough for tentative conclusions" if alpha >= 0.667 else "unreliable"
        )

    @property
    def missed(self) -> tuple[float, tuple[float, float]] | None:
        """The share of the faces that people boxed which the detector missed, and in which range it lies."""
        missed, boxed = self.faces["missed_by_detector"], self.faces["boxed"]
        return (missed / boxed, wilson_interval(missed, boxed)) if boxed else None


def read_labelling(path: Path) -> Labelling | None:
    """What was said, or None where nobody said anything."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "rule" not in found:
        return None
    people = [Person(name, counts["same"], counts["said"]) for name, counts in found.pop("people").items()]
    people.sort(key=lambda person: (person.same / person.said, -person.said, person.name))
    return Labelling(**found, people=people)

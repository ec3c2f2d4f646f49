"""The people that a released model knows, without the network: whose a raw embedding is, in NumPy."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from castline.errors import BundleError
from castline.files.bundle import HEAD, Bundle, BundledFile, checked
from castline.scoring import Scorer

__all__ = ["UNKNOWN", "Cast", "Name", "measured"]

UNKNOWN = "unknown"

_APART = 1e-6  # of a score; float32 tells apart what differs by a tenth of it


@dataclass(frozen=True, eq=False)
class Name:
    """Whose a face, or several faces of one person, most likely is.

    known: whether it is like anybody of the cast. nearest: the likeliest of them, known or not. confidence: how likely
    it is that person, 0 to 1, given that it is somebody of the cast. similarity: to the most similar person, 1 at most.
    scores: (P,) float32, of every person of the cast. embedding: (D,) float32, unit length.
    """

    known: bool
    nearest: str
    confidence: float
    similarity: float
    scores: NDArray[np.float32]
    embedding: NDArray[np.float32]

    @property
    def shown(self) -> str:
        """What to call the person: "unknown", or the name."""
        return self.nearest if self.known else UNKNOWN


@dataclass(frozen=True, eq=False)
class Cast:
    """Names for raw embeddings. To be shared between threads as one likes.

    scorer: the head. temperature: what makes its scores probabilities. threshold: below it a face is unknown; None
    names everybody. by: what is held against the threshold, similarity or confidence. newcomers: how many of the last
    people were added without training. Scores were not trained to tell them from the others, so it is similarity that
    does: of a face that is most similar to one of them, it is the name; of others, it never is.
    """

    scorer: Scorer
    temperature: float = 1.0
    threshold: float | None = None
    by: str = "similarity"
    newcomers: int = 0

    @classmethod
    def read(cls, folder: Path, bundle: Bundle, file: str, threshold: float | None = None) -> "Cast":
        """The cast of a bundle, as `file` of it sees them. threshold: another than was fitted to the file.

        Raises: BundleError when the file, or the head, is absent or was changed.
        """
        chosen = measured(folder, bundle, file)
        return cls(
            Scorer.read(checked(folder, HEAD, bundle.head_sha256)),
            chosen.temperature,
            chosen.threshold if threshold is None else threshold,
            str(bundle.unknown.get("by", "similarity")),
        )

    @property
    def people(self) -> tuple[str, ...]:
        """P names, in the order of scores and similarities."""
        return self.scorer.people

    def centred(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw embeddings (N, D) as two faces are compared by: without the mean, of length 1."""
        return self.scorer.centred(raw)

    def similarities(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """(P,) float32: how alike a raw embedding (D,) and each of the cast are, 1 at most."""
        found: NDArray[np.float32] = self.scorer.similarities(raw[np.newaxis])[0]
        return found

    def name(
        self, raw: NDArray[np.float32], similarities: NDArray[np.float32] | None = None, but: Collection[str] = ()
    ) -> Name:
        """Whose a raw embedding (D,) is: a face's, or the mean of several faces' of one person.

        similarities: (P,), of several faces, the mean of what `similarities` says of each. The mean embedding is more
        similar to everybody, strangers to the cast included, than each of them is; so it is their mean similarity that
        is held against the threshold, which was fitted to single faces. but: people of the cast that it cannot be; not
        all of them.
        """
        possible = np.array([person not in but for person in self.people])
        (embedding,), (scores,) = self.scorer(raw[np.newaxis], self.temperature)
        if similarities is None:
            similarities = self.similarities(raw)
        similarity = float(similarities[possible].max())
        if self.newcomers and self.by == "similarity":
            likest = int(np.where(possible, similarities, -np.inf).argmax())
            scores = self._with_newcomers(np.where(possible, scores, np.float32(0)), likest)
        best = int(np.where(possible, scores, -1).argmax())
        held = float(scores[best]) if self.by == "confidence" else similarity
        return Name(
            known=self.threshold is None or held >= self.threshold,
            nearest=self.people[best],
            confidence=float(scores[best]),
            similarity=similarity,
            scores=scores,
            embedding=embedding,
        )

    def _with_newcomers(self, scores: NDArray[np.float32], likest: int) -> NDArray[np.float32]:
        """Scores (P,) in which a newcomer comes first if, and only if, it is `likest`, the most similar of all; by more
        than what rounding takes away when they are made to sum up to 1."""
        first = len(self.people) - self.newcomers
        highest = scores.max() if likest >= first else scores[:first].max()
        changed = scores.copy()
        changed[first:] = np.minimum(changed[first:], highest * np.float32(1 - _APART))
        if likest >= first:
            changed[likest] = highest * np.float32(1 + _APART)
        return np.asarray(changed / changed.sum(), np.float32)


def measured(folder: Path, bundle: Bundle, file: str) -> BundledFile:
    """What a bundle says of its float32, float16 or int8 file.

    Raises: BundleError when there is none, or it is none for LiteRT.
    """
    try:
        chosen = bundle.files[file]
    except KeyError as error:
        known = ", ".join(bundle.files) or "none"
        raise BundleError(f"{folder}: there is no {file} file in this bundle", f"it has: {known}") from error
    if not chosen.file.endswith(".tflite"):
        raise BundleError(f"{folder}: {chosen.file} is for other runtimes", "choose float32, float16 or int8")
    return chosen

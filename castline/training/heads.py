"""Heads in training: from a raw embedding to a logit for each person, and the gradients back. Trained, each becomes a
`Scorer`.

In NumPy, gradients by hand: a head is a few small matrices, and importing PyTorch takes longer than training one.
Fine-tuning needs heads in PyTorch's graph, and puts these there (castline.training.torch_head).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castline.scoring import Scorer
from castline.training.examples import Part
from castline.training.settings import HeadSettings

__all__ = [
    "Array",
    "Backward",
    "CosineHead",
    "Head",
    "HeadSettings",
    "SoftmaxHead",
    "build_head",
    "head_of",
    "new_head",
]

Array = NDArray[np.float32]
Backward = Callable[[Array], tuple[dict[str, Array], Array]]
"""From the loss's gradient by the logits, (N, P), to those by each of a head's weights and by the embedding, (N, D)."""


class Head:
    """(N, D) float32 raw embedding → (N, P) float32 logits.

    The input is centred per number and scaled by one factor for all of them, both from the training features:
    embeddings of different base models differ tenfold in length, and each would want its own learning rate.
    A factor for each number did worse: on ImageNet's 1,280 numbers it blows up those that hardly vary
    (8 people of FaceScrub: 0.85 of the test faces named rightly, against 0.89).

    mean: (D,), factor: (1,). weights: by name, what training moves; of a head that does not learn, nothing does.
    """

    def __init__(self, settings: HeadSettings, embedding_size: int) -> None:
        self.settings = settings
        self.mean: Array = np.zeros(embedding_size, np.float32)
        self.factor: Array = np.ones(1, np.float32)
        self.weights: dict[str, Array] = {}

    @property
    def learns(self) -> bool:
        return self.settings.kind != "prototype"

    def fit_input(self, features: Array, people: NDArray[np.int64]) -> None:
        """Take from the training faces what is not learnt by gradients: centre and scale.

        features: (N, D) raw embeddings. people: (N,).
        """
        self.mean = features.mean(0, dtype=np.float64).astype(np.float32)
        spread = np.square(features - self.mean).mean(dtype=np.float64)
        self.factor = np.full(1, 1 / np.sqrt(spread) if spread > 0 else 1.0, np.float32)

    def standardised(self, embedding: Array) -> Array:
        return (embedding - self.mean) * self.factor

    def training(
        self, embedding: Array, people: NDArray[np.int64], chance: np.random.Generator
    ) -> tuple[Array, Backward]:
        """The logits (N, P) that the loss is taken of, with dropout or margin, and the way back from their gradient.

        people: (N,), the right ones. chance: what dropout draws from.
        """
        raise NotImplementedError

    def logits(self, embedding: Array) -> Array:
        """The logits (N, P) of use, without dropout or margin."""
        return self.scorer(()).logits(embedding)

    def scorer(self, people: Sequence[str]) -> Scorer:
        """What this head is now. people: names, in the order of the logits."""
        raise NotImplementedError

    def go_on_from(self, scorer: Scorer) -> None:
        """Have the weights that `scorer` was trained to."""
        raise NotImplementedError


class SoftmaxHead(Head):
    """A linear classifier, after a hidden layer where `settings.hidden` says so. Weights are named as a Scorer's."""

    def __init__(self, settings: HeadSettings, embedding_size: int, people: int, seed: int) -> None:
        super().__init__(settings, embedding_size)
        width = settings.hidden or embedding_size
        if settings.hidden:
            chance, most = np.random.default_rng(seed), embedding_size**-0.5
            self.weights["hidden_weight"] = chance.uniform(-most, most, (width, embedding_size)).astype(np.float32)
            self.weights["hidden_bias"] = chance.uniform(-most, most, width).astype(np.float32)
        # Everybody is equally likely at first, and without a hidden layer no seed matters.
        self.weights["weight"] = np.zeros((people, width), np.float32)
        self.weights["bias"] = np.zeros(people, np.float32)

    def training(
        self, embedding: Array, people: NDArray[np.int64], chance: np.random.Generator
    ) -> tuple[Array, Backward]:
        weights, left_out = self.weights, self.settings.dropout
        x = last = self.standardised(embedding)  # (N, D)
        if self.settings.hidden:
            last = np.maximum(x @ weights["hidden_weight"].T + weights["hidden_bias"], 0)  # (N, H)
        # What is left stands for what is left out.
        kept = np.ones_like(last)
        if left_out:
            kept[chance.random(last.shape, np.float32) < left_out] = 0
            kept /= 1 - left_out
        seen: Array = last * kept
        logits: Array = seen @ weights["weight"].T + weights["bias"]  # (N, P)

        def backward(of_logits: Array) -> tuple[dict[str, Array], Array]:
            gradients = {"weight": of_logits.T @ seen, "bias": of_logits.sum(0)}
            gradient = of_logits @ weights["weight"] * kept  # (N, H)
            if self.settings.hidden:
                gradient *= last > 0
                gradients |= {"hidden_weight": gradient.T @ x, "hidden_bias": gradient.sum(0)}
                gradient = gradient @ weights["hidden_weight"]  # (N, D)
            return gradients, gradient * self.factor

        return logits, backward

    def scorer(self, people: Sequence[str]) -> Scorer:
        weights: dict[str, Any] = {name: array.copy() for name, array in self.weights.items()}
        return Scorer(tuple(people), asdict(self.settings), self.mean, self.factor, **weights)

    def go_on_from(self, scorer: Scorer) -> None:
        self.weights = {name: getattr(scorer, name).copy() for name in self.weights}


class CosineHead(Head):
    """Cosines between the centred embedding and a prototype of each person, times a scale.

    It starts from each person's mean, which is all that the `prototype` kind is. In training the right person's cosine
    is made worse by a margin, so that people end up further apart than they would have to: ArcFace (Deng et al., 2019)
    adds it to the angle, CosFace (Wang et al., 2018) takes it from the cosine.
    """

    def __init__(self, settings: HeadSettings, embedding_size: int, people: int, seed: int) -> None:
        super().__init__(settings, embedding_size)
        self.weights["prototypes"] = np.zeros((people, embedding_size), np.float32)

    def fit_input(self, features: Array, people: NDArray[np.int64]) -> None:
        super().fit_input(features, people)
        sums = np.zeros_like(self.weights["prototypes"])
        np.add.at(sums, people, _unit(self.standardised(features))[0])
        self.weights["prototypes"] = _unit(sums)[0]

    def training(
        self, embedding: Array, people: NDArray[np.int64], chance: np.random.Generator
    ) -> tuple[Array, Backward]:
        faces, faces_back = _unit(self.standardised(embedding))  # (N, D)
        prototypes, prototypes_back = _unit(self.weights["prototypes"])  # (P, D)
        logits = faces @ prototypes.T  # (N, P)
        slopes = np.full_like(logits, self.settings.scale)  # how much logits move as cosines do
        right = np.arange(len(people)), people
        logits[right], slope = self._made_worse(logits[right])
        slopes[right] *= slope
        logits *= self.settings.scale

        def backward(of_logits: Array) -> tuple[dict[str, Array], Array]:
            gradient = of_logits * slopes
            gradients = {"prototypes": prototypes_back(gradient.T @ faces)}
            return gradients, faces_back(gradient @ prototypes) * self.factor

        return logits, backward

    def _made_worse(self, cosines: Array) -> tuple[Array, Array]:
        """The right people's cosines (N,) with the margin, and how much these move as those do."""
        margin = self.settings.margin
        if self.settings.margin_kind == "cosface" or not margin:
            return cosines - margin, np.ones_like(cosines)
        inside = np.clip(cosines, -1 + 1e-6, 1 - 1e-6)
        angle = np.arccos(inside)
        wanted = angle + margin
        # Past a half turn the cosine would rise again; there it goes on falling in a straight line.
        worse = np.where(wanted < np.pi, np.cos(wanted), np.pi - 1 - wanted)
        slope = np.where(wanted < np.pi, np.sin(wanted), 1) / np.sin(angle)
        return worse, np.where(inside == cosines, slope, 0)

    def scorer(self, people: Sequence[str]) -> Scorer:
        weight = self.settings.scale * _unit(self.weights["prototypes"])[0]
        bias = np.zeros(len(weight), np.float32)
        return Scorer(tuple(people), asdict(self.settings), self.mean, self.factor, weight, bias, normalised=True)

    def go_on_from(self, scorer: Scorer) -> None:
        self.weights = {"prototypes": scorer.weight / np.float32(self.settings.scale)}


def build_head(settings: HeadSettings, embedding_size: int, people: int, seed: int) -> Head:
    """The head that `settings` asks for, untrained: (N, embedding_size) float32 → (N, people) logits.

    seed: of a hidden layer.
    """
    return _KINDS[settings.kind](settings, embedding_size, people, seed)


def new_head(settings: HeadSettings, train: Part, people: int, seed: int) -> Head:
    """A head that is ready to be trained on `train`."""
    head = build_head(settings, train.features.shape[1], people, seed)
    head.fit_input(train.features, train.people)
    return head


def head_of(scorer: Scorer) -> Head:
    """A head that goes on from what `scorer` was trained to."""
    head = build_head(HeadSettings(**scorer.settings), scorer.mean.size, len(scorer.people), seed=0)
    head.mean, head.factor = scorer.mean, scorer.factor
    head.go_on_from(scorer)
    return head


_KINDS: dict[str, Callable[[HeadSettings, int, int, int], Head]] = {
    "softmax": SoftmaxHead,
    "cosine": CosineHead,
    "prototype": CosineHead,
}


def _unit(rows: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Rows (N, D) at length 1, and from the gradient by these that by the rows as they were."""
    lengths: Array = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    unit: Array = rows / lengths

    def back(gradient: Array) -> Array:
        along = (gradient * unit).sum(1, keepdims=True)
        moved: Array = (gradient - along * unit) / lengths
        return moved

    return unit, back

"""A trained head as everything but training runs it: from a raw embedding to a score for each person, in NumPy.

Whatever a base model's file computes with (PyTorch, ONNX, TFLite in int8), it ends at the raw embedding, and this
follows: the mathematics of heads is not written for each runtime, norm and softmax stay in float32, and a device that
learns a new person is sent a few kilobytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castline.errors import BundleError
from castline.files.tensors import read_tensors

__all__ = ["Scorer", "softmax"]


@dataclass(frozen=True, eq=False)
class Scorer:
    """(N, D) float32 raw embeddings → (N, D) of length 1 and (N, P) scores that sum to 1; and (N, P) similarities.

        x = (raw - mean) * factor;  where normalised: x / |x|;  with a hidden layer: relu(hidden_weight x + hidden_bias)
        scores = softmax((weight x + bias) / temperature)
        similarities = cosine(raw, gallery), or 1 - |raw - gallery| where the base model compares by distance

    Scores tell the people apart, and are spread over them even if the face is nobody's; similarities tell whether it is
    like anybody at all.

    people: P names in the order of the scores. mean: (D,). factor: (1,). weight: (P, H), bias: (P,). hidden_weight:
    (H, D), hidden_bias: (H,), or both None and H is D. gallery: (P, D), the mean of each person's training faces, as
    `compared`. All float32. metric: by which the base model was trained to compare faces, cosine or euclidean.
    settings: of the head that was trained.
    """

    people: tuple[str, ...]
    settings: Mapping[str, Any]
    mean: NDArray[np.float32]
    factor: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    hidden_weight: NDArray[np.float32] | None = None
    hidden_bias: NDArray[np.float32] | None = None
    gallery: NDArray[np.float32] | None = None
    normalised: bool = False
    metric: str = "cosine"

    def __call__(
        self, raw: NDArray[np.float32], temperature: float = 1.0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeddings and scores of raw embeddings.

        temperature: above 1 makes scores less sure, below 1 surer; who comes first stays the same.
        """
        return _of_length_1(raw), softmax(self.logits(raw), temperature)

    def logits(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, P) float32: what scores are the softmax of."""
        logits: NDArray[np.float32] = self.before_last(raw) @ self.weight.T + self.bias
        return logits

    def similarities(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, P) float32, at most 1: how alike each face and each person's training faces are.

        Raises: BundleError when the head has no gallery.
        """
        if self.gallery is None:
            raise BundleError("this head has no gallery, so it cannot say who is unknown", "dvc repro")
        if self.metric == "cosine":
            found: NDArray[np.float32] = self.compared(raw) @ _of_length_1(self.gallery).T
            return found
        squares = np.square(raw).sum(1)[:, None] + np.square(self.gallery).sum(1) - 2 * raw @ self.gallery.T
        distances: NDArray[np.float32] = np.sqrt(np.maximum(squares, 0))
        return 1 - distances

    def compared(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw embeddings (N, D) as the base model compares them, which a gallery is the mean of."""
        return _of_length_1(raw) if self.metric == "cosine" else raw

    def centred(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw embeddings (N, D) without the mean, brought to length 1: their cosine is about 0 for two strangers."""
        return _of_length_1(raw - self.mean)

    def before_last(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the last layer sees of raw embeddings: (N, D) → (N, H)."""
        x: NDArray[np.float32] = (raw - self.mean) * self.factor
        if self.normalised:
            x = _of_length_1(x)
        if self.hidden_weight is not None and self.hidden_bias is not None:
            x = np.maximum(x @ self.hidden_weight.T + self.hidden_bias, 0)
        return x

    def to_bytes(self) -> bytes:
        """A safetensors file; the same head gives the same bytes."""
        from safetensors.numpy import save  # late: a device reads heads and writes none

        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        said: dict[str, Any] = {"people": self.people, "settings": dict(self.settings)}
        said |= {"normalised": self.normalised, "metric": self.metric}
        return save(
            {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()},
            # One entry: safetensors writes several in any order.
            {"castline": json.dumps(said, ensure_ascii=False, sort_keys=True)},
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Scorer":
        """What `to_bytes` made.

        Raises: BundleError when it does not hold a head.
        """
        try:
            arrays, metadata = read_tensors(data)
            said = json.loads(metadata["castline"])
            normalised, metric = bool(said["normalised"]), str(said["metric"])
            scorer = cls(tuple(said["people"]), said["settings"], normalised=normalised, metric=metric, **arrays)
            scorer._check()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(f"no trained head: {error}", "dvc repro") from error
        return scorer

    def write(self, path: Path) -> None:
        """One file, of `to_bytes`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.to_bytes())

    @classmethod
    def read(cls, path: Path) -> "Scorer":
        """What `write` wrote.

        Raises: BundleError when there is no such file, or it does not hold a head.
        """
        try:
            return cls.from_bytes(path.read_bytes())
        except OSError as error:
            raise BundleError(f"{path}: no trained head: {error}", "dvc repro") from error
        except BundleError as error:
            raise BundleError(f"{path}: {error.what}", error.next) from error

    def _check(self) -> None:
        width, hidden = self.mean.size, self.hidden_weight
        wanted = {
            "mean": (width,),
            "factor": (1,),
            "weight": (len(self.people), width if hidden is None else len(hidden)),
            "bias": (len(self.people),),
        }
        if self.gallery is not None:
            wanted["gallery"] = (len(self.people), width)
        if hidden is not None:
            wanted |= {"hidden_weight": (len(hidden), width), "hidden_bias": (len(hidden),)}
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} is {getattr(self, name).shape}, expected {shape}")


_ARRAYS = ("mean", "factor", "weight", "bias", "hidden_weight", "hidden_bias", "gallery")


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """Scores (N, P) that sum to 1, of logits (N, P)."""
    scaled = logits / np.float32(temperature)
    odds = np.exp(scaled - scaled.max(1, keepdims=True))
    scores: NDArray[np.float32] = odds / odds.sum(1, keepdims=True)
    return scores


def _of_length_1(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.square(rows).sum(1, keepdims=True))
    scaled: NDArray[np.float32] = rows / np.maximum(lengths, np.float32(1e-12))
    return scaled

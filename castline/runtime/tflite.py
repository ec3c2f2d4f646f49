"""An exported model, run by LiteRT: a face in, an embedding and a score for each person out. NumPy and LiteRT only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castline.errors import BundleError
from castline.faces import litert

__all__ = ["TFLiteModel"]


class TFLiteModel:
    """(S, S, 3) uint8 RGB → embedding (D,) float32 of length 1, scores (P,) float32 that sum to 1.

    file: a TFLite file that `castline.export` wrote. head: the file that turns a raw embedding into both outputs;
    wanted where `file` ends at the raw embedding, as the int8 file does. threads: of LiteRT.

    An instance holds the buffers that it computes in: not to be shared between threads.

    Raises: BundleError when a file cannot be loaded or has other inputs or outputs.
    """

    def __init__(self, file: Path, head: Path | None = None, threads: int = 1) -> None:
        self._base = _Graph(file, threads, "image", {"embedding"} if head else {"embedding", "scores"})
        self._head = _Graph(head, threads, "embedding", {"embedding", "scores"}) if head else None

    @property
    def input_size(self) -> int:
        """Side of the square input, pixels."""
        return self._base.shape[1]

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embedding and scores of a face, as `castline.faces.align.crop` cuts it.

        Raises: ValueError when the image is of another shape or type.
        """
        if image.dtype != np.uint8 or (1, *image.shape) != self._base.shape:
            raise ValueError(f"an image {image.shape} {image.dtype}: wanted is {self._base.shape[1:]} uint8, RGB")
        outputs = self._base(image[np.newaxis].astype(np.float32))
        if self._head:
            outputs = self._head(outputs["embedding"])
        return outputs["embedding"][0], outputs["scores"][0]


@dataclass(frozen=True)
class _Tensor:
    """A tensor of a file, and how its integers stand for real numbers: (integer - zero) * scale."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero: int

    @classmethod
    def of(cls, details: dict[str, Any]) -> "_Tensor":
        scale, zero = details["quantization"]
        return cls(tuple(map(int, details["shape"])), np.dtype(details["dtype"]), float(scale), int(zero))

    def pack(self, values: NDArray[np.float32]) -> NDArray[Any]:
        if self.dtype.kind == "f":
            return values
        limits = np.iinfo(self.dtype)
        whole = np.rint(values / self.scale) + self.zero
        return np.asarray(np.clip(whole, limits.min, limits.max), self.dtype)

    def unpack(self, values: NDArray[Any]) -> NDArray[np.float32]:
        if self.dtype.kind == "f":
            return values
        return np.asarray((values.astype(np.float32) - self.zero) * self.scale, np.float32)


class _Graph:
    """One TFLite file: an array in, arrays by name out, float32 on both sides."""

    def __init__(self, file: Path, threads: int, name: str, outputs: set[str]) -> None:
        try:
            self._run = litert.interpreter(file, threads).get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{file}: LiteRT cannot load it: {error}", "dvc repro export") from error
        inputs = {key: _Tensor.of(details) for key, details in self._run.get_input_details().items()}
        self._outputs = {key: _Tensor.of(details) for key, details in self._run.get_output_details().items()}
        if inputs.keys() != {name} or self._outputs.keys() != outputs:
            found = f"{', '.join(inputs)} → {', '.join(sorted(self._outputs))}"
            wanted = f"{name} → {', '.join(sorted(outputs))}"
            raise BundleError(f"{file}: takes and gives {found}, wanted is {wanted}", "dvc repro export")
        self._name, self._input = name, inputs[name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the input, batch of 1 included."""
        return self._input.shape

    def __call__(self, values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        raw = self._run(**{self._name: self._input.pack(values)})
        return {key: self._outputs[key].unpack(array) for key, array in raw.items()}

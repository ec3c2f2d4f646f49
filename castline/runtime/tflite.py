"""An exported base model, run by LiteRT: a face in, a raw embedding out. NumPy and LiteRT only."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castline.errors import BundleError
from castline.faces import litert

__all__ = ["TFLiteModel"]


class TFLiteModel:
    """(S, S, 3) uint8 RGB → raw embedding (D,) float32, whatever numbers the file computes with.

    file: a TFLite file that `castline.export` wrote. threads: of LiteRT. interpreter: makes one of the file and the
    number of threads; TensorFlow's has the methods of LiteRT's.

    An instance holds the buffers that it computes in: not to be shared between threads.

    Raises: BundleError when the file cannot be loaded or has other inputs or outputs.
    """

    def __init__(
        self, file: Path, threads: int = 1, interpreter: Callable[[Path, int], Any] = litert.interpreter
    ) -> None:
        try:
            self._run = interpreter(file, threads).get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{file}: LiteRT cannot load it: {error}", "dvc repro export") from error
        inputs = {key: _Tensor.of(details) for key, details in self._run.get_input_details().items()}
        outputs = {key: _Tensor.of(details) for key, details in self._run.get_output_details().items()}
        if inputs.keys() != {"image"} or outputs.keys() != {"embedding"}:
            found = f"{', '.join(sorted(inputs))} → {', '.join(sorted(outputs))}"
            raise BundleError(f"{file}: takes and gives {found}, wanted is image → embedding", "dvc repro export")
        self._input, self._output = inputs["image"], outputs["embedding"]

    @property
    def input_size(self) -> int:
        """Side of the square input, pixels."""
        return self._input.shape[1]

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Raw embedding of a face, as `castline.faces.align.crop` cuts it.

        Raises: ValueError when the image is of another shape or type.
        """
        if image.dtype != np.uint8 or (1, *image.shape) != self._input.shape:
            raise ValueError(f"an image {image.shape} {image.dtype}: wanted is {self._input.shape[1:]} uint8, RGB")
        found = self._run(image=self._input.pack(image[np.newaxis].astype(np.float32)))
        rows = self._output.unpack(found["embedding"])
        row: NDArray[np.float32] = rows[0]
        return row


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

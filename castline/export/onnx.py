"""PyTorch to ONNX."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxsim
import torch
from numpy.typing import NDArray
from onnx.checker import ValidationError
from torch import Tensor, nn

from castline.errors import CastlineError

__all__ = ["OnnxModel", "export_onnx"]

_OPSET = 17  # what onnx2tf 1.28.8 was measured with


def export_onnx(module: nn.Module, path: Path, example: Tensor, input_name: str, output_names: Sequence[str]) -> None:
    """Write `module` as an ONNX file of fixed shapes and check it; the same module gives the same bytes.

    example: one input of the shape that the file shall take, float32. Normalisation layers are folded into the
    convolutions before them. The module is put into eval mode.

    Raises: CastlineError when torch cannot trace it or the result is not valid.
    """
    with warnings.catch_warnings():
        # The legacy exporter, which says so: onnx2tf lays out what it writes, and not what the new one does.
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based ONNX export")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.onnx\.")
        # Shapes are fixed, so what tracing makes of them is right.
        warnings.filterwarnings("ignore", "Converting a tensor to a Python")
        warnings.filterwarnings("ignore", "Constant folding - Only steps=1")
        try:
            torch.onnx.export(
                module.eval(),
                (example,),
                str(path),
                input_names=[input_name],
                output_names=list(output_names),
                opset_version=_OPSET,
                dynamo=False,
            )
            simple, _ = onnxsim.simplify(str(path))  # shapes that tracing computes become constants
            onnx.checker.check_model(simple, full_check=True)
            onnx.save(simple, path)
        except (RuntimeError, ValidationError) as error:
            raise CastlineError(f"{path.name}: {type(module).__name__} cannot be exported: {error}") from error


class OnnxModel:
    """An exported model, run by onnxruntime: (S, S, 3) uint8 RGB → embedding (D,), scores (P,), both float32."""

    def __init__(self, file: Path, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embedding and scores of a face, as `castline.faces.align.crop` cuts it."""
        planes = image.transpose(2, 0, 1)[np.newaxis].astype(np.float32)  # (1, 3, S, S)
        embedding, scores = self._session.run(["embedding", "scores"], {"image": planes})
        return embedding[0], scores[0]

"""PyTorch to ONNX."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxsim
import torch
from onnx.checker import ValidationError
from torch import Tensor, nn

from castline.errors import CastlineError

__all__ = ["export_onnx"]

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

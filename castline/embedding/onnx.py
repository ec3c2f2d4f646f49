"""PyTorch to ONNX."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxsim
import torch
from onnx.checker import ValidationError
from torch import Tensor, nn

from castline.embedding.base_settings import ONNX
from castline.embedding.onnx_model import OnnxModel
from castline.errors import CastlineError

__all__ = ["export_base", "export_onnx"]

_ALIKE = 0.9999  # the lowest cosine of ONNX Runtime's embedding of a picture and PyTorch's

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


def export_base(base: nn.Module, side: int, folder: Path) -> None:
    """Write `base`, (1, 3, side, side) float32 RGB 0..255 → (1, D), as model.onnx into `folder`: image → embedding.

    Features are what this file makes of faces, so it has to be what PyTorch has: both are shown the same noise.

    Raises: CastlineError, also when they make different things of it.
    """
    file = folder / ONNX
    export_onnx(base, file, torch.zeros(1, 3, side, side), "image", ["embedding"])
    model, worst = OnnxModel(file), 1.0
    for image in np.random.default_rng(0).integers(0, 256, (4, side, side, 3), np.uint8):
        with torch.inference_mode():
            theirs = base(torch.tensor(image).permute(2, 0, 1)[None].float())[0].numpy().astype(np.float64)
        ours = model(image).astype(np.float64)
        lengths = np.linalg.norm(ours) * np.linalg.norm(theirs)
        worst = min(worst, float(ours @ theirs / lengths) if lengths else float(np.allclose(ours, theirs)))
    if not worst >= _ALIKE:
        raise CastlineError(
            f"{file}: {type(base).__name__} in ONNX makes other embeddings than in PyTorch (cosine {worst:.4f})",
            "choose another base model, or report it with the versions of torch and onnx",
        )

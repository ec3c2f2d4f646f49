"""A trained model as files that other runtimes run: ONNX and TFLite."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from castline.errors import CastlineError, DataError
from castline.export.convert import Job
from castline.export.onnx import export_onnx
from castline.export.settings import FORMATS
from castline.training.model import FaceModel

__all__ = ["ONNX_FILE", "Exported", "export"]

ONNX_FILE = "model.onnx"
_HEAD_FILE = "head.tflite"
_FILES = {"onnx": ONNX_FILE, "float32": "model.tflite", "float16": "model_fp16.tflite", "int8": "model_int8.tflite"}


@dataclass(frozen=True)
class Exported:
    """Names in the folder. head: the file that follows `file`, empty where `file` gives scores by itself."""

    file: str
    head: str = ""


def export(
    model: FaceModel, calibration: NDArray[np.uint8], folder: Path, formats: Sequence[str] = FORMATS
) -> dict[str, Exported]:
    """Write the model into `folder` and say what lies where, by format. The same model gives the same bytes.

        model.onnx          image (1, 3, S, S) float32 RGB 0..255 → embedding (1, D), scores (1, P)
        model.tflite        image (1, S, S, 3) float32 RGB 0..255 → embedding (1, D), scores (1, P)
        model_fp16.tflite   the same, its weights in float16
        model_int8.tflite   image (1, S, S, 3) int8 → raw embedding (1, D) int8, calibrated on `calibration`
        head.tflite         raw embedding (1, D) float32 → embedding (1, D), scores (1, P); written beside int8

    Norm and softmax do not survive int8: LiteRT refuses or gives garbage. So the int8 file ends before them.

    calibration: (N, S, S, 3) uint8 RGB, faces from the training split as the base model sees them. formats: of
    castline.export.settings.FORMATS.

    Raises: CastlineError when the model cannot be converted, with the end of the converter's log; DataError when int8
    is wanted and there is nothing to calibrate it on.
    """
    if "int8" in formats and not len(calibration):
        raise DataError("there are no training faces to calibrate int8 on", "raise export.calibration above 0")
    folder.mkdir(parents=True, exist_ok=True)
    side = calibration.shape[1]
    image = torch.zeros(1, 3, side, side)
    with torch.inference_mode():
        raw = model.eval().base(image)
    made = {name: Exported(_FILES[name], _HEAD_FILE if name == "int8" else "") for name in formats}
    job = Job(
        raw.shape[1],
        **{name: files.file for name, files in made.items() if name != "onnx"},
        head=_HEAD_FILE if "int8" in made else "",
    )
    if "onnx" in made:
        export_onnx(model, folder / ONNX_FILE, image, "image", ["embedding", "scores"])
    if made.keys() <= {"onnx"}:
        return made
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        export_onnx(model.base, work / "base.onnx", image, "image", ["embedding"])
        export_onnx(_Finish(model), work / "head.onnx", torch.ones_like(raw), "embedding", ["both"])
        np.save(work / "calibration.npy", calibration)
        _convert(job, work)
        for file in filter(None, (job.float32, job.float16, job.int8, job.head)):
            shutil.move(work / file, folder / file)
    return made


class _Finish(nn.Module):
    """What follows the base model, its two outputs side by side: (N, D) → (N, D + P)."""

    def __init__(self, model: FaceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, raw: Tensor) -> Tensor:
        return torch.cat(self.model.finish(raw), dim=1)


def _convert(job: Job, work: Path) -> None:
    """Run castline.export.convert in `work`, in a process of its own that imports what this one can."""
    (work / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "castline.export.convert", "job.json"],
        cwd=work,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    wanted = [file for file in (job.float32, job.float16, job.int8, job.head) if file]
    missing = [file for file in wanted if not (work / file).is_file()]
    if done.returncode or missing:
        tail = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise CastlineError(
            f"the conversion to {', '.join(missing or wanted)} failed ({done.returncode}):\n{tail}",
            "pip install 'castline[export]', or leave the format out of export.allowance",
        )

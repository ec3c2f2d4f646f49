"""A base model's ONNX file as files that other runtimes run: TFLite."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from castline.errors import CastlineError, DataError
from castline.export.convert import CHECKED, Job
from castline.export.settings import FILES, FORMATS
from castline.runtime.tflite import TFLiteModel

__all__ = ["export"]

# Of embeddings of one face by two interpreters: sums in another order differ in the last digits, and rounded to eight
# bits in a step here and there.
_AGREEING = 0.99


def export(
    base: Path,
    calibration: NDArray[np.uint8],
    folder: Path,
    formats: Sequence[str] = FORMATS,
    way: str = "full",
) -> dict[str, str]:
    """Write the base model into `folder` and say what lies where, by format. The same model gives the same bytes.

        model.onnx          image (1, 3, S, S) float32 RGB 0..255 → embedding (1, D); a copy of `base`
        model.tflite        image (1, S, S, 3) float32 RGB 0..255 → embedding (1, D)
        model_fp16.tflite   the same, its weights in float16
        model_int8.tflite   image (1, S, S, 3) int8 → embedding (1, D) int8, calibrated on `calibration`; float32
                            where `way` is another than full: see castline.export.convert

    Each ends at the raw embedding: norm and softmax do not survive int8 (LiteRT refuses or gives garbage), and what
    follows is in a file of its own, castline.scoring's.

    base: an ONNX file. calibration: (N, S, S, 3) uint8 RGB, faces from the training split as the base model sees them.
    formats: of castline.export.settings.FORMATS.

    A TFLite file is read by two interpreters, TensorFlow's and LiteRT's, and which one its users have is not known. So
    both are shown the first calibration faces, and have to agree.

    Raises: CastlineError when the model cannot be converted, with the end of the converter's log, or when the two
    interpreters make different things of a file; DataError when int8
    is wanted and there is nothing to calibrate it on.
    """
    if "int8" in formats and not len(calibration):
        raise DataError("there are no training faces to calibrate int8 on", "raise export.calibration above 0")
    folder.mkdir(parents=True, exist_ok=True)
    made = {name: FILES[name] for name in formats}
    job = Job(**{name: file for name, file in made.items() if name != "onnx"}, way=way)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        shutil.copyfile(base, work / "base.onnx")
        if "onnx" in made:
            shutil.copyfile(base, folder / made["onnx"])
        if made.keys() <= {"onnx"}:
            return made
        np.save(work / "calibration.npy", calibration)
        _convert(job, work)
        for file in _files(job):
            _check_interpreters(work / file, calibration)
            shutil.move(work / file, folder / file)
    return made


def _files(job: Job) -> list[str]:
    return [file for file in (job.float32, job.float16, job.int8) if file]


def _check_interpreters(file: Path, calibration: NDArray[np.uint8]) -> None:
    """See that LiteRT makes of the calibration faces what TensorFlow's interpreter wrote down beside the file."""
    theirs = np.load(f"{file}.npy")
    if not len(theirs):
        return
    model = TFLiteModel(file)
    ours = np.stack([model(image) for image in calibration[:CHECKED]])
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosine = float(((ours * theirs).sum(1) / np.maximum(lengths, 1e-12)).min())
    if not cosine >= _AGREEING:
        raise CastlineError(
            f"{file.name}: TensorFlow's and LiteRT's interpreters make different embeddings of the same face "
            f"(cosine {cosine:.4f})",
            "leave the format out of export.allowance, or report it with the versions of tensorflow and ai-edge-litert",
        )


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
    wanted = _files(job)
    missing = [file for file in wanted if not (work / file).is_file()]
    if done.returncode or missing:
        tail = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise CastlineError(
            f"the conversion to {', '.join(missing or wanted)} failed ({done.returncode}):\n{tail}",
            "pip install 'castline[export]', or leave the format out of export.allowance",
        )

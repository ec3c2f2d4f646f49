"""ONNX to TFLite, in a process of its own: python -m castline.export.convert JOB.json

onnx2tf and TensorFlow take half a minute and a gigabyte, print a lot, switch warnings off for the whole process and
end it on an error. `castline.export.tflite` starts this and reads what it leaves behind.

The job is a `Job`; paths in it are relative to the folder that this runs in, a temporary one. There it reads base.onnx
(image → raw embedding) and calibration.npy ((N, S, S, 3) uint8 RGB), and writes the TFLite files.
"""

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Job", "main"]

# onnx2tf 1.28.8 fetches this from the internet unless it lies in the working directory; its content does not matter.
_SAMPLE = "calibration_image_sample_data_20x128x128x3_float32.npy"


@dataclass(frozen=True)
class Job:
    """float32, float16, int8: files to write, or empty."""

    float32: str = ""
    float16: str = ""
    int8: str = ""


def main(job: Job) -> None:
    """Do the job in the working directory."""
    np.save(_SAMPLE, np.zeros((20, 128, 128, 3), np.float32))
    base = _to_keras("base.onnx")
    converter = _converters(lambda image: {"embedding": base(image)}, "image", base.inputs[0].shape)
    if job.float32:
        _write(job.float32, converter())
    if job.float16:
        _write(job.float16, _half(converter()))
    if job.int8:
        _write(job.int8, _int8(converter()))


def _to_keras(file: str) -> Any:
    import onnx2tf

    return onnx2tf.convert(
        input_onnx_file_path=file,
        output_folder_path=".",
        not_use_onnxsim=True,  # done at export; onnx2tf calls it as a command, which may not be on the PATH
        disable_model_save=True,
        non_verbose=True,
    )


def _converters(function: Callable[[Any], dict[str, Any]], name: str, shape: Any) -> Callable[[], Any]:
    """Converters of a function whose input and outputs keep their names in the file's signature."""
    import tensorflow as tf

    module = tf.Module()
    module.run = tf.function(function, input_signature=[tf.TensorSpec(shape, tf.float32, name=name)])
    concrete = module.run.get_concrete_function()
    return lambda: tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)


def _half(converter: Any) -> Any:
    """Weights in float16, the rest in float32."""
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return converter


def _int8(converter: Any) -> Any:
    """Everything in int8, weights per channel, ranges from the calibration images."""
    import tensorflow as tf

    images = np.load("calibration.npy")

    def examples() -> Iterator[list[Any]]:
        for image in images:
            yield [image[np.newaxis].astype(np.float32)]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = examples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    return converter


def _write(file: str, converter: Any) -> None:
    Path(file).write_bytes(converter.convert())


if __name__ == "__main__":
    try:
        main(Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    except Exception as error:
        # What is wrong is in the first lines; a dump of the whole graph may follow.
        what = [line[:200] for line in str(error).splitlines()[:8]]
        sys.exit("\n".join([*traceback.format_tb(error.__traceback__)[-1:], f"{type(error).__name__}:", *what]))

"""ONNX to TFLite, in a process of its own: python -m castline.export.convert JOB.json

onnx2tf and TensorFlow take half a minute and a gigabyte, print a lot, switch warnings off for the whole process and
end it on an error. `castline.export.tflite` starts this and reads what it leaves behind.

The job is a `Job`; paths in it are relative to the folder that this runs in, a temporary one. There it reads base.onnx
(image → raw embedding) and calibration.npy ((N, S, S, 3) uint8 RGB), and writes the TFLite files, and beside each what
TensorFlow's own interpreter makes of the first calibration images: FILE.npy, (M, D) float32.
"""

import csv
import json
import math
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from castline.runtime.tflite import TFLiteModel

__all__ = ["CHECKED", "Job", "main"]

CHECKED = 8  # images that both interpreters are shown

# onnx2tf 1.28.8 fetches this from the internet unless it lies in the working directory; its content does not matter.
_SAMPLE = "calibration_image_sample_data_20x128x128x3_float32.npy"


@dataclass(frozen=True)
class Job:
    """float32, float16, int8: files to write, or empty. way: to eight bits.

    full: weights per channel and activations in int8, ranges from the calibration images. mixed: the same, but the
    quarter of the layers that rounding hurts most stay in float. float_activations: weights in int8, activations in
    float, their ranges found while it runs.
    """

    float32: str = ""
    float16: str = ""
    int8: str = ""
    way: str = "full"


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
        _write(job.int8, {"full": _full, "mixed": _mixed, "float_activations": _float_activations}[job.way](converter))


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


def _full(converter: Callable[[], Any]) -> Any:
    import tensorflow as tf

    full = _calibrated(converter())
    full.inference_input_type = tf.int8
    full.inference_output_type = tf.int8
    return full


def _mixed(converter: Callable[[], Any]) -> bytes:
    """The layers to be left in float are those whose error is largest beside the step of their output (one of 256).

    Source: TensorFlow's guide to selective quantization, which does it by hand.
    """
    import tensorflow as tf

    def debugger(left: list[str]) -> Any:
        options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=left)
        return tf.lite.experimental.QuantizationDebugger(
            converter=_calibrated(converter()), debug_dataset=_examples(8), debug_options=options
        )

    looked_at = debugger([])
    looked_at.run()
    table = Path("layers.csv")
    with table.open("w", encoding="utf-8", newline="") as file:
        looked_at.layer_statistics_dump(file)
    with table.open(encoding="utf-8", newline="") as file:
        layers = list(csv.DictReader(file))
    layers.sort(key=lambda layer: -math.sqrt(float(layer["mean_squared_error"])) / float(layer["scale"]))
    chosen = debugger([layer["tensor_name"] for layer in layers[: math.ceil(len(layers) / 4)]])
    return bytes(chosen.get_nondebug_quantized_model())


def _float_activations(converter: Callable[[], Any]) -> Any:
    import tensorflow as tf

    dynamic = converter()
    dynamic.optimizations = [tf.lite.Optimize.DEFAULT]
    return dynamic


def _calibrated(converter: Any) -> Any:
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = _examples()
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter


def _examples(every: int = 1) -> Callable[[], Iterator[list[Any]]]:
    images = np.load("calibration.npy")[::every]

    def examples() -> Iterator[list[Any]]:
        for image in images:
            yield [image[np.newaxis].astype(np.float32)]

    return examples


def _write(file: str, converted: Any) -> None:
    """converted: the file's bytes, or a converter that is ready to give them."""
    blob = converted if isinstance(converted, bytes) else converted.convert()
    Path(file).write_bytes(blob)
    np.save(f"{file}.npy", _by_tensorflow(file))


def _by_tensorflow(file: str) -> Any:
    """What TensorFlow's interpreter makes of the first calibration images: (M, D) float32."""
    import tensorflow as tf

    def interpreter(file: Path, threads: int) -> Any:
        return tf.lite.Interpreter(model_path=str(file), num_threads=threads)

    model = TFLiteModel(Path(file), interpreter=interpreter)
    return np.stack([model(image) for image in np.load("calibration.npy")[:CHECKED]])


if __name__ == "__main__":
    # Keras imports these if it can, to draw and to be fed from: a quarter of what all imports here take.
    sys.modules |= dict.fromkeys(("matplotlib", "pandas"))  # type: ignore[arg-type]
    try:
        main(Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    except Exception as error:
        # What is wrong is in the first lines; a dump of the whole graph may follow.
        what = [line[:200] for line in str(error).splitlines()[:8]]
        sys.exit("\n".join([*traceback.format_tb(error.__traceback__)[-1:], f"{type(error).__name__}:", *what]))

"""What export may be told."""

from dataclasses import dataclass, field

from castline.embedding.base_settings import ONNX
from castline.errors import ConfigError

__all__ = ["FILES", "FORMATS", "INT8_WAYS", "Allowance", "ExportSettings"]

FILES = {
    "onnx": ONNX,
    "float32": "model.tflite",
    "float16": "model_fp16.tflite",
    "int8": "model_int8.tflite",
}
FORMATS = tuple(FILES)

# Ways to eight bits, in the order in which they are tried; see castline.export.convert.
INT8_WAYS = ("full", "mixed", "float_activations")


@dataclass(frozen=True)
class Allowance:
    """Points, in percent, that a file may lose against the model on the test split: of top-1; of TPIR, each at its own
    threshold; and of any one person's accuracy. A single face, of all or of a person, is not counted as a loss of the
    last two: thresholds and persons hang on few faces."""

    top1: float = 0.0
    tpir: float = 0.0
    person: float = 0.0


@dataclass(frozen=True)
class ExportSettings:
    """The `export` section of params.yaml.

    calibration: training faces that int8 ranges are taken from. int8: ways to eight bits, tried in this order until one
    keeps as much as int8_cosine asks for: the mean cosine between what the file and what the model make of validation
    faces, their common part taken off. probes: faces, of the test and validation splits and strangers, to measure each
    file on; where they are fewer, training faces are looked at beside them. allowance: which files to make, and what
    each may lose; a file that loses more stops the stage. optional: files that the bundle may do without instead.
    """

    calibration: int = 200
    int8: list[str] = field(default_factory=lambda: list(INT8_WAYS))
    int8_cosine: float = 0.98
    probes: int = 200
    allowance: dict[str, Allowance] = field(default_factory=dict)
    optional: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for key, names, known in (
            ("allowance", list(self.allowance), FORMATS),
            ("optional", self.optional, FORMATS),
            ("int8", self.int8, INT8_WAYS),
        ):
            if unknown := sorted(set(names) - set(known)):
                raise ConfigError(f"export.{key}: unknown {', '.join(unknown)}", f"known are {', '.join(known)}")
        if "int8" in self.allowance and not self.int8:
            raise ConfigError(
                "export.int8 is empty, but an int8 file is to be made", f"known are {', '.join(INT8_WAYS)}"
            )

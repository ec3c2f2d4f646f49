"""What export may be told."""

from dataclasses import dataclass, field

from castline.errors import ConfigError

__all__ = ["FILES", "FORMATS", "ExportSettings"]

FILES = {
    "onnx": "model.onnx",
    "float32": "model.tflite",
    "float16": "model_fp16.tflite",
    "int8": "model_int8.tflite",
}
FORMATS = tuple(FILES)


@dataclass(frozen=True)
class ExportSettings:
    """The `export` section of params.yaml.

    calibration: training faces that int8 ranges are taken from. allowance: which files to make, and the points of
    top-1 on the test split, in percent, that each may lose against PyTorch; a file that loses more stops the stage.
    optional: files that the bundle may do without instead.
    """

    calibration: int = 200
    allowance: dict[str, float] = field(default_factory=dict)
    optional: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for key, names in (("allowance", self.allowance), ("optional", self.optional)):
            if unknown := sorted(set(names) - set(FORMATS)):
                raise ConfigError(f"export.{key}: unknown {', '.join(unknown)}", f"known are {', '.join(FORMATS)}")

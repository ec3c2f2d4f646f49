"""What training may be told. Light to import: composing params.yaml needs no torch."""

from dataclasses import dataclass

from castline.errors import ConfigError
from castline.faces.align import TEMPLATES

__all__ = ["HEADS", "BaseModelSettings", "HeadSettings", "TrainerSettings", "TrainingSettings"]

HEADS = ("softmax",)

_CHOICES: dict[str, tuple[str, ...]] = {
    "source": ("packaged",),
    "template": tuple(TEMPLATES),
    "commercial_ok": ("yes", "no", "unknown"),
}


@dataclass(frozen=True)
class BaseModelSettings:
    """The `base_model` section of params.yaml: which network, whose weights, and what it wants to see.

    name: for tables and model cards.
    source: packaged, the weights lie in an installed Python package.
    architecture: a timm name; `dlib_face_resnet` is registered by Castline.
    package, file, sha256: import name of the package, the file below it, and the bytes that it must hold.
    input_size: side of the square input, pixels.
    mean, std: three numbers, RGB, in units of 0..255; the network sees (image - mean) / std.
    template: how the input is cut from a chip, a key of castline.faces.align.TEMPLATES.
    embedding_size: numbers in an embedding.
    licence: of the weights, SPDX or words. commercial_ok: yes, no or unknown.

    Raises: ConfigError for a value that is not allowed.
    """

    name: str
    source: str
    architecture: str
    package: str
    file: str
    sha256: str
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    template: str
    embedding_size: int
    licence: str
    commercial_ok: str

    def __post_init__(self) -> None:
        for key, allowed in _CHOICES.items():
            if getattr(self, key) not in allowed:
                raise ConfigError(f"base_model.{key}={getattr(self, key)}, allowed are {', '.join(allowed)}")
        for key in ("mean", "std"):
            numbers = tuple(float(number) for number in getattr(self, key))  # YAML and JSON give lists
            if len(numbers) != 3 or (key == "std" and min(numbers) <= 0):
                raise ConfigError(f"base_model.{key}={list(numbers)}, wanted are three numbers, std above 0")
            object.__setattr__(self, key, numbers)
        for key in ("input_size", "embedding_size"):
            if getattr(self, key) < 1:
                raise ConfigError(f"base_model.{key}={getattr(self, key)}, wanted is 1 or more")


@dataclass(frozen=True)
class HeadSettings:
    """The `head` section of params.yaml.

    kind: softmax.
    dropout: share of the numbers that are left out at random in training, 0 or more and below 1.
    hidden: width of a layer between embedding and people; 0 for none.

    Raises: ConfigError for a value that is not allowed.
    """

    kind: str = "softmax"
    dropout: float = 0.0
    hidden: int = 0

    def __post_init__(self) -> None:
        if self.kind not in HEADS:
            raise ConfigError(f"head.kind={self.kind}, allowed are {', '.join(HEADS)}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"head.dropout={self.dropout}, allowed is 0 or more and below 1")
        if self.hidden < 0:
            raise ConfigError(f"head.hidden={self.hidden}, allowed is 0 or more")


@dataclass(frozen=True)
class TrainingSettings:
    """The `training` section of params.yaml.

    mode: full, all batches. start: pretrained or scratch, the base model's weights. tune: head, on cached features.
    seed: of random weights, dropout and the order of examples. epochs: at most; patience: epochs without a better validation loss before it stops.
    """

    mode: str = "full"
    start: str = "pretrained"
    tune: str = "head"
    seed: int = 1
    epochs: int = 100
    patience: int = 10
    batch_size: int = 64
    lr: float = 0.01
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        allowed = {"mode": ("full",), "start": ("pretrained", "scratch"), "tune": ("head",)}
        for key, values in allowed.items():
            if getattr(self, key) not in values:
                raise ConfigError(f"training.{key} is {getattr(self, key)!r}, allowed: {', '.join(values)}")
        for key in ("epochs", "patience", "batch_size", "lr"):
            if getattr(self, key) <= 0:
                raise ConfigError(f"training.{key} is {getattr(self, key)}, it has to be above 0")


@dataclass(frozen=True)
class TrainerSettings:
    """The `trainer` section of params.yaml: Lightning's accelerator and number of devices."""

    accelerator: str = "cpu"
    devices: int = 1

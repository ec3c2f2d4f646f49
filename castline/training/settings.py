"""What training may be told. Light to import: composing params.yaml needs no torch."""

from dataclasses import dataclass

from castline.errors import ConfigError

__all__ = ["HEADS", "HeadSettings", "TrainerSettings", "TrainingSettings"]

HEADS = ("softmax",)


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
    seed: of random weights, dropout and the order of examples. epochs: at most; patience: epochs without a better
    validation loss before it stops.
    """

    mode: str = "full"
    start: str = "pretrained"
    tune: str = "head"
    seed: int = 1
    epochs: int = 100
    patience: int = 10
    batch_size: int = 64
    lr: float = 0.001
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

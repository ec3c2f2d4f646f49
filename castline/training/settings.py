"""What training may be told. Light to import: composing params.yaml needs no torch."""

from dataclasses import dataclass, field

from castline.errors import ConfigError

__all__ = ["HEADS", "HeadSettings", "TrainerSettings", "TrainingSettings"]

HEADS = ("softmax", "cosine", "prototype")


@dataclass(frozen=True)
class HeadSettings:
    """The `head` section of params.yaml.

    kind: softmax, a linear classifier; cosine, the same on unit vectors, trained with a margin; prototype, each
    person's mean embedding, not trained.
    dropout: share of the numbers that are left out at random in training, 0 or more and below 1 (softmax).
    hidden: width of a layer between embedding and people; 0 for none (softmax).
    margin: what the right person has to win by in training (cosine): an angle in radians for arcface, a cosine for
    cosface. margin_kind: arcface or cosface.
    scale: what cosines are multiplied by before the softmax (cosine, prototype).

    Raises: ConfigError for a value that is not allowed.
    """

    kind: str = "softmax"
    dropout: float = 0.0
    hidden: int = 0
    margin: float = 0.0
    margin_kind: str = "arcface"
    scale: float = 16.0

    def __post_init__(self) -> None:
        if self.kind not in HEADS:
            raise ConfigError(f"head.kind={self.kind}, allowed are {', '.join(HEADS)}")
        if self.margin_kind not in ("arcface", "cosface"):
            raise ConfigError(f"head.margin_kind={self.margin_kind}, allowed are arcface, cosface")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"head.dropout={self.dropout}, allowed is 0 or more and below 1")
        if self.hidden < 0:
            raise ConfigError(f"head.hidden={self.hidden}, allowed is 0 or more")
        if not 0 <= self.margin < 1:
            raise ConfigError(f"head.margin={self.margin}, allowed is 0 or more and below 1")
        if self.scale <= 0:
            raise ConfigError(f"head.scale={self.scale}, it has to be above 0")
        if self.kind != "softmax" and (self.dropout or self.hidden):
            raise ConfigError(f"head.dropout and head.hidden are of the softmax head, not of {self.kind}")
        if self.kind != "cosine" and self.margin:
            raise ConfigError(f"head.margin is of the cosine head, not of {self.kind}")


@dataclass(frozen=True)
class TrainingSettings:
    """The `training` section of params.yaml.

    mode: full, all batches; or incremental, those that the version named by `start` has not seen.
    start: pretrained or scratch, the base model's weights; or a released version, recognizer@v1.0.0.
    tune: what is trained: head, on cached features; batchnorm, last_block or all, those layers of the base model and
    the head, on faces.
    seed: of random weights, dropout, augmentation and the order of examples. epochs: at most; patience: epochs without
    a better validation loss before it stops. balanced: every person is drawn equally often.
    lr: the steps that the head takes. base_pace: what part of them a pretrained base model takes, where it is tuned.
    exemplars: training faces a person whose features the released version keeps, to go on from.
    folds: so many heads are trained beside, each without its share of the people, who are strangers to it: so it is
    known what confidence strangers are given. 0 does without.
    beside: dropouts of further heads that are trained alike, for the curves in the report alone.
    """

    mode: str = "full"
    start: str = "pretrained"
    tune: str = "head"
    seed: int = 1
    epochs: int = 100
    patience: int = 10
    batch_size: int = 64
    lr: float = 0.001
    base_pace: float = 0.1
    weight_decay: float = 0.0
    balanced: bool = False
    exemplars: int = 10
    folds: int = 3
    beside: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        allowed = {"mode": ("full", "incremental"), "tune": ("head", "batchnorm", "last_block", "all")}
        for key, values in allowed.items():
            if getattr(self, key) not in values:
                raise ConfigError(f"training.{key} is {getattr(self, key)!r}, allowed: {', '.join(values)}")
        if self.start not in ("pretrained", "scratch") and not self.version:
            raise ConfigError(
                f"training.start is {self.start!r}, allowed: pretrained, scratch, or a version: recognizer@v1.0.0"
            )
        if self.mode == "incremental" and not self.version:
            raise ConfigError(
                f"training.start is {self.start!r}, but incremental training goes on from a released version",
                "-S training.start=recognizer@v1.0.0; `castline versions` lists them",
            )
        if self.mode == "incremental" and self.tune != "head":
            raise ConfigError(
                f"training.tune is {self.tune!r}, but incremental training tunes the head: what the version remembers "
                "of people whose photos are elsewhere are features of its base model",
                "-S training.tune=head, or -S training.mode=full",
            )
        for key in ("epochs", "patience", "batch_size", "lr", "base_pace", "exemplars"):
            if getattr(self, key) <= 0:
                raise ConfigError(f"training.{key} is {getattr(self, key)}, it has to be above 0")
        if self.folds < 0 or self.folds == 1:
            raise ConfigError(f"training.folds is {self.folds}, allowed: 0, or 2 and more")
        if not all(0 <= dropout < 1 for dropout in self.beside):
            raise ConfigError(f"training.beside is {list(self.beside)}, wanted are dropouts, 0 or more and below 1")

    @property
    def version(self) -> str:
        """v1.0.0 where `start` is recognizer@v1.0.0, else nothing."""
        name, _, version = self.start.partition("@")
        return version if name == "recognizer" and version.startswith("v") else ""


@dataclass(frozen=True)
class TrainerSettings:
    """The `trainer` section of params.yaml: what trains, where faces and not features are trained on.

    accelerator: cpu or gpu. devices: how many of them, each a process of its own. strategy: auto for one process; ddp,
    several on this machine that share each batch and agree on each step.
    precision: 32-true; or bf16-mixed or 16-mixed, where the hardware has it: half the memory, and quicker on a card.
    workers: processes beside each that trains, to change pictures.

    Raises: ConfigError for a value that is not allowed.
    """

    accelerator: str = "cpu"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    workers: int = 0

    def __post_init__(self) -> None:
        allowed = {
            "accelerator": ("cpu", "gpu"),
            "strategy": ("auto", "ddp"),
            "precision": ("32-true", "bf16-mixed", "16-mixed"),
        }
        for key, values in allowed.items():
            if getattr(self, key) not in values:
                raise ConfigError(f"trainer.{key} is {getattr(self, key)!r}, allowed: {', '.join(values)}")
        if self.devices < 1 or self.workers < 0:
            raise ConfigError(
                f"trainer.devices is {self.devices} and trainer.workers is {self.workers}, "
                "wanted are 1 or more and 0 or more"
            )
        if self.devices > 1 and self.strategy != "ddp":
            raise ConfigError(
                f"trainer.devices is {self.devices}, but trainer.strategy is {self.strategy}",
                "-S trainer.strategy=ddp, or -S trainer.devices=1",
            )
        if self.accelerator == "cpu" and self.precision == "16-mixed":
            raise ConfigError(
                "trainer.precision is 16-mixed, which processors do not have",
                "-S trainer.precision=bf16-mixed, or 32-true",
            )

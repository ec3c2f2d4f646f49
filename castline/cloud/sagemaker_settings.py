"""What a job on SageMaker is to run on, and what that may take: time and money, as far as they can be known before."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from castline.errors import ConfigError

__all__ = ["Estimate", "Rates", "SageMakerSettings", "Work", "estimate"]

PATH = Path("conf/sagemaker.yaml")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}")
_IMAGE = re.compile(r"[\w][\w./:@-]{0,254}")
_TYPE = re.compile(r"ml\.([a-z])[a-z0-9-]*\.(?:(\d*)xlarge|large|medium)")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


@dataclass(frozen=True)
class Rates:
    """Seconds of one processor. features and tuning: by the base model's name."""

    setup: float = 300.0
    head: float = 0.0
    features: dict[str, float] = field(default_factory=dict)
    tuning: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SageMakerSettings:
    """conf/sagemaker.yaml, where each is said; prices: dollars an hour by instance type."""

    role: str = ""
    image: str = ""
    region: str = ""
    instance_type: str = "ml.m5.xlarge"
    volume_gb: int = 30
    max_hours: float = 4.0
    prices: dict[str, float] = field(default_factory=dict)
    prices_read: str = ""
    rates: Rates = Rates()

    def __post_init__(self) -> None:
        for name, value, pattern, example in (
            ("role", self.role, _ROLE, "arn:aws:iam::123456789012:role/NAME"),
            ("image", self.image, _IMAGE, "123456789012.dkr.ecr.REGION.amazonaws.com/NAME:TAG"),
            ("region", self.region, _REGION, "eu-central-1"),
            ("instance_type", self.instance_type, _TYPE, "ml.m5.xlarge"),
        ):
            if value and not pattern.fullmatch(value):
                raise ConfigError(f"sagemaker.{name} is {value!r}: it looks like {example}", _mend(name))
        if not 1 <= self.volume_gb <= 16384:
            raise ConfigError(f"sagemaker.volume_gb is {self.volume_gb}: from 1 to 16384")
        if not 0.1 <= self.max_hours <= 672:
            raise ConfigError(f"sagemaker.max_hours is {self.max_hours:g}: from 0.1 to 672, which is 28 days")
        if self.prices and not self.prices_read:
            raise ConfigError("sagemaker.prices_read is empty: prices change", "the date on which you read them")

    def check(self) -> None:
        """Raises: ConfigError when a job could not be made of it."""
        for name in ("role", "image", "instance_type"):
            if not getattr(self, name):
                raise ConfigError(f"sagemaker.{name} is not set", _mend(name))

    @property
    def processors(self) -> int:
        """How many the instance type has, as AWS names them: large two, xlarge four, Nxlarge N times as many."""
        found = _TYPE.fullmatch(self.instance_type)
        if found is None or found[2] is None:
            return 2
        return 4 * int(found[2] or 1)

    @property
    def has_gpu(self) -> bool:
        """Whether the instance type is of a family with graphics cards of NVIDIA's: g or p."""
        found = _TYPE.fullmatch(self.instance_type)
        return found is not None and found[1] in "gp"


def _mend(name: str) -> str:
    return f"set it in {PATH} and commit that, or --{name.replace('_', '-')}"


@dataclass(frozen=True)
class Work:
    """How much a job has to do. faces: in all batches; views: pictures of each that features are computed of, none when
    they are there. tuned: whether the base model is trained, too."""

    base_model: str
    faces: int
    epochs: int
    tuned: bool
    views: int


@dataclass(frozen=True)
class Estimate:
    """seconds: until the job ends, if no epoch is spared. words: on what both stand. dollars: None without a price."""

    seconds: float
    dollars: float | None
    words: str

    def lines(self) -> list[str]:
        """As it is said to people."""
        cost = "no price is known" if self.dollars is None else f"about ${self.dollars:.2f}"
        return [f"estimated: at most about {max(1, round(self.seconds / 60))} minutes, {cost}", f"  {self.words}"]


def estimate(work: Work, settings: SageMakerSettings, price: float | None, spot: bool) -> Estimate:
    """What a job may take. price: dollars an hour; None takes that of the settings."""
    rates, model = settings.rates, work.base_model
    seconds = work.faces * work.views * _rate(rates.features, model)
    seconds += work.faces * work.epochs * (_rate(rates.tuning, model) if work.tuned else rates.head)
    total = rates.setup + seconds / (settings.processors if work.tuned or work.views else 1)
    words = [f"{work.faces} faces, {work.epochs} epochs at most", f"{seconds:.0f} s of one processor's time"]
    words.append(f"{settings.processors} processors, and {rates.setup:.0f} s to begin with")
    if settings.has_gpu:
        words.append("the graphics card, which was not measured, left out")
    for name, table, used in (("features", rates.features, work.views), ("tuning", rates.tuning, work.tuned)):
        if used and model not in table:
            words.append(f"{name} of {model} not measured: " + ("as the slowest that was" if table else "not counted"))
    if not work.tuned and not rates.head:
        words.append("a head's epochs not measured: not counted")
    if price is None:
        price = settings.prices.get(settings.instance_type)
        if price is None:
            words.append(f"for money: --price, or prices in {PATH}")
        else:
            words.append(f"${price:g} an hour of {settings.instance_type}, read on {settings.prices_read}")
    else:
        words.append(f"${price:g} an hour")
    if spot and price is not None:
        words.append("a spot instance costs less, nobody knows how much, and may take longer")
    return Estimate(total, None if price is None else total / 3600 * price, "; ".join(words))


def _rate(table: Mapping[str, float], model: str) -> float:
    return table.get(model, max(table.values(), default=0.0))

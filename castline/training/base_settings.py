"""What a base model's entry in conf/base_model/ says. Light to import: composing params.yaml needs no torch."""

from dataclasses import dataclass

from castline.errors import ConfigError
from castline.faces.align import TEMPLATES

__all__ = ["BaseModelSettings"]

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

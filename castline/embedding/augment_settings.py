"""How pictures of faces may be changed for training. Light to import: composing params.yaml needs no albumentations."""

from dataclasses import dataclass

from castline.errors import ConfigError

__all__ = ["AugmentationSettings"]

_SHARES = ("flip", "blur", "noise", "gray", "dropout")  # probabilities
_REACHES = {"shift": 0.2, "scale": 0.3, "rotate": 30.0, "brightness": 0.5, "contrast": 0.5}  # and how far is too far


@dataclass(frozen=True)
class AugmentationSettings:
    """The `augmentation` section of params.yaml. All of it keeps the person who they are: no colour is turned, no face
    is bent.

    name: for tables and cards. views: pictures of each face that features are computed of, the plain one among them.
    Drawn anew for each picture, evenly up to what is named: shift, either way, as a share of the side; scale, up or
    down; rotate, degrees; brightness and contrast, up or down, 1 for all there is; jpeg, the lowest quality it is saved
    with, 100 for not at all.
    Probabilities: flip, mirrored; blur and noise, of a cheap camera; gray, without colour; dropout, a grey patch over
    at most a third of either side, as of a hand or a cup.

    Raises: ConfigError for a value that is not allowed.
    """

    name: str = "none"
    views: int = 1
    flip: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    rotate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    jpeg: int = 100
    blur: float = 0.0
    noise: float = 0.0
    gray: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for key, most in {**dict.fromkeys(_SHARES, 1.0), **_REACHES}.items():
            if not 0 <= getattr(self, key) <= most:
                raise ConfigError(f"augmentation.{key} is {getattr(self, key)}, allowed: 0 to {most:g}")
        if not 10 <= self.jpeg <= 100:
            raise ConfigError(f"augmentation.jpeg is {self.jpeg}, allowed: 10 to 100")
        if not 1 <= self.views <= 100:
            raise ConfigError(f"augmentation.views is {self.views}, allowed: 1 to 100")
        if self.views > 1 and not self.changes:
            raise ConfigError(
                f"augmentation.views is {self.views}, but augmentation={self.name} changes nothing: all would be alike",
                f"-S augmentation=light -S augmentation.views={self.views}",
            )

    @property
    def changes(self) -> bool:
        """Whether anything is changed at all."""
        return self.jpeg < 100 or any(getattr(self, key) > 0 for key in (*_SHARES, *_REACHES))

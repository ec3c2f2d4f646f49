"""What may be asked of the word "unknown"."""

from dataclasses import dataclass

from castline.errors import ConfigError

__all__ = ["OpenSetSettings"]


@dataclass(frozen=True)
class OpenSetSettings:
    """The `open_set` section of params.yaml.

    fpir: the share of strangers' faces that may be given a name; a threshold is fitted to it.
    by: what is held against the threshold: similarity, to the nearest person's training faces; or confidence, of the
    name.
    """

    fpir: float = 0.01
    by: str = "similarity"

    def __post_init__(self) -> None:
        if not 0 < self.fpir < 1:
            raise ConfigError(f"open_set.fpir is {self.fpir:g}, it is a share: above 0 and below 1")
        if self.by not in ("similarity", "confidence"):
            raise ConfigError(f"open_set.by is {self.by!r}, allowed: similarity, confidence")

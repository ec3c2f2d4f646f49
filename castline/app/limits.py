"""How much the app takes from one person at once; more is refused with a message."""

from dataclasses import dataclass

from castline.errors import ConfigError

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """picture_mb, video_mb: of a file. pictures: at once. megapixels: of a picture. video_minutes: of a video, by its
    own timestamps. seconds: that one picture may take before it is given up. processes: that look at pictures and
    videos; at least two, so that a video does not keep pictures waiting.
    """

    picture_mb: float = 25.0
    pictures: int = 20
    megapixels: float = 80.0
    video_mb: float = 200.0
    video_minutes: float = 15.0
    seconds: float = 60.0
    processes: int = 2

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"{name.replace('_', '-')} is {value:g}", "a number above 0")
        if self.processes < 2:
            raise ConfigError("one process would keep pictures waiting for a video", "processes: 2 or more")

"""Settings of reading photos. Light to import: composing params.yaml needs no Pillow."""

from dataclasses import dataclass

from castline.errors import ConfigError

__all__ = ["PhotoSettings"]


@dataclass(frozen=True)
class PhotoSettings:
    """The `photos` section of params.yaml.

    max_megapixels: larger pictures are rejected unread, by the size that their header states (at most 178, where
        Pillow itself refuses).
    max_file_mb: larger files are rejected unread.
    min_side: pictures with a shorter side, in pixels, are rejected.
    decode_side: JPEGs are decoded at 1/2, 1/4 or 1/8 as long as the longest side stays at least this, in pixels. A
        face a tenth as wide as the photo then still fills a chip.
    """

    max_megapixels: float = 80.0
    max_file_mb: float = 200.0
    min_side: int = 16
    decode_side: int = 2048

    def __post_init__(self) -> None:
        if not 0 < self.max_megapixels <= 178:
            raise ConfigError(
                f"photos.max_megapixels is {self.max_megapixels:g}: it has to lie between 0 and 178",
                "edit conf/photos.yaml, then: castline compose",
            )

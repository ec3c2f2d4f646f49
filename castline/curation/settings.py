"""What curation may be told."""

from dataclasses import dataclass

from castline.errors import ConfigError

__all__ = ["CurationSettings", "SplitSettings"]


@dataclass(frozen=True)
class CurationSettings:
    """The `curation` section of params.yaml. Similarities are cosines of centred reference embeddings, -1 to 1.

    min_agreement: in a photo of several faces, the labelled person's has to be at least this similar to that
        person's other photos.
    min_lead: and more similar than the photo's next face, by at least this.
    duplicate_bits: chips whose 256-bit hashes differ in at most this many bits count as near-duplicates.
    min_faces: people with fewer usable faces are left out.
    """

    min_agreement: float = 0.35
    min_lead: float = 0.1
    duplicate_bits: int = 40
    min_faces: int = 2


@dataclass(frozen=True)
class SplitSettings:
    """The `split` section of params.yaml.

    test, val: the shares of each person's photos to be tested on and to stop training by; the rest is trained on.
    salt: another one gives another split.
    """

    test: float = 0.2
    val: float = 0.1
    salt: str = "castline"

    def __post_init__(self) -> None:
        if not (0 < self.test < 1 and 0 < self.val < 1 and self.test + self.val < 1):
            raise ConfigError(
                f"split.test is {self.test:g} and split.val {self.val:g}: both have to be above 0, their sum below 1",
                "edit conf/split.yaml, then: castline compose",
            )

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
    min_similarity: a face that is less similar to the person's other photos is left out as somebody else's.
    max_rival_lead: so is one that is more similar to another person's photos than to those, by more than this.
    doubtful_similarity, doubtful_rival_lead: at these it is kept, and `castline review` shows it.
    min_eye_distance: pixels of the photo between the eyes of a face that is large enough.
    min_sharpness: see castline.faces.quality; blurred faces are far below the default, soft ones above.
    min_brightness, max_brightness, min_contrast: mean and standard deviation of a face's grey values, 0 to 255.
    max_yaw: degrees that a face may be turned aside; profiles are at about 60.
    duplicate_bits: chips whose 256-bit hashes differ in at most this many bits are of the same photo.
    duplicate_likeness: so are those that correlate at least this much once they are laid on each other.
    min_faces: people with fewer usable faces are left out.
    """

    min_agreement: float = 0.35
    min_lead: float = 0.1
    min_similarity: float = 0.25
    max_rival_lead: float = 0.15
    doubtful_similarity: float = 0.35
    doubtful_rival_lead: float = 0.05
    min_eye_distance: float = 12.0
    min_sharpness: float = 0.2
    min_brightness: float = 30.0
    max_brightness: float = 225.0
    min_contrast: float = 10.0
    max_yaw: float = 70.0
    duplicate_bits: int = 40
    duplicate_likeness: float = 0.965
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

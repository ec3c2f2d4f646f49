"""Settings of looking for faces. Light to import: composing params.yaml needs no NumPy."""

from dataclasses import dataclass

__all__ = ["DetectorSettings"]


@dataclass(frozen=True)
class DetectorSettings:
    """The `detector` section of params.yaml.

    name: blazeface, mtcnn, yunet or haar.
    min_score: faces below it are left out; 0 to 1.
    max_overlap: of two boxes with a larger intersection over union, one is left.
    paddings: borders to try in turn, as a fraction of the photo's longer side, until a face is found. Detectors
        are trained on photos with a head in them, so a tight crop needs a border to look like one.
    max_side: the photo is shrunk to this longest side, in pixels, before detection.
    tiles: look again in overlapping square tiles, so many along the longer side; 0 and 1: don't. For group photos under
        blazeface, which sees everything at 192 pixels: with 4, it finds 86 instead of 55 faces in 18 group photos, at
        a dozen times the cost. Photos of one or two people gain next to nothing.
    file, sha256: the weight file of a detector that no package carries (yunet).
    """

    name: str = "blazeface"
    min_score: float = 0.5
    max_overlap: float = 0.3
    paddings: tuple[float, ...] = (0.0, 0.35, 0.75)
    max_side: int = 1280
    tiles: int = 0
    file: str = ""
    sha256: str = ""

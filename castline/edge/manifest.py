"""What a release for devices is made of: its version, the program that it needs, and every file by its hash.

A release is one zip, and unpacked one folder that `castline.runtime.Recognizer` opens: labels, thresholds and model
travel together or not at all.

recognizer-VERSION.zip
    manifest.json        what this module reads and writes
    bundle.json, head.safetensors, detector.tflite, and one of the bundle's model files
    golden.jpg, golden.json   a picture, and what this release makes of it: castline.edge.golden
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from castline.errors import ReleaseError

__all__ = ["FORMAT", "LARGEST", "MANIFEST", "NEEDS", "Manifest", "Packed", "numbers_of"]

FORMAT = 1
MANIFEST = "manifest.json"
NEEDS = "0.1.0"  # the oldest castline that runs releases of this format
LARGEST = 256 * 2**20  # bytes of all files: the largest base model there is takes 130 MB in float32

# Of a git tag, or a bundle's hash where there is none: it names folders on devices.
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(\+[0-9a-z]{1,64})?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.[A-Za-z0-9]{1,16})+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Packed:
    """A file of a release. sha256: hex."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says.

    version: X.Y.Z, or X.Y.Z+HASH of what was never tagged. model: which of the bundle's files it is, such as float16.
    files: all but manifest.json, by name. castline: the oldest program that runs it.
    """

    version: str
    model: str
    files: Mapping[str, Packed]
    castline: str = NEEDS
    format: int = FORMAT

    def __post_init__(self) -> None:
        numbers_of(self.castline)
        if not _VERSION.fullmatch(self.version):
            raise ReleaseError(f"the version {self.version[:100]!r} is not one", "it looks like 1.2.3 or 0.0.0+5f3a")
        for name, file in self.files.items():
            if not _NAME.fullmatch(name) or name == MANIFEST:
                raise ReleaseError(f"{name[:100]!r} is no name for a file of a release")
            if not _SHA256.fullmatch(file.sha256) or not 0 <= file.bytes <= LARGEST:
                raise ReleaseError(f"{name}: no sha256 or size")
        if sum(file.bytes for file in self.files.values()) > LARGEST:
            raise ReleaseError(f"its files have more than {LARGEST // 2**20} MiB")

    def json_bytes(self) -> bytes:
        """As manifest.json; the same manifest gives the same bytes."""
        return (json.dumps(asdict(self), indent=2, sort_keys=True) + "\n").encode()

    @property
    def digest(self) -> str:
        """SHA-256 of manifest.json, hex: of everything that is in the release."""
        return hashlib.sha256(self.json_bytes()).hexdigest()

    @classmethod
    def parse(cls, data: bytes) -> "Manifest":
        """What `json_bytes` gave.

        Raises: ReleaseError for anything else.
        """
        try:
            values = json.loads(data)
            if isinstance(values, dict) and values.get("format") != FORMAT:
                raise ReleaseError(
                    f"{MANIFEST}: format {str(values.get('format'))[:20]}, this program reads {FORMAT}",
                    "update the program on the device",
                )
            manifest = cls(**{**values, "files": {name: Packed(**file) for name, file in values["files"].items()}})
            if not all(map(_is_text, (manifest.version, manifest.model, manifest.castline))):
                raise TypeError("text expected")
            if manifest.json_bytes() != data:
                raise ValueError("not byte for byte")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ReleaseError(f"{MANIFEST}: not as Castline writes it ({str(error)[:200]})") from error
        return manifest


def numbers_of(version: str) -> tuple[int, ...]:
    """X.Y.Z as numbers, to compare; what stands behind them is left out.

    >>> numbers_of("0.10.2.dev1") > numbers_of("0.9.0")
    True

    Raises: ReleaseError.
    """
    found = re.match(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})", version)
    if not found:
        raise ReleaseError(f"{version[:100]!r} is no version of castline")
    return tuple(map(int, found.groups()))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)

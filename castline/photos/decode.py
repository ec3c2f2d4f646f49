"""Files of any origin, decoded once and safely: upright RGB pixels, or the reason why not.

A photo that cannot be used is not an accident but a row in a table, so every failure is a `Rejected` with a short
reason that can be counted and a detail that can be read.
"""

import hashlib
import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from castline.photos.settings import PhotoSettings

__all__ = ["Photo", "Rejected", "decode", "read"]

# Pillow's other readers stay shut (JPEG reads MPO too): some start programs (EPS), none is a format that photos
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

_BLOCK = 2**16  # bytes, read beyond what a file has by its own account

# What brings each EXIF orientation upright, and which of them swap width and height.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_UPRIGHT[orientation] for orientation in (5, 6, 7, 8)}


class Rejected(Exception):
    """A photo that cannot be used. `reason` is one of a few words that are counted; `detail` is for reading."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    image: RGB, upright (EXIF orientation applied), perhaps reduced.
    width, height: of the upright photo before reduction, in pixels.
    sha256: of the file's bytes, hex.
    """

    image: Image.Image
    width: int
    height: int
    sha256: str

    @property
    def scale(self) -> float:
        """Pixels of the upright photo per pixel of `image`, at least 1."""
        return self.width / self.image.width


def read(path: Path, settings: PhotoSettings) -> bytes:
    """The bytes of a regular file. Of one that grows while it is read, one byte more than the limit at most.

    Raises: Rejected.
    """
    limit = int(settings.max_file_mb * 1e6)
    try:
        with open(path, "rb", buffering=0, opener=_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Rejected("unreadable", "not a file but a pipe or a device")
            size, left, parts = status.st_size, limit + 1, []
            while size <= limit and left and (part := file.read(min(left, size + _BLOCK))):
                parts.append(part)
                left -= len(part)
    except OSError as error:
        raise Rejected("unreadable", error.strerror or type(error).__name__) from error
    if size > limit or not left:
        raise Rejected("file_too_large", f"{max(size, limit) / 1e6:.0f} MB, the limit is {settings.max_file_mb:g} MB")
    return b"".join(parts)


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for whoever might write to a pipe; where there are no such pipes, as ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def decode(data: bytes, settings: PhotoSettings) -> Photo:
    """Decode the bytes of one picture; of an animation, the first frame.

    Transparency is laid over white, 16-bit pictures are brought to 8 bits, CMYK to RGB.

    Raises: Rejected, whatever the bytes are.
    """
    if not data:
        raise Rejected("empty_file", "0 bytes")
    try:
        with warnings.catch_warnings():
            # Pillow warns of many large or odd files; what matters of it is checked here.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            return _decode(image, data, settings)
    except Rejected:
        raise
    except Image.DecompressionBombError as error:
        raise Rejected("too_many_pixels", str(error).rstrip(".")) from error
    except UnidentifiedImageError as error:
        raise Rejected("not_a_picture", _guess(data)) from error
    except Exception as error:  # hostile files raise anything: struct.error, SyntaxError, ZeroDivisionError, ...
        reason = "truncated" if "truncated" in str(error).lower() else "undecodable"
        raise Rejected(reason, f"{type(error).__name__}: {error}") from error


def _decode(image: Image.Image, data: bytes, settings: PhotoSettings) -> Photo:
    width, height = image.size
    if width * height > settings.max_megapixels * 1e6:
        detail = f"{width}×{height}, the limit is {settings.max_megapixels:g} megapixels (photos.max_megapixels)"
        raise Rejected("too_many_pixels", detail)
    if min(width, height) < settings.min_side:
        raise Rejected("too_small", f"{width}×{height}, the shorter side has to be {settings.min_side} pixels")
    if max(width, height) > settings.decode_side:
        side = settings.decode_side / max(width, height)
        image.draft("RGB", (int(np.ceil(width * side)), int(np.ceil(height * side))))
    image.load()
    rgb = _rgb(image)
    turn = _UPRIGHT.get(_orientation(image))
    if turn is not None:
        rgb = rgb.transpose(turn)
        if turn in _SIDEWAYS:
            width, height = height, width
    return Photo(rgb, width, height, hashlib.sha256(data).hexdigest())


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; broken EXIF is no reason to lose a photo."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16 bits a pixel, perhaps in 32
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise Rejected("undecodable", "floating-point pixels: save it as an 8-bit picture")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _guess(data: bytes) -> str:
    """What a file that is no picture might be, in words for its owner."""
    head = data[:512].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<script")):
        return "it is a web page"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "HEIC is not supported: save it as JPEG"
    return f"no known picture format in {len(data)} bytes; known are {', '.join(FORMATS)}"

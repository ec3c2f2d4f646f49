import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from castline.errors import ConfigError
from castline.photos.decode import Rejected, decode, read
from castline.photos.settings import PhotoSettings

SETTINGS = PhotoSettings()


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def corners(width: int = 96, height: int = 64) -> Image.Image:
    """Four coloured quarters, so that every turn and mirroring can be told from every other."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (250, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 250, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 250)
    pixels[height // 2 :, width // 2 :] = (250, 250, 250)
    return Image.fromarray(pixels)


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is large in a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_file"),
        (b"<html><body>404</body></html>", "not_a_picture"),
        (b"\x00" * 4096, "not_a_picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_a_picture"),
        (encoded(corners(), "JPEG")[:700], "truncated"),
        (encoded(corners(), "PNG")[:90], "truncated"),
        (encoded(Image.new("RGB", (1, 1)), "PNG"), "too_small"),
        (encoded(Image.new("RGB", (2000, 3)), "PNG"), "too_small"),
        (bomb(10_000, 10_000), "too_many_pixels"),
        (bomb(60_000, 60_000), "too_many_pixels"),
        (encoded(Image.fromarray(np.ones((32, 32), np.float32)), "TIFF"), "undecodable"),
    ],
)
def test_what_cannot_be_used_is_rejected_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        decode(data, SETTINGS)
    assert rejected.value.reason == reason
    assert rejected.value.detail


@given(st.binary(max_size=300), st.integers(0, 2000))
@settings(max_examples=200)
def test_no_bytes_raise_anything_else(noise: bytes, at: int) -> None:
    good = encoded(corners(), "JPEG")
    for data in (noise, good[:at] + noise + good[at + len(noise) :]):
        try:
            photo = decode(data, SETTINGS)
        except Rejected as rejected:
            assert rejected.reason
        else:
            assert photo.image.mode == "RGB"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(orientation: int) -> None:
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = corners() if orientation == 1 else corners().transpose(back[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decode(encoded(stored, "JPEG", exif=exif, quality=95), SETTINGS)
    assert (photo.width, photo.height) == photo.image.size == (96, 64)
    difference = np.abs(np.asarray(photo.image, int) - np.asarray(corners(), int))
    assert np.median(difference) < 10
    assert difference.mean() < 12


def test_broken_exif_is_no_reason_to_lose_a_photo() -> None:
    photo = decode(encoded(corners(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff" + b"\xff" * 40), SETTINGS)
    assert photo.image.size == (96, 64)


def test_sixteen_bits_keep_their_range() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    photo = decode(encoded(Image.fromarray(ramp), "PNG"), SETTINGS)
    grey = np.asarray(photo.image)[..., 0].astype(int)
    assert np.abs(grey - (ramp >> 8)).max() <= 1


def test_transparency_is_laid_over_white() -> None:
    photo = decode(encoded(Image.new("RGBA", (32, 32), (255, 0, 0, 0)), "PNG"), SETTINGS)
    assert photo.image.getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("format", "mode"), [("JPEG", "CMYK"), ("GIF", "P"), ("WEBP", "RGB"), ("PNG", "1"), ("TIFF", "L")]
)
def test_modes_and_formats_become_rgb(format: str, mode: str) -> None:
    photo = decode(encoded(corners().convert(mode), format), SETTINGS)
    assert photo.image.mode == "RGB"
    assert photo.image.size == (96, 64)


def test_a_large_jpeg_is_decoded_reduced_and_says_so() -> None:
    photo = decode(encoded(corners(4000, 3000), "JPEG"), PhotoSettings(decode_side=1000))
    assert photo.image.size == (1000, 750)
    assert (photo.width, photo.height, photo.scale) == (4000, 3000, 4.0)


def test_files_are_not_read_beyond_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(b"x" * 2_000_000)
    with pytest.raises(Rejected, match="file_too_large"):
        read(path, PhotoSettings(max_file_mb=1))
    with pytest.raises(Rejected, match="unreadable"):
        read(tmp_path / "absent.jpg", SETTINGS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "zero.jpg", "folder.jpg"):
        with pytest.raises(Rejected, match="unreadable"):
            read(tmp_path / name, SETTINGS)
    writer = os.open(tmp_path / "pipe.jpg", os.O_RDWR)  # also where somebody writes
    with pytest.raises(Rejected, match="pipe or a device"):
        read(tmp_path / "pipe.jpg", SETTINGS)
    os.close(writer)


@pytest.mark.parametrize("size", [0, 999_999, 1_000_000, 1_000_001, 10**11])
def test_a_file_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """By its own account it is empty; the largest would fill any memory."""
    path = tmp_path / "growing.jpg"
    path.touch()
    empty = path.stat()
    os.truncate(path, size)
    monkeypatch.setattr(os, "fstat", lambda handle: empty)
    if size > 1_000_000:
        with pytest.raises(Rejected, match="file_too_large"):
            read(path, PhotoSettings(max_file_mb=1))
    else:
        assert read(path, PhotoSettings(max_file_mb=1)) == bytes(size)


def test_limits_that_pillow_cannot_keep_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_megapixels"):
        PhotoSettings(max_megapixels=500)

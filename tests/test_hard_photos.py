"""Files of every bad kind through the faces stage: each is counted, with a reason, and none stops it."""

import io
import os
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from projects import ROOT, copy, make_project, run

from castline.files import tables
from castline.photos.decode import decode
from castline.photos.settings import PhotoSettings

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is odd about a file also has to come back from the process that found it."""
    monkeypatch.setenv("CASTLINE_WORKERS", "2")


def png_that_says(width: int, height: int) -> bytes:
    """A decompression bomb: a header that promises more than a few bytes can hold."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


def sixteen_bit(path: Path) -> bytes:
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()


def fill(batch: Path) -> dict[str, str]:
    """Put made files into the batch; their names and the reason each has to be rejected for, "" for a face."""
    good = ROOT / "sample/photos/first/alma/alma_01.jpg"
    jpeg = good.read_bytes()
    one_pixel = io.BytesIO()
    Image.new("RGB", (1, 1)).save(one_pixel, "PNG")
    files = {
        "alma/good.jpg": (jpeg, ""),
        "alma/again.jpg": (jpeg, ""),
        "alma/with space 'and' \"quotes\".jpg": (jpeg, ""),
        "alma/new\nline.jpg": (jpeg, ""),
        "alma/żółć 名前 🙂.jpg": (jpeg, ""),
        "alma/..jpg": (jpeg, "not_a_photo"),
        "alma/...dots...jpg": (jpeg, "not_a_photo"),
        "alma/sixteen bits.png": (sixteen_bit(good), ""),
        "; rm -rf $(HOME) & <b>/x.jpg": (jpeg, ""),
        "; rm -rf $(HOME) & <b>/y.jpg": (jpeg, ""),
        "bruno/truncated.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "bruno/empty.jpg": (b"", "empty_file"),
        "bruno/pixel.png": (one_pixel.getvalue(), "too_small"),
        "bruno/bomb.png": (png_that_says(10_000, 10_000), "too_many_pixels"),
        "bruno/larger bomb.png": (png_that_says(2**30, 2**30), "too_many_pixels"),
        "bruno/noise.jpg": (os.urandom(5000), "not_a_picture"),
    }
    for name, (data, _) in files.items():
        (batch / name).parent.mkdir(parents=True, exist_ok=True)
        (batch / name).write_bytes(data)
    (batch / "alma/loop.jpg").symlink_to("loop.jpg")
    (batch / "alma/gone.jpg").symlink_to("../nowhere.jpg")
    (batch / "alma/up").symlink_to(batch)
    os.mkfifo(batch / "alma/pipe.jpg")
    Path(os.fsdecode(os.fsencode(batch) + b"/alma/bad\xff.jpg")).write_bytes(jpeg)
    links = {"alma/loop.jpg": "broken_link", "alma/gone.jpg": "broken_link", "alma/up": "folder_link"}
    odd = {"alma/pipe.jpg": "not_a_file", "alma/bad\\xff.jpg": "bad_name"}
    return {name: reason for name, (_, reason) in files.items()} | links | odd


def check(project: Path, expected: dict[str, str], batch: str) -> None:
    faces = tables.read(project / f"build/faces/{batch}.parquet").to_pylist()
    rejects = tables.read(project / f"build/faces/{batch}.rejects.parquet").to_pylist()
    found = {row["photo"]: row["reason"] for row in rejects} | {row["photo"]: "" for row in faces}
    assert found == expected
    assert len(rejects) == sum(reason != "" for reason in expected.values())
    assert all(row["detail"] for row in rejects)


def test_made_files(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    batch = tmp_path / "odd photos"
    expected = fill(batch)
    shown = run(project, "castline", "data", "use", str(batch), "--batch", "odd")
    assert "broken link" in shown
    # Through DVC, which alone would stop at the links and the pipe.
    output = run(project, "dvc", "repro", "faces")
    assert "Traceback" not in output
    check(project, expected, "odd")


def test_files_from_the_wild(tmp_path: Path, testdata: Path) -> None:
    project = make_project(tmp_path / "project")
    hard = testdata / "fixtures" / "hard"
    batch = tmp_path / "hard"
    copy(hard, batch / "somebody")
    copy(ROOT / "sample/photos/first/alma/alma_01.jpg", batch / "alma/1.jpg")
    copy(ROOT / "sample/photos/first/alma/alma_02.jpg", batch / "alma/2.jpg")
    run(project, "castline", "data", "use", str(batch), "--batch", "hard")
    run(project, "dvc", "repro", "faces")
    faces = tables.read(project / "build/faces/hard.parquet").to_pylist()
    rejects = tables.read(project / "build/faces/hard.rejects.parquet").to_pylist()
    files = {path.relative_to(batch).as_posix() for path in batch.rglob("*") if path.is_file()}
    assert {row["photo"] for row in faces} | {row["photo"] for row in rejects} == files
    assert not {row["photo"] for row in faces} & {row["photo"] for row in rejects}
    unreadable = {row["photo"] for row in rejects if "undecodable" in row["photo"]}
    assert len(unreadable) == len(list((hard / "undecodable").iterdir()))
    reasons = Counter(row["reason"] for row in rejects if "undecodable" in row["photo"])
    assert reasons == {"not_a_picture": 9, "empty_file": 3}
    with_face = {row["photo"].removeprefix("somebody/") for row in faces}
    assert {
        "broken_exif.jpg",
        "cmyk.jpg",
        "greyscale.jpg",
        "huge_3333x5000.jpg",
        "palette.png",
        "rgba.png",
    } <= with_face


def test_exif_photos_come_out_upright_whatever_their_tag(testdata: Path) -> None:
    """The same scene stored in every orientation; only the number painted on it differs."""
    folder = testdata / "fixtures" / "hard" / "exif"
    upright = []
    for path in sorted(folder.glob("Portrait_?.jpg")):
        photo = decode(path.read_bytes(), PhotoSettings())
        assert (photo.width, photo.height) == (1200, 1800)
        upright.append(np.asarray(photo.image.convert("L").reduce(20), float))
    assert len(upright) == 9
    for picture in upright[1:]:
        assert np.abs(picture - upright[0]).mean() < 3

"""Videos of a few frames, made here: frames as wanted, at the right times, upright; and files that are no good."""

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from castline import errors
from castline.errors import ConfigError, DataError, MissingExtra
from castline.photos.settings import PhotoSettings
from castline.runtime.video import Video, is_video, write_video

ROOT = Path(__file__).parents[2]
RED, GREEN, BLUE, WHITE = (230, 20, 20), (20, 200, 20), (20, 20, 230), (240, 240, 240)


def quarters(width: int = 64, height: int = 32) -> Image.Image:
    """Red and green above, blue and white below."""
    image = Image.new("RGB", (width, height), RED)
    for place, colour in (((1, 0), GREEN), ((0, 1), BLUE), ((1, 1), WHITE)):
        image.paste(colour, (place[0] * width // 2, place[1] * height // 2, width, (place[1] + 1) * height // 2))
    return image


def corners(image: Image.Image) -> list[tuple[int, int, int]]:
    """Which of the four colours is in each quarter, row by row."""
    width, height = image.size
    found = []
    for y in (height // 4, height * 3 // 4):
        for x in (width // 4, width * 3 // 4):
            pixel = np.array(image.getpixel((x, y)), int)
            found.append(min((RED, GREEN, BLUE, WHITE), key=lambda colour: abs(pixel - colour).sum()))
    return found


def made(
    path: Path,
    milliseconds: list[int],
    change: Callable[[av.VideoStream], None] = lambda stream: None,
    size: tuple[int, int] = (64, 32),
    codec: str = "libx264",
    **options: str,
) -> Path:
    """A video with frames at these times."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        change(stream)
        for time in milliseconds:
            frame = av.VideoFrame.from_image(quarters(*size))
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def times(video: Video) -> list[float]:
    return [round(time, 3) for time, _ in video]


def read(source: Path | bytes, fps: float = 12) -> Video:
    return Video(source, fps, PhotoSettings())


def test_every_frame_of_a_slow_video_and_its_length(tmp_path: Path) -> None:
    video = read(made(tmp_path / "a.mp4", [0, 100, 200, 300]))
    assert times(video) == [0, 0.1, 0.2, 0.3]
    assert (video.frames, video.width, video.height, video.warning) == (4, 64, 32, "")
    assert video.seconds == pytest.approx(0.4, abs=0.01)
    assert times(video) == [0, 0.1, 0.2, 0.3], "it can be read again"


def test_a_fast_video_is_looked_at_as_often_as_asked(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mp4", list(range(0, 2000, 20)))  # 50 a second
    assert len(times(read(path, 12))) == 24
    assert len(times(read(path, 5))) == 10
    assert len(times(read(path, 50))) == 100
    assert read(path).seconds == 0
    video = read(path, 1)
    assert times(video) == [0, 1]
    assert video.seconds == pytest.approx(2, abs=0.1), "also what was not looked at"


def test_frames_are_chosen_by_time_where_their_rate_varies(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mkv", [0, 10, 20, 30, 1000, 1010, 3000])
    assert times(read(path, 10)) == [0, 1, 3]


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    assert times(read(made(tmp_path / "a.mkv", [5000, 5100, 5200]))) == [0, 0.1, 0.2]


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        (0, [RED, GREEN, BLUE, WHITE]),
        (90, [GREEN, WHITE, RED, BLUE]),
        (-90, [BLUE, RED, WHITE, GREEN]),
        (180, [WHITE, BLUE, GREEN, RED]),
    ],
)
def test_frames_are_upright(tmp_path: Path, degrees: int, expected: list[tuple[int, int, int]]) -> None:
    """Degrees counter-clockwise, as a phone that was held upright writes -90."""
    path = made(tmp_path / "a.mp4", [0, 100], lambda stream: stream.set_display_rotation(degrees))
    video = read(path)
    (_, photo), *_ = video
    assert corners(photo.image) == expected
    upright = (64, 32) if degrees in (0, 180) else (32, 64)
    assert photo.image.size == (photo.width, photo.height) == (video.width, video.height) == upright


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    def wide(stream: av.VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)

    ((_, photo),) = read(made(tmp_path / "a.mp4", [0], wide))
    assert photo.image.size == (128, 32)
    assert corners(photo.image) == [RED, GREEN, BLUE, WHITE]


def test_large_frames_are_reduced_as_photos_are(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mp4", [0])
    ((_, photo),) = Video(path, 12, PhotoSettings(decode_side=32))
    assert photo.image.size == (32, 16)
    assert (photo.width, photo.height, photo.scale) == (64, 32, 2)
    with pytest.raises(DataError, match=r"64×32, the limit is 0.001 megapixels"):
        list(Video(path, 12, PhotoSettings(max_megapixels=0.001)))


def test_a_video_that_is_broken_off_gives_what_it_has(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mp4", list(range(0, 10_000, 100)), movflags="faststart", size=(320, 240))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    video = read(path)
    assert 10 < len(times(video)) < 100
    assert "10.0 s are stated" in video.warning
    path.write_bytes(whole[:200])
    with pytest.raises(DataError, match="there is no video in this file"):
        list(read(path))


def test_a_video_with_damage_inside_gives_the_rest(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mkv", list(range(0, 10_000, 100)), lambda stream: setattr(stream, "gop_size", 10))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(range(1, 251)) + bytes(50)
    path.write_bytes(data)
    video = read(path)
    found = times(video)
    assert 50 < len(found) <= 100
    assert found == sorted(set(found))


def test_damaged_frames_are_counted(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mp4", list(range(0, 5000, 100)), lambda stream: setattr(stream, "gop_size", 10))
    data = bytearray(path.read_bytes())
    middle = (data.index(b"mdat") + data.index(b"moov")) // 2
    data[middle : middle + 100] = bytes(100)
    path.write_bytes(data)
    video = read(path)
    assert 10 < len(times(video)) <= 50
    assert re.fullmatch(r"frames damaged or lost: [1-9]\d?", video.warning)


def test_bytes_are_read_as_the_file_that_they_are_of(tmp_path: Path) -> None:
    for ending in ("mp4", "mkv", "avi", "ts", "flv"):
        path = made(tmp_path / f"a.{ending}", [0, 100, 200], codec="mpeg4" if ending == "avi" else "libx264")
        file, data = read(path), read(path.read_bytes())
        frames = [(time, photo.image.tobytes()) for time, photo in file]
        assert [(time, photo.image.tobytes()) for time, photo in data] == frames
        assert times(data) == times(file), "again"
        assert (data.seconds, data.stated, data.warning) == (file.seconds, file.stated, file.warning)
        assert (file.name, data.name) == (str(path), "these bytes")


def test_a_file_without_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match=r"there is no video in this file, only sound"):
        list(read(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"<html>404</html>" * 100, "no video that can be read"),
        # Playlists name other files, and addresses on the net.
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n", "no video that can be read"),
        (b"ffconcat version 1.0\nfile 'other.mp4'\n", "no video that can be read"),
    ],
)
def test_a_file_that_is_no_video(tmp_path: Path, content: bytes, message: str) -> None:
    made(tmp_path / "other.mp4", [0])
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}: {message}"):
        list(read(path))
    with pytest.raises(DataError, match=f"these bytes: {message}"):
        list(read(content))


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.mp4", tmp_path):
        with pytest.raises(DataError, match="unreadable"):
            list(read(path))


@pytest.mark.parametrize("name", ["concat:a.mp4", "-i.mp4", "a b%03d.mp4", "Zoë|x.mp4"])
def test_names_are_names_and_no_commands(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "made.mp4", [0, 100]).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert times(read(Path(name))) == [0, 0.1]


@pytest.mark.parametrize("fps", [0, -1, float("inf"), float("nan")])
def test_a_rate_that_is_none(fps: float) -> None:
    with pytest.raises(ConfigError, match="--fps takes a number above 0"):
        read(Path("a.mp4"), fps)


def test_without_pyav_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    path = made(tmp_path / "a.mp4", [0])
    monkeypatch.setattr(errors.importlib, "import_module", absent)
    with pytest.raises(MissingExtra, match=r"pip install 'castline\[video\]'"):
        list(read(path))


def test_what_is_a_video(tmp_path: Path) -> None:
    for ending in ("mp4", "mov", "mkv", "avi", "ts", "flv"):
        # AVI knows no order of frames but that in the file, so H.264 does not go well with it.
        path = made(tmp_path / f"a.{ending}", [0, 100], codec="mpeg4" if ending == "avi" else "libx264")
        assert is_video(path)
        assert len(times(read(path))) == 2
        if ending != "ts":  # it has no beginning of its own
            assert is_video(path.rename(tmp_path / "no ending"))
    photo = ROOT / "sample/photos/first/alma/alma_15.jpg"
    disguised = tmp_path / "photo.mp4"
    disguised.write_bytes(photo.read_bytes())
    for ending in ("png", "gif", "webp", "tiff", "bmp", "avif"):
        quarters().save(tmp_path / f"a.{ending}")
        assert not is_video(tmp_path / f"a.{ending}")
    assert not is_video(photo)
    assert not is_video(disguised)
    assert not is_video(tmp_path)
    assert not is_video(tmp_path / "absent.mp4")
    (tmp_path / "page.mp4").write_text("<html></html>")
    assert is_video(tmp_path / "page.mp4"), "so that the error speaks of video"


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, [(time, quarters(63, 31)) for time in (0.0, 0.1, 0.5)], 12)
    video = read(path)
    frames = list(video)
    assert [round(time, 2) for time, _ in frames] == [0, 0.1, 0.5]
    assert all(corners(photo.image) == [RED, GREEN, BLUE, WHITE] for _, photo in frames)
    assert (video.width, video.height) == (64, 32)


def test_half_a_video_is_not_left(tmp_path: Path) -> None:
    def frames() -> list[tuple[float, Image.Image]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", (frame for _ in range(2) for frame in frames()), 12)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="cannot be written"):
        write_video(tmp_path / "absent" / "a.mp4", [(0.0, quarters())], 12)

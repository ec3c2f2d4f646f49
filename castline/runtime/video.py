"""Videos read as pictures with times, and pictures written as a video, with PyAV (FFmpeg), loaded when it is needed."""

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from castline.errors import ConfigError, DataError, optional_import
from castline.photos.decode import Photo
from castline.photos.settings import PhotoSettings

__all__ = ["Video", "begins_video", "is_video", "upright", "write_video"]

# FFmpeg's readers of the formats that videos come in. Playlists and the like, which name other files, stay shut.
_FORMATS = "mov,matroska,avi,mpeg,mpegts,flv,asf,ogg"
_ENDINGS = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
_STARTS = (b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"\x00\x00\x01\xba")
# Of files of boxes (ISO 14496-12), those that hold pictures.
_PICTURES = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
# What brings a frame upright, by the degrees counter-clockwise that its display matrix asks for.
_UPRIGHT = {
    90: Image.Transpose.ROTATE_90,
    -90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    -180: Image.Transpose.ROTATE_180,
}


def is_video(path: Path) -> bool:
    """Whether a file is a video rather than a photo: by how it begins, or, if that says nothing, by its name."""
    try:
        with path.open("rb") as file:
            begins = begins_video(file.read(12))
    except OSError:
        return False
    return path.suffix.lower() in _ENDINGS if begins is None else begins


def begins_video(head: bytes) -> bool | None:
    """Whether a file that begins with these 12 bytes is a video; False for a photo, None if they say neither."""
    if head.startswith(_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return True
    if head[4:8] == b"ftyp":
        return head[8:12] not in _PICTURES
    if head.startswith((b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")):
        return False
    return None


class Video:
    """A video's frames, upright, at most `fps` in a second; to be read through as often as one likes.

    Only one frame is held. Frames are chosen by their timestamps, so a variable frame rate is no matter.

    source: the file, or its bytes. fps: frames wanted in a second; a video that has fewer gives all. settings: the
    largest picture that is read, and to which side frames are reduced, as photos are.

    name: of the file, as errors begin with. stated: its length in seconds as it says itself, known with the first
    frame, or None.

    After reading: seconds: from the first frame to the end of the last. frames: how many were given. width, height: of
    upright frames, before they were reduced, pixels. warning: what could not be read, or "".
    """

    def __init__(self, source: Path | bytes, fps: float, settings: PhotoSettings) -> None:
        if not 0 < fps < float("inf"):
            raise ConfigError(f"{fps:g} frames a second", "--fps takes a number above 0, such as 12")
        self.name = "these bytes" if isinstance(source, bytes) else str(source)
        self._source, self._fps, self._settings = source, fps, settings
        self.seconds, self.frames, self.width, self.height, self.warning = 0.0, 0, 0, 0, ""
        self.stated: float | None = None

    def __iter__(self) -> Iterator[tuple[float, Photo]]:
        """Seconds since the first frame, and the frame.

        Raises: DataError when the file is no video, or nothing of it can be read; MissingExtra without PyAV.
        """
        av = optional_import("av", "video")
        self.seconds, self.frames, self.warning = 0.0, 0, ""
        damage: list[str] = []
        with self._opened(av) as container:
            stream = self._stream(container)
            stream.thread_type = "AUTO"
            length = stream.duration * stream.time_base if stream.duration else None
            self.stated = float(length) if length else container.duration / 1e6 if container.duration else None
            usual = float(1 / stream.average_rate) if stream.average_rate else 0.04
            first, time, slot = None, -1.0, -1
            for frame in _decoded(av, container, stream, damage):
                stamp = frame.time
                first = stamp if first is None else first
                last, time = time, (stamp - first if stamp is not None and first is not None else -1.0)
                if time <= last:  # no timestamp, or one that goes back
                    time = max(last, 0.0) + (usual if last >= 0 else 0.0)
                shown = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else usual
                self.seconds = time + shown
                # A thousandth: timestamps are rounded.
                if int(time * self._fps + 1e-3) > slot:
                    slot = int(time * self._fps + 1e-3)
                    self.frames += 1
                    photo = upright(frame, stream.sample_aspect_ratio, self._settings, self.name)
                    self.width, self.height = photo.width, photo.height
                    yield time, photo
        if not self.frames:
            raise DataError(f"{self.name}: no frame can be decoded ({'; '.join(damage) or 'it is empty'})")
        if self.stated and self.stated - self.seconds > max(0.5, 0.02 * self.stated):
            damage.append(f"it ends at {self.seconds:.1f} s, while {self.stated:.1f} s are stated")
        self.warning = "; ".join(damage)

    def _opened(self, av: Any) -> Any:
        source = self._source
        try:
            if not (len(source) if isinstance(source, bytes) else source.stat().st_size):
                raise DataError(f"{self.name}: an empty file")
            # `file:` before the name, or one such as "concat:a" would be a command. Bytes open no file at all.
            file, protocol = (io.BytesIO(source), "none") if isinstance(source, bytes) else (f"file:{source}", "file")
            return av.open(file, options={"protocol_whitelist": protocol, "format_whitelist": _FORMATS})
        except OSError as error:
            raise DataError(f"{self.name}: unreadable ({error.strerror or type(error).__name__})") from error
        except (av.FFmpegError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise DataError(f"{self.name}: no video that can be read ({reason})", "is it complete?") from error

    def _stream(self, container: Any) -> Any:
        streams = [
            stream for stream in container.streams.video if not stream.disposition & stream.disposition.attached_pic
        ]
        if not streams:
            raise DataError(
                f"{self.name}: there is no video in this file{', only sound' if container.streams.audio else ''}"
            )
        stream = streams[0]
        _check(stream.codec_context.width or 0, stream.codec_context.height or 0, self._settings, self.name)
        return stream


def upright(frame: Any, aspect: Fraction | None, settings: PhotoSettings, name: str) -> Photo:
    """A frame of PyAV as photos are read: RGB, upright, perhaps reduced. aspect: of one pixel, width by height.

    Raises: DataError, which begins with `name`, for one that is larger than `settings` allow.
    """
    _check(frame.width, frame.height, settings, name)
    width, height = round(frame.width * (aspect or 1)), frame.height  # pixels need not be square
    shrink = min(1.0, settings.decode_side / max(width, height))
    image = frame.to_image(width=max(1, round(width * shrink)), height=max(1, round(height * shrink)))
    turn = _UPRIGHT.get(frame.rotation)
    if turn is not None:
        image = image.transpose(turn)
        if abs(frame.rotation) == 90:
            width, height = height, width
    return Photo(image, width, height, "")


def _check(width: int, height: int, settings: PhotoSettings, name: str) -> None:
    if width * height > settings.max_megapixels * 1e6:
        raise DataError(f"{name}: {width}×{height}, the limit is {settings.max_megapixels:g} megapixels a frame")


def _decoded(av: Any, container: Any, stream: Any, damage: list[str]) -> Iterator[Any]:
    """The frames that can be decoded. What cannot be is noted in `damage`."""
    packets, broken = container.demux(stream), 0
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            damage.append(f"the file is broken off ({error.strerror})")
            packet = None
        try:
            for frame in stream.decode(None) if packet is None else packet.decode():
                broken += frame.is_corrupt
                yield frame
        except av.EOFError:
            pass
        except av.FFmpegError:
            broken += 1
        if packet is None:
            break
    if broken:
        damage.append(f"frames damaged or lost: {broken}")


def write_video(path: Path, frames: Iterable[tuple[float, Image.Image]], fps: float) -> None:
    """Write pictures (RGB) as H.264 in MP4, without sound, each at its time in seconds, in the size of the first.

    Raises: DataError when it cannot be written; MissingExtra without PyAV. It leaves no half a file.
    """
    av = optional_import("av", "video")
    try:
        with av.open(f"file:{path}", "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
            stream.options = {"preset": "veryfast", "crf": "23"}
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            size = None
            for time, image in frames:
                if size is None:  # even sides, as colours are kept for two pixels by two
                    size = stream.width, stream.height = image.width + image.width % 2, image.height + image.height % 2
                frame = av.VideoFrame.from_image(image if image.size == size else image.resize(size))
                frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, av.FFmpegError):
            raise DataError(f"{path}: cannot be written ({error.strerror})") from error
        raise

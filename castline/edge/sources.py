"""Where frames come from: an image, a watched folder, a video, a camera or a stream. They come back.

A file's frames are all looked at, a camera's are looked at when there is time. What cannot be read is a line in the
log and the next frame.
"""

import logging
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from castline.edge.settings import Settings, without_password
from castline.errors import DataError, optional_import
from castline.photos.decode import Photo, Rejected, decode, read
from castline.photos.settings import PhotoSettings
from castline.runtime.video import Video, upright

__all__ = ["Backoff", "Camera", "Directory", "Frame", "Image", "Source", "VideoFile", "open_source"]

_log = logging.getLogger(__name__)
_POLL = 1.0  # seconds between two looks into a folder
_PHOTOS = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# What FFmpeg may open for a URL of each kind. Playlists, which name other files, stay shut.
_PROTOCOLS = {
    "rtsp": "rtsp,tcp,udp,rtp",
    "rtsps": "rtsp,tls,tcp",
    "http": "http,tcp",
    "https": "https,tls,tcp",
    "tcp": "tcp",
}
_FORMATS = "rtsp,mpegts,mpjpeg,mjpeg,jpeg_pipe,matroska,mov,flv,h264,hevc"


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture to look at: where it is from, its number there (from 0), and how long it took to decode, ms."""

    photo: Photo
    source: str
    number: int
    decode_ms: float


class Source(Protocol):
    """Frames until `stop` is set, or, of a source that was to be read `once`, until there are no more.

    name: without secrets. live: whether a newer frame makes an older one stale.
    """

    name: str
    live: bool

    def frames(self, stop: threading.Event) -> Iterator[Frame]: ...


class Backoff:
    """Waits that double, `first` to `longest` seconds, until it is `reset`."""

    def __init__(self, first: float = 0.5, longest: float = 60.0) -> None:
        self._first, self._longest = first, longest
        self._next = first

    def reset(self) -> None:
        """It works again."""
        self._next = self._first

    def next(self) -> float:
        """How long to wait now, seconds."""
        wait, self._next = self._next, min(2 * self._next, self._longest)
        return wait


def open_source(settings: Settings, photos: PhotoSettings, once: bool = False) -> Source:
    """The source that `settings.source` names. once: files are read, or a video is played, one time.

    Raises: MissingExtra when it needs PyAV and that is not there.
    """
    kind, _, place = settings.source.partition(":")
    if kind == "image":
        return Image(Path(place), settings.interval, photos, once)
    if kind == "directory":
        return Directory(Path(place), photos, once)
    optional_import("av", "video")
    if kind == "video":
        return VideoFile(Path(place), settings.fps, photos, once)
    return Camera(settings.source, settings.fps, photos)


class Image:
    """One file, read again every `interval` seconds, as the public component does."""

    live = False

    def __init__(self, path: Path, interval: float, photos: PhotoSettings, once: bool = False) -> None:
        self.name = str(path)
        self._path, self._interval, self._photos, self._once = path, interval, photos, once

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        number = 0
        while not stop.is_set():
            if (frame := _photo(self._path, self._photos, number)) is not None:
                yield frame
                number += 1
            if self._once:
                return
            stop.wait(self._interval)


class Directory:
    """The photos in a folder, those that are there and those that come, each once: by time of change, then by name.

    A file is taken when its size and time have stayed the same from one look to the next; one that changes later is
    new. Names that begin with a dot are left alone. What was seen is forgotten when the program ends.
    """

    live = False

    def __init__(self, path: Path, photos: PhotoSettings, once: bool = False, poll: float = _POLL) -> None:
        self.name = str(path)
        self._path, self._photos, self._once, self._poll = path, photos, once, poll

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        number, problem = 0, ""
        seen: dict[str, tuple[int, int]] = {}
        before: dict[str, tuple[int, int]] = {}
        while not stop.is_set():
            try:
                found = self._look()
                problem = ""
            except OSError as error:
                found = {}
                if problem != str(error):
                    problem = str(error)
                    _log.warning("%s: cannot be looked into (%s)", self.name, error.strerror)
            settled = [
                name for name, now in found.items() if now != seen.get(name) and (self._once or now == before.get(name))
            ]
            for name in sorted(settled, key=lambda name: (found[name][0], name)):
                if stop.is_set():
                    return
                seen[name] = found[name]
                if (frame := _photo(self._path / name, self._photos, number)) is not None:
                    yield frame
                    number += 1
            if self._once:
                return
            if not problem:  # a folder that went away for a while, as a network's does, is not all new
                seen = {name: then for name, then in seen.items() if name in found}
            before = found
            stop.wait(self._poll)

    def _look(self) -> dict[str, tuple[int, int]]:
        """Names of photos, each with time of change (ns) and size."""
        found = {}
        for path in self._path.iterdir():
            if path.suffix.lower() in _PHOTOS and not path.name.startswith("."):
                try:
                    status = path.stat()
                except OSError:  # gone again
                    continue
                if stat.S_ISREG(status.st_mode):
                    found[path.name] = status.st_mtime_ns, status.st_size
        return found


class VideoFile:
    """A video, played at `fps` frames of its own seconds as fast as it can be looked at; again when it is replaced."""

    live = False

    def __init__(self, path: Path, fps: float, photos: PhotoSettings, once: bool = False, poll: float = _POLL) -> None:
        self.name = str(path)
        self._path, self._fps, self._photos, self._once, self._poll = path, fps, photos, once, poll

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        number, problem = 0, ""
        played: tuple[int, int, int] | None = None
        before: tuple[int, int, int] | None = None
        while not stop.is_set():
            try:
                status = self._path.stat()
                # For whoever writes to a pipe, FFmpeg would wait for ever.
                reason = "" if stat.S_ISREG(status.st_mode) else "not a file"
            except OSError as error:
                reason = error.strerror or type(error).__name__
            now = None if reason else (status.st_ino, status.st_mtime_ns, status.st_size)
            if reason != problem:
                problem = reason
                _log.warning("%s: %s", self.name, reason or "there again")
            if now is not None and now != played and (self._once or now == before):
                played = now
                video = Video(self._path, self._fps, self._photos)
                try:
                    start = time.perf_counter()
                    for _, photo in video:
                        yield Frame(photo, self.name, number, (time.perf_counter() - start) * 1000)
                        number += 1
                        if stop.is_set():
                            return
                        start = time.perf_counter()
                    if video.warning:
                        _log.warning("%s: %s", self.name, video.warning)
                except DataError as error:
                    _log.warning("%s", error)
            if self._once:
                return
            before = now
            stop.wait(self._poll)


class Camera:
    """A V4L2 device (camera:/dev/video0) or a stream (rtsp://…): the frames of now, at most `fps` in a second.

    Opened again, ever more patiently, whenever it ends, fails or says nothing for `timeout` seconds.
    """

    live = True

    def __init__(
        self, source: str, fps: float, photos: PhotoSettings, timeout: float = 10.0, backoff: Backoff | None = None
    ) -> None:
        self.name = without_password(source)
        self._source, self._fps, self._photos, self._timeout = source, fps, photos, timeout
        self._backoff = backoff or Backoff()
        self._number = 0

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        av = optional_import("av", "video")
        problem = ""
        while not stop.is_set():
            try:
                for frame in self._opened(av, stop):
                    if problem:
                        _log.warning("%s: there again", self.name)
                        problem = ""
                    self._backoff.reset()
                    yield frame
                reason = "it ended"
            except (av.FFmpegError, OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or type(error).__name__
            except DataError as error:
                reason = str(error)
            if stop.is_set():
                return
            if reason != problem:
                _log.warning("%s: gone (%s); it is opened again and again", self.name, reason)
                problem = reason
            stop.wait(self._backoff.next())

    def _opened(self, av: Any, stop: threading.Event) -> Iterator[Frame]:
        """The frames of one connection."""
        scheme, _, place = self._source.partition(":")
        if scheme == "camera":
            opened = av.open(place, format="v4l2", timeout=self._timeout)
        else:
            options = {"protocol_whitelist": _PROTOCOLS[scheme], "format_whitelist": _FORMATS}
            if scheme.startswith("rtsp"):
                options["rtsp_transport"] = "tcp"
            opened = av.open(self._source, options=options, timeout=self._timeout)
        with opened as container:
            if not container.streams.video:
                raise DataError(f"{self.name}: there is no video in it")
            stream = container.streams.video[0]
            stream.codec_context.thread_type = "SLICE"  # threads by frames would hold frames back
            due, damaged = 0.0, 0
            for packet in container.demux(stream):
                if stop.is_set():
                    return
                start = time.perf_counter()
                try:
                    decoded = packet.decode()
                except av.EOFError:
                    return
                except av.FFmpegError as error:
                    damaged += 1
                    if damaged == 1:
                        _log.warning("%s: a frame is damaged (%s)", self.name, error.strerror)
                    continue
                for frame in decoded:
                    now = time.monotonic()
                    if now >= due:
                        # A frame that is late is not made up for; one that is early by a tenth is no matter.
                        due = now + 0.9 / self._fps
                        photo = upright(frame, stream.sample_aspect_ratio, self._photos, self.name)
                        yield Frame(photo, self.name, self._number, (time.perf_counter() - start) * 1000)
                        self._number += 1
                        start = time.perf_counter()


def _photo(path: Path, photos: PhotoSettings, number: int) -> Frame | None:
    """A file, decoded; None, and a line in the log, when it cannot be."""
    start = time.perf_counter()
    try:
        photo = decode(read(path, photos), photos)
    except Rejected as rejected:
        _log.warning("%s: %s (%s)", path, rejected.reason.replace("_", " "), rejected.detail)
        return None
    return Frame(photo, str(path), number, (time.perf_counter() - start) * 1000)

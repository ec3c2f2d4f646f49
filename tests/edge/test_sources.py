"""Frames from files, folders and streams that break, vanish and come back. Streams are served on loopback."""

import base64
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import count, takewhile
from pathlib import Path

import av
import pytest
from PIL import Image as Picture
from test_greengrass import until

from castline.edge.settings import Settings
from castline.edge.sources import Backoff, Camera, Directory, Frame, Image, Source, VideoFile, open_source
from castline.photos.settings import PhotoSettings
from castline.runtime.video import write_video

PHOTOS = PhotoSettings()


class Reading:
    """A source that a thread reads from, as the program does."""

    def __init__(self, source: Source) -> None:
        self.frames: list[Frame] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(source,))
        self._thread.start()

    def _read(self, source: Source) -> None:
        for frame in source.frames(self._stop):
            self.frames.append(frame)

    @property
    def names(self) -> list[str]:
        return [Path(frame.source).name for frame in self.frames]

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)
        assert not self._thread.is_alive()


def photo(path: Path, when: int | None = None, side: int = 32) -> Path:
    part = path.with_name(f".{path.name}")
    Picture.new("RGB", (side, side), (10, 200, 30)).save(part, "JPEG")
    if when is not None:
        os.utime(part, ns=(when, when))
    part.replace(path)
    return path


def test_an_image_is_looked_at_again_and_again_or_once(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg")
    with Reading(Image(path, 0.01, PHOTOS)) as reading:
        until(lambda: len(reading.frames) >= 3)
    assert [frame.number for frame in reading.frames[:3]] == [0, 1, 2]
    assert reading.frames[0].photo.width == 32
    assert reading.frames[0].decode_ms > 0
    assert len(list(Image(path, 3600, PHOTOS, once=True).frames(threading.Event()))) == 1


def test_an_image_that_is_broken_for_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"<html>")
    with Reading(Image(path, 0.01, PHOTOS)) as reading:
        until(lambda: "not a picture" in caplog.text)
        photo(path)
        until(lambda: bool(reading.frames))


def test_an_image_or_video_that_is_a_pipe_holds_nothing_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with Reading(Image(tmp_path / "a.jpg", 0.01, PHOTOS)), Reading(VideoFile(tmp_path / "a.jpg", 5, PHOTOS, poll=0.01)):
        until(lambda: "unreadable" in caplog.text and "a.jpg: not a file" in caplog.text)


def test_a_folders_photos_come_once_by_time_then_by_name(tmp_path: Path) -> None:
    for name, when in (("c.jpg", 1), ("a.JPG", 2), ("b.jpg", 2), ("d.png", 0)):
        photo(tmp_path / name, when)
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    with Reading(Directory(tmp_path, PHOTOS, poll=0.02)) as reading:
        until(lambda: len(reading.frames) == 4)
        photo(tmp_path / "e.jpg")
        until(lambda: len(reading.frames) == 5)
        photo(tmp_path / "c.jpg", 5)  # another photo under the same name
        until(lambda: len(reading.frames) == 6)
    assert reading.names == ["d.png", "c.jpg", "a.JPG", "b.jpg", "e.jpg", "c.jpg"]
    assert [frame.number for frame in reading.frames] == list(range(6))
    assert len(list(Directory(tmp_path, PHOTOS, once=True).frames(threading.Event()))) == 5


def test_a_photo_that_is_still_being_written_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = photo(tmp_path / "whole", side=400).read_bytes()
    with Reading(Directory(tmp_path, PHOTOS, poll=0.2)) as reading, (tmp_path / "a.jpg").open("wb") as file:
        for byte in range(0, len(data), 100):  # slower than one look into the folder, yet growing at each
            file.write(data[byte : byte + 100])
            file.flush()
            threading.Event().wait(0.02)
        until(lambda: bool(reading.frames))
        assert reading.frames[0].photo.width == 400
        (tmp_path / "b.jpg").write_bytes(data[:-500])  # its writer was ended
        until(lambda: "b.jpg" in caplog.text)
        (tmp_path / "b.jpg").write_bytes(data)  # and comes back
        until(lambda: len(reading.frames) == 2)
    assert "a.jpg" not in caplog.text


def test_a_folder_that_goes_away_is_not_new_when_it_returns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "in"
    with Reading(Directory(folder, PHOTOS, poll=0.02)) as reading:
        until(lambda: "cannot be looked into" in caplog.text)
        folder.mkdir()
        photo(folder / "a.jpg")
        until(lambda: len(reading.frames) == 1)
        folder.rename(tmp_path / "away")
        until(lambda: caplog.text.count("cannot be looked into") == 2)
        (tmp_path / "away").rename(folder)
        photo(folder / "b.jpg")
        until(lambda: len(reading.frames) == 2)
    assert reading.names == ["a.jpg", "b.jpg"]


def clip(path: Path, frames: int, side: int = 64) -> Path:
    part = path.with_suffix(".part")
    write_video(part, ((i / 10, Picture.new("RGB", (side, side), (i * 9, 0, 0))) for i in range(frames)), 10)
    part.replace(path)
    return path


def test_a_video_is_played_once_and_again_when_it_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "clip.mp4"
    with Reading(VideoFile(path, 5, PHOTOS, poll=0.02)) as reading:
        until(lambda: "No such file" in caplog.text)
        clip(path, 10)
        until(lambda: len(reading.frames) == 5)
        path.write_bytes(b"damaged")
        until(lambda: "no video that can be read" in caplog.text)
        clip(path, 4, side=32)
        until(lambda: len(reading.frames) == 7)
    assert [frame.photo.width for frame in reading.frames] == [64] * 5 + [32] * 2
    assert len(list(VideoFile(path, 5, PHOTOS, once=True).frames(threading.Event()))) == 2


def served(container: av.container.OutputContainer, stream: av.VideoStream, frames: Iterator[int]) -> None:
    """Write pictures, 50 a second, until whoever reads has gone."""
    for number in frames:
        frame = av.VideoFrame.from_image(Picture.new("RGB", (64, 48), (number % 250, 0, 0)))
        frame.pts, frame.time_base = number, Fraction(1, 50)
        container.mux(stream.encode(frame))
        threading.Event().wait(0.02)


def mpegts_server(port: int, frames: Iterator[int]) -> threading.Thread:
    """MPEG-TS over TCP to the first who comes, as some cameras send it; ends with `frames`."""
    server = socket.create_server(("127.0.0.1", port))
    server.settimeout(20)

    def serve() -> None:
        with suppress(OSError, av.FFmpegError), server:  # the reader goes away
            connection, _ = server.accept()
            with connection, connection.makefile("wb", 0) as file, av.open(file, "w", format="mpegts") as container:
                stream = container.add_stream("mpeg2video", rate=50)
                stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 5
                served(container, stream, frames)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_a_stream_that_ends_is_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    source = Camera(f"tcp://127.0.0.1:{port}", 100, PHOTOS, timeout=3, backoff=Backoff(0.05, 0.1))
    with Reading(source) as reading:
        until(lambda: "gone (Connection refused)" in caplog.text)
        mpegts_server(port, iter(range(100))).join(30)
        until(lambda: caplog.text.count("gone") == 2)
        first = len(reading.frames)
        assert first > 20
        again = mpegts_server(port, count())
        until(lambda: len(reading.frames) > first + 5)
    again.join(10)
    assert [frame.number for frame in reading.frames] == list(range(len(reading.frames)))
    assert caplog.text.count("there again") == 2
    assert len(caplog.records) < 8, "tries in vain are not a line each"


def test_a_stream_that_falls_silent_is_given_up_and_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        source = Camera(f"tcp://127.0.0.1:{port}", 5, PHOTOS, timeout=0.3, backoff=Backoff(0.05, 0.1))
        with Reading(source):
            first, _ = server.accept()
            second, _ = server.accept()  # it does not wait for the first for ever
            until(lambda: "gone" in caplog.text)
            first.close()
            second.close()


@contextmanager
def rtsp_server() -> Iterator[tuple[int, list[str]]]:
    """A camera as RTSP has it, RTP inside the TCP connection: its port, and what was asked of it."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(type=socket.SOCK_DGRAM) as packets:
        packets.bind(("127.0.0.1", 0))
        packets.settimeout(0.5)
        done = threading.Event()

        def encode() -> None:
            url = f"rtp://127.0.0.1:{packets.getsockname()[1]}"
            with av.open(url, "w", format="rtp") as container:
                stream = container.add_stream("mpeg2video", rate=50)
                stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 5
                served(container, stream, takewhile(lambda _: not done.is_set(), count()))

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as file:
                    talk(connection, lambda: file.readline().decode())

        def talk(connection: socket.socket, line: Callable[[], str]) -> None:
            port = server.getsockname()[1]
            sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=c\r\nt=0 0\r\nm=video 0 RTP/AVP 32\r\n"
            sdp += f"a=control:rtsp://127.0.0.1:{port}/1/v\r\n"

            def answer(status: str, *more: str, body: str = "") -> None:
                lines = (
                    f"RTSP/1.0 {status}",
                    f"CSeq: {headers['cseq']}",
                    *more,
                    f"Content-Length: {len(body)}",
                    "",
                    body,
                )
                connection.sendall("\r\n".join(lines).encode())

            while first := line():
                headers = {}
                while header := line().strip():
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                asked.append(f"{first.split()[0]} {headers.get('authorization', '')}".strip())
                match first.split()[0]:
                    case "DESCRIBE" if "authorization" not in headers:
                        answer("401 Unauthorized", 'WWW-Authenticate: Basic realm="c"')
                    case "DESCRIBE":
                        answer("200 OK", "Content-Type: application/sdp", body=sdp)
                    case "SETUP":
                        assert "interleaved=0-1" in headers["transport"], "RTP over TCP"
                        answer("200 OK", "Session: 1", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
                    case _:
                        answer("200 OK", "Session: 1")
                if first.startswith("PLAY"):
                    for _ in range(60):
                        try:
                            packet = packets.recv(2000)
                            connection.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)
                        except OSError:
                            break
                    return  # the camera's cable is pulled

        threads = [threading.Thread(target=target) for target in (encode, serve)]
        for thread in threads:
            thread.start()
        yield server.getsockname()[1], asked
        done.set()
        server.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)


def test_an_rtsp_camera_with_a_password_that_is_lost_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    with rtsp_server() as (port, asked):
        url = f"rtsp://admin:s3cret@127.0.0.1:{port}/1"
        with Reading(Camera(url, 100, PHOTOS, timeout=3, backoff=Backoff(0.05, 0.1))) as reading:
            until(lambda: len(reading.frames) > 3)
            until(lambda: sum(line.startswith("PLAY") for line in asked) >= 2)
            seen = len(reading.frames)
            until(lambda: len(reading.frames) > seen)
    login = base64.b64encode(b"admin:s3cret").decode()
    assert f"DESCRIBE Basic {login}" in asked
    assert reading.frames[0].source == f"rtsp://127.0.0.1:{port}/1"
    assert "s3cret" not in caplog.text
    assert (reading.frames[0].photo.width, reading.frames[0].photo.height) == (64, 48)


def test_a_camera_that_is_not_there(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with Reading(Camera(f"camera:{tmp_path}/video9", 5, PHOTOS, backoff=Backoff(0.02, 0.05))):
        until(lambda: "gone (" in caplog.text)
    assert len(caplog.records) == 1


def test_no_more_frames_than_wanted_are_given(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with Reading(Camera(f"tcp://127.0.0.1:{port}", 5, PHOTOS, timeout=3, backoff=Backoff(0.05, 0.1))) as reading:
        mpegts_server(port, iter(range(100))).join(30)  # two seconds and more, 50 a second
        until(lambda: "gone (it ended)" in caplog.text or "End of file" in caplog.text)
    assert 3 <= len(reading.frames) <= 40


def test_a_password_stays_where_it_is(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """Also one that makes of the URL another: to FFmpeg, what stands before the first / is host and port."""
    for password in ("s3/cr3t", "s3#cr3t", "s3?cr3t@", "s3:cr3t"):
        caplog.clear()
        url = f"rtsp://admin:{password}@127.0.0.1:{free_port()}/1"
        with Reading(Camera(url, 5, PHOTOS, timeout=1, backoff=Backoff(0.02, 0.05))):
            until(lambda: "gone (" in caplog.text)
        assert "rtsp://127.0.0.1:" in caplog.text
        assert "cr3t" not in caplog.text + "".join(capfd.readouterr())


def test_waits_double_up_to_a_limit() -> None:
    backoff = Backoff(1, 5)
    assert [backoff.next() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.next() == 1


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("image:a", Image),
        ("directory:a", Directory),
        ("video:a", VideoFile),
        ("camera:a", Camera),
        ("rtsp://a", Camera),
    ],
)
def test_settings_name_the_source(source: str, kind: type) -> None:
    assert isinstance(open_source(Settings(source), PHOTOS), kind)
    assert re.match("rtsp|a|camera", open_source(Settings(source), PHOTOS).name)


@pytest.fixture(autouse=True)
def all_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

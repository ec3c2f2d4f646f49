"""Uploads looked at by real processes: what they see, what they refuse, and what happens when they break."""

import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from castline.app import work
from castline.app.limits import Limits
from castline.app.models import Model, open_model
from castline.app.seen import Footage, Message, Picture, SeenFace, receive, send
from castline.app.work import Job, Workers
from castline.faces.quality import Quality
from castline.runtime import Appearance, Cast, Recognizer, watch

LIMITS = Limits(picture_mb=3, video_mb=5, megapixels=20)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    made = Workers(LIMITS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return open_model("workspace", model_folder)


@pytest.fixture(scope="module")
def recognizer(model_folder: Path) -> Recognizer:
    return Recognizer(model_folder)


@pytest.fixture(scope="module")
def clip(sample: Path) -> bytes:
    return (sample / "clip.mp4").read_bytes()


@pytest.fixture(scope="module")
def short(clip: bytes) -> bytes:
    """Its first two seconds."""
    file = io.BytesIO()
    with av.open(io.BytesIO(clip)) as source, av.open(file, "w", format="mp4") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.pts is not None and packet.pts * packet.time_base < 2:
                packet.stream = copied
                target.mux(packet)
    return file.getvalue()


def done(job: Job) -> Any:
    assert job.wait(60), "it never ended"
    assert job.state == "done", job.error
    return job.result


def failed(job: Job) -> str:
    assert job.wait(60), "it never ended"
    assert (job.state, job.result) == ("failed", None)
    assert "/" not in job.error and "Traceback" not in job.error, "words for a visitor, without a path"
    return job.error


def another(data: bytes, number: int) -> bytes:
    """The same JPEG as other bytes: what follows its end is nobody's business."""
    return data + bytes([number])


def test_what_is_seen_in_a_picture(workers: Workers, model: Model, recognizer: Recognizer, sample: Path) -> None:
    path = sample / "scenes" / "scene_03.jpg"
    seen = done(workers.picture(path.read_bytes(), model))
    people = recognizer.identify(path)
    assert len(people) == 4
    assert [model.cast.name(face.raw).shown for face in seen.faces] == [person.name.shown for person in people]
    for face, person in zip(seen.faces, people, strict=True):
        assert face.box == person.face.box and face.score == person.face.score
        np.testing.assert_array_equal(face.raw, person.face.raw)
        np.testing.assert_array_equal(face.landmarks, person.face.landmarks)
        assert face.quality.eye_distance == pytest.approx(np.hypot(*(face.landmarks[1] - face.landmarks[0])), rel=1e-5)
        assert face.quality.sharpness > 0
        assert Image.open(io.BytesIO(face.chip)).size == (128, 128)
    assert (seen.width, seen.height) == Image.open(io.BytesIO(seen.shown)).size == (960, 640)
    assert [face.box[0] for face in seen.faces] == sorted(face.box[0] for face in seen.faces)


def test_a_picture_is_shown_upright_small_and_without_what_the_camera_wrote(workers: Workers, model: Model) -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera of Anna"
    image = Image.new("RGB", (2000, 1000), (200, 30, 30))
    image.paste((30, 30, 200), (0, 0, 1000, 1000))
    image.save(file, "JPEG", exif=exif, comment=b"Anna's holiday")
    seen = done(workers.picture(file.getvalue(), model))
    assert (seen.width, seen.height) == (1000, 2000)
    shown = Image.open(io.BytesIO(seen.shown))
    assert shown.format == "JPEG" and shown.size == (800, 1600)
    above, below = shown.getpixel((400, 200)), shown.getpixel((400, 1400))
    assert above[2] > 150 > below[2], "what was on the left is above"  # type: ignore[index]
    assert b"Anna" not in seen.shown and not shown.getexif()
    assert seen.faces == ()


def test_the_same_is_looked_at_once(workers: Workers, model: Model, sample: Path) -> None:
    data = (sample / "scenes" / "scene_01.jpg").read_bytes()
    jobs: list[Job] = []
    threads = [threading.Thread(target=lambda: jobs.append(workers.picture(data, model))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(jobs)) == 1, "while it is under way"
    done(jobs[0])
    assert workers.picture(bytes(bytearray(data)), model, visitor="somebody else") is jobs[0], "and afterwards"
    assert workers.picture(another(data, 1), model) is not jobs[0]


def test_nothing_of_an_upload_is_kept(workers: Workers, model: Model, sample: Path, clip: bytes) -> None:
    for data, moving in (
        (another((sample / "scenes" / "scene_02.jpg").read_bytes(), 2), False),
        (b"<html>nothing</html>" * 999, False),
        (clip[:1000], True),
    ):
        before = sys.getrefcount(data)
        job = workers.video(data, model, model.cast) if moving else workers.picture(data, model)
        assert sys.getrefcount(data) > before
        assert job.wait(60)
        for _ in range(100):  # the thread that told of it has yet to let go
            if sys.getrefcount(data) == before:
                break
            time.sleep(0.02)
        assert sys.getrefcount(data) == before


def asked(model: Model, data: bytes) -> work._Task:
    """A video, as a process is told of it."""
    said = {"do": "video", "folder": str(model.folder), "file": model.file, "key": model.key, "megapixels": 80.0}
    named = {"minutes": 15.0, "temperature": 1.0, "threshold": None, "by": "similarity", "newcomers": 0}
    return work._Task("", Job(), Message(said | named, [data, model.cast.scorer.to_bytes()]), "", True, set())


def test_a_process_keeps_nothing_of_an_upload(model: Model) -> None:
    def megabytes() -> float:
        assert "No video that can be read" in process.look(asked(model, b"small"), 60).error
        assert process._running is not None
        return int(Path(f"/proc/{process._running.pid}/status").read_text().split("VmData:")[1].split()[0]) / 1e3

    process = work._Process()
    before = megabytes()
    for _ in range(4):
        assert "No video that can be read" in process.look(asked(model, bytes(50_000_000)), 60).error
    assert megabytes() - before < 100, "of 200 that came"
    process.close()


def bomb() -> bytes:
    """A PNG that says it has 10 gigapixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(bytes(1000))]
    parts = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_pictures_that_are_none_are_refused_in_words(workers: Workers, model: Model, sample: Path) -> None:
    photo = (sample / "scenes" / "scene_01.jpg").read_bytes()
    files = [
        (b"", "The file is empty. Choose it again."),
        (b"<html><body>404</body></html>", "This is not a picture: it is a web page. Choose"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "HEIC is not supported: save it as JPEG. Choose"),
        (b"GIF8" + bytes(99), "not a picture"),
        (photo[: len(photo) // 2], "The picture is cut off. Copy or download it again."),
        (bomb(), "The picture has more than 20 megapixels. Make it smaller."),
        (png(5000, 4001), "The picture has more than 20 megapixels. Make it smaller."),
        (png(8, 400), "The picture is too small"),
        (bytes(3_000_001), "The file has 3.0 MB; the limit is 3 MB. Make it smaller"),
    ]
    jobs = [workers.picture(data, model) for data, _ in files]
    for job, (_, words) in zip(jobs, files, strict=True):
        assert words in failed(job)
        assert not job.again
    assert done(workers.picture(another(photo, 3), model)).faces, "and the process lives"


def test_a_video_by_its_bytes_is_the_video_in_its_file(
    workers: Workers, model: Model, recognizer: Recognizer, sample: Path, clip: bytes
) -> None:
    job = workers.video(clip, model, model.cast)
    shares = set()
    while not job.wait(0.05):
        shares.add(job.share)
    footage = done(job)
    expected = watch(recognizer, sample / "clip.mp4")
    assert footage.appearances == expected.appearances
    assert (footage.width, footage.height, footage.frames) == (480, 270, expected.video.frames)
    assert (footage.length, footage.warning) == (expected.video.seconds, "")
    assert len(footage.stills) == len(footage.appearances) > 0
    assert all(Image.open(io.BytesIO(still)).size == (128, 128) for still in footage.stills)
    assert any(share is not None and 0 < share < 1 for share in shares)
    assert workers.video(clip, model, model.cast, visitor="somebody else") is job


def test_a_video_is_named_by_the_cast_of_the_visit(workers: Workers, model: Model, short: bytes) -> None:
    scorer = replace(model.cast.scorer, people=("=1+1", "<b>ben</b>", "cara", "dan"))
    job = workers.video(short, model, Cast(scorer, model.cast.temperature, None, model.cast.by))
    assert {seen.name for seen in done(job).appearances} <= {*scorer.people, "unknown"}
    assert any(seen.known for seen in done(job).appearances)
    assert job is not workers.video(short, model, model.cast)
    names = {seen.name for seen in done(workers.video(short, model, model.cast)).appearances}
    assert not names & set(scorer.people), "nobody else sees who was enrolled"


class Stream:
    """A file that cannot be gone back in, so that the length of a video is not in its beginning."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def video(*seconds: float, stated: bool = True) -> bytes:
    """Grey frames at these times. stated: whether it says how long it is."""
    file: Any = io.BytesIO() if stated else Stream()
    with av.open(file, "w", format="matroska", options={} if stated else {"live": "1"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time_ in seconds:
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 32), (90, 90, 90)))
            frame.pts, frame.time_base = round(1000 * time_), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue() if stated else bytes(file.data)


def test_videos_that_are_none_are_refused_in_words(workers: Workers, model: Model, clip: bytes) -> None:
    limits = "minutes; the limit is 15. Cut it"
    files = [
        (b"", "An empty file. Save it anew"),
        (b"<html><body>404</body></html>" * 99, "No video that can be read"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "No video that can be read"),
        (clip[:300], "There is no video in this file."),
        (video(0, 1, 2000), f"The video takes 33.3 {limits}"),
        (video(0, 1, 2000, stated=False), f"The video takes 33.3 {limits}"),
        (bytes(5_000_001), "The file has 5.0 MB; the limit is 5 MB."),
    ]
    jobs = [workers.video(data, model, model.cast) for data, _ in files]
    for job, (_, words) in zip(jobs, files, strict=True):
        assert words in failed(job)
        assert not job.again
    assert done(workers.video(video(0, 1), model, model.cast)).appearances == ()


def test_of_a_damaged_video_one_sees_what_there_is(workers: Workers, model: Model) -> None:
    whole = video(*(i / 4 for i in range(40)))
    footage = done(workers.video(whole[: len(whole) * 3 // 4], model, model.cast))
    assert 0 < footage.length < 9
    assert "9.8 s are stated" in footage.warning


def started(workers: Workers, job: Job) -> int:
    """The process that is at a job, once it is."""
    for _ in range(3000):
        task = workers._tasks[job]
        if task.process is not None and task.process._running is not None and job.share:
            return task.process._running.pid
        time.sleep(0.01)
    raise AssertionError("nobody began")


def test_a_process_that_breaks_down_fails_its_job_alone(
    workers: Workers, model: Model, sample: Path, clip: bytes
) -> None:
    data = another(clip, 1)
    job = workers.video(data, model, model.cast)
    pid = started(workers, job)
    meanwhile = workers.picture(another((sample / "scenes" / "scene_04.jpg").read_bytes(), 4), model)
    os.kill(pid, signal.SIGKILL)
    assert failed(job).startswith("The process that looked at it broke down. Try again")
    assert job.again and done(meanwhile).faces
    assert workers.video(data, model, model.cast) is job, "it is not tried again and again"
    retried = workers.video(data, model, model.cast, again=True)
    assert retried is not job
    assert workers.video(data, model, model.cast, again=True) is retried
    started(workers, retried)
    workers.cancel([retried])


def test_what_nobody_waits_for_is_given_up(workers: Workers, model: Model, clip: bytes, short: bytes) -> None:
    files = [another(clip, 10), another(clip, 11), another(short, 12)]
    jobs = [workers.video(data, model, model.cast, visitor="anna") for data in files]
    assert workers.video(files[2], model, model.cast, visitor="ben") is jobs[2]
    pid = started(workers, jobs[0])
    assert jobs[1].state == "waiting"
    workers.cancel(jobs, visitor="anna")
    assert failed(jobs[0]) == failed(jobs[1]) == "It was given up."
    assert not jobs[2].ended.is_set(), "ben waits for it"
    assert done(jobs[2]).appearances
    assert not Path(f"/proc/{pid}").exists()
    workers.cancel(jobs, visitor="ben")
    assert jobs[2].state == "done", "what has ended stays as it is"
    assert workers.video(files[1], model, model.cast) is not jobs[1]
    workers.cancel([workers.video(files[1], model, model.cast)])


def test_videos_do_not_keep_pictures_waiting() -> None:
    workers = Workers(replace(LIMITS, processes=3))
    film, first, second = (work._Task("", Job(), Message({}), "", moving, set()) for moving in (True, False, False))
    workers._waiting.extend([first, film, second])
    assert workers._first(only_pictures=True) is first
    assert workers._first(only_pictures=False) is film
    workers._waiting.remove(film)
    assert workers._first(only_pictures=False) is None, "the one for pictures is warm"
    workers._idle -= 1
    assert workers._first(only_pictures=False) is first
    workers._waiting.clear()
    workers._waiting.append(film)
    assert workers._first(only_pictures=True) is None


def test_a_model_that_was_changed_is_not_mixed_up(workers: Workers, model: Model, sample: Path) -> None:
    data = another((sample / "scenes" / "scene_01.jpg").read_bytes(), 5)
    job = workers.picture(data, replace(model, key="another"))
    assert failed(job) == "The model was changed in the meantime. Load the page again."
    gone = replace(model, folder=model.folder / "gone")
    assert workers.picture(another(data, 6), gone).wait(60)
    assert "cannot be opened any more" in failed(workers.picture(another(data, 6), gone))
    assert done(workers.picture(data, model)).faces


def test_what_takes_too_long_is_given_up(model: Model, sample: Path) -> None:
    workers = Workers(replace(LIMITS, seconds=0.001))
    try:
        job = workers.picture((sample / "scenes" / "scene_01.jpg").read_bytes(), model)
        assert failed(job).startswith("It took too long and was given up. Try again")
        assert job.again
    finally:
        workers.close()
    assert failed(workers.picture(b"more", model)) == "The app is being ended."


def test_what_was_not_asked_for_longest_is_forgotten(
    workers: Workers, model: Model, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (sample / "scenes" / "scene_05.jpg").read_bytes()
    first, second = (workers.picture(another(data, i), model) for i in (50, 51))
    done(first), done(second)
    monkeypatch.setattr(work, "_KEPT_BYTES", done(first).size * 2.5)
    assert workers.picture(another(data, 50), model) is first
    third = workers.picture(another(data, 52), model)
    done(third)
    assert workers.picture(another(data, 50), model) is first
    assert workers.picture(another(data, 52), model) is third
    monkeypatch.setattr(work, "_KEPT_JOBS", 2)
    again = workers.picture(another(data, 51), model)
    assert again is not second
    done(again)
    with workers._changed:
        assert len(workers._jobs) == 2
    assert workers.picture(another(data, 51), model) is again


def test_too_much_at_once_is_not_taken(workers: Workers, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_WAITING_BYTES", -1)
    job = workers.picture(b"too much", model)
    assert failed(job) == "Too much is waiting to be looked at. Try again later."
    monkeypatch.undo()
    assert "not a picture" in failed(workers.picture(b"too much", model)), "it is taken as soon as there is room"


@pytest.mark.parametrize("busy", [False, True])
def test_a_process_ends_when_nobody_asks_any_more(model: Model, clip: bytes, busy: bool) -> None:
    """As when the server was killed."""
    process = work._Process()
    ours = process._started()
    if busy:
        send(ours, asked(model, clip).message)
        assert receive(ours, 0).said["share"] < 1
    ours.close()
    assert process._running is not None
    assert process._running.wait(20) == 0
    process.close()


@pytest.mark.parametrize("talks", [False, True])
def test_a_video_that_comes_to_no_end_is_given_up(talks: bool) -> None:
    """Its process says nothing; or says ever again that it is at work, for longer than the video could take."""
    ours, theirs = Pipe()
    process = work._Process()
    process._connection = ours

    def talk() -> None:
        with suppress(OSError):
            while talks:
                send(theirs, Message({"share": 0.5, "length": 0.0}))

    thread = threading.Thread(target=talk)
    thread.start()
    task = work._Task("", Job(), Message({"do": "video"}), "", True, set())
    assert process.look(task, 0.2).error.startswith("It took too long")
    thread.join()
    assert task.job.share == (0.5 if talks else None)
    theirs.close()


def test_a_process_that_stands_still_is_ended(model: Model) -> None:
    process = work._Process()
    work._impatient(process._started(), 1)
    assert process._running is not None
    os.kill(process._running.pid, signal.SIGSTOP)
    outcome = process.look(asked(model, bytes(5_000_000)), 60)
    assert outcome.error.startswith("The process that looked at it broke down")
    assert process._running.poll() == -signal.SIGKILL


@pytest.mark.parametrize(
    "answer",
    [
        [b"no JSON"],
        [b"[" * 100_000],
        [b'{"done": 1}'],
        [b'[{"done": {}}, 0]'],
        [b'[{"share": "a", "length": 1.0}, 0]'],
        [b'[{"done": {"faces": [{}], "width": 1, "height": 1, "seconds": 1}}, 2]', b"", b"12345"],
        [b'[{"done": {"faces": [], "width": "a", "height": 1, "seconds": 1}}, 2]', b"", b""],
        [b'[{"failed": 1, "again": true}, 0]'],
    ],
)
def test_a_process_that_answers_nonsense_is_ended(answer: list[bytes]) -> None:
    ours, theirs = Pipe()
    process = work._Process()
    process._connection = ours
    for part in answer:
        theirs.send_bytes(part)
    outcome = process.look(work._Task("", Job(), Message({"do": "picture"}), "", False, set()), 5)
    assert outcome.result is None and outcome.again
    assert outcome.error.startswith("What came back made no sense.")
    assert process.ended
    process.close()
    theirs.close()


@pytest.mark.parametrize(
    ("module", "others"), [("castline.app.work", ("ai_edge_litert", "av")), ("castline.app.worker", ("cv2", "dvc"))]
)
def test_processes_are_light_and_pages_decode_nothing(module: str, others: tuple[str, ...]) -> None:
    absent = ("streamlit", "torch", "tensorflow", *others)
    code = f"import sys, {module}; print(*(name for name in {absent} if name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_a_process_has_an_end_to_its_memory_and_leaves_none_of_it_on_disk() -> None:
    code = """
import resource, numpy
from castline.app import worker
worker._hardened()
print(resource.getrlimit(resource.RLIMIT_CORE))
try:
    numpy.empty(worker._MEMORY, numpy.uint8)
except MemoryError:
    print("refused")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["(0, 0)", "refused"]


floats = st.floats(-1e6, 1e6, width=32)
numbers = st.lists(floats, min_size=16, max_size=16)


@settings(max_examples=20)
@given(st.lists(st.tuples(numbers, st.binary(max_size=5)), max_size=3), st.binary(max_size=9))
def test_a_picture_is_the_same_behind_the_wire(faces: list[tuple[list[float], bytes]], shown: bytes) -> None:
    seen = [
        SeenFace(
            (row[0], row[1], row[2], row[3]),
            np.array(row[4:14], np.float32).reshape(5, 2),
            row[14],
            np.array(row[:7], np.float32),
            Quality(*row[10:16]),
            chip,
        )
        for row, chip in faces
    ]
    picture = Picture("ab", 3, 4, shown, tuple(seen), 0.5)
    again = Picture.of_message(wired(picture.message()), "ab")
    assert (again.sha256, again.width, again.height, again.shown, again.seconds) == ("ab", 3, 4, shown, 0.5)
    assert again.size == picture.size
    for one, other in zip(again.faces, picture.faces, strict=True):
        assert (one.box, one.score, one.quality, one.chip) == (other.box, other.score, other.quality, other.chip)
        np.testing.assert_array_equal(one.raw, other.raw)
        np.testing.assert_array_equal(one.landmarks, other.landmarks)
        assert one.raw.dtype == one.landmarks.dtype == np.float32


appearances = st.builds(
    Appearance, st.text(), st.none() | st.integers(1, 9), st.booleans(), floats, floats, st.text(), floats, floats
)


@settings(max_examples=20)
@given(st.lists(st.tuples(appearances, st.binary(max_size=5)), max_size=3), st.text())
def test_footage_is_the_same_behind_the_wire(seen: list[tuple[Appearance, bytes]], warning: str) -> None:
    footage = Footage(
        "ab", 3, 4, 1.5, 9, warning, tuple(one for one, _ in seen), tuple(still for _, still in seen), 2.0
    )
    again = Footage.of_message(wired(footage.message()), "ab")
    assert vars(again) == vars(footage)


def wired(message: Message) -> Message:
    """As it arrives."""
    ours, theirs = Pipe()
    with ours, theirs:
        send(ours, message)
        return receive(theirs, 10_000)


def test_a_message_that_is_too_long_is_not_read() -> None:
    ours, theirs = Pipe()
    with ours, theirs:
        send(ours, Message({}, [bytes(60), bytes(60)]))
        with pytest.raises(OSError):
            receive(theirs, 100)

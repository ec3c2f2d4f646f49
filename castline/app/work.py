"""Pictures and videos looked at in processes of their own: pages stay quick, and a bad file ends nobody's visit."""

import hashlib
import os
import socket
import struct
import subprocess
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any

from castline.app.limits import Limits
from castline.app.models import Model
from castline.app.seen import Footage, Message, Picture, receive, send
from castline.runtime import Cast

__all__ = ["Job", "Workers"]

_ROOT = Path(__file__).parents[2]
# What is kept of what was seen, of which the longest unused goes first; and of what is waiting to be.
_KEPT_JOBS = 500
_KEPT_BYTES = 256e6
_WAITING_BYTES = 2e9
_LONGEST = 256_000_000  # of an answer: a picture of 1600 pixels, and a few kilobytes for each face
_PATIENCE = 60  # seconds in which a process has to be there, and to go on with a message that has begun
# A video may take so many times its length. On two busy processors it took once.
_SLOWEST = 20.0
_CLOSED = "The app is being ended."


@dataclass(eq=False)
class Job:
    """Something that is looked at, or was. Pages that show the same file by the same model share it.

    state: waiting, working, done or failed. share: how much of a video is done, 0 to 1, or None where that is not
    known. error: what to tell the visitor where it failed, in words and without a path. again: whether it may go better
    another time, if `again` is asked for. result: once it is done.
    """

    state: str = "waiting"
    share: float | None = None
    error: str = ""
    again: bool = False
    result: Picture | Footage | None = None
    ended: Event = field(default_factory=Event)

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it has ended, within so long."""
        return self.ended.wait(seconds)


class Workers:
    """The processes, and what they saw. One of these serves all visitors; it may be asked from any thread.

    Half of the processes look at pictures only, so that these need not wait for videos.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._changed = Condition()
        # All of this under the condition's lock.
        self._waiting: deque[_Task] = deque()
        self._tasks: dict[Job, _Task] = {}
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._idle = limits.processes // 2  # of the threads for pictures
        self._threads: list[Thread] = []
        self._closed = False

    def picture(self, data: bytes, model: Model, *, sha256: str = "", visitor: str = "", again: bool = False) -> Job:
        """Look at a picture, unless that has been done.

        sha256: of `data`, if it is known. visitor: who asks, for `cancel`. again: even if it failed before.
        """
        return self._job(data, model, None, sha256, visitor, again)

    def video(
        self, data: bytes, model: Model, cast: Cast, *, sha256: str = "", visitor: str = "", again: bool = False
    ) -> Job:
        """Look at a video and name who is in it. cast: of `model`, with people who were enrolled for this visit."""
        return self._job(data, model, cast, sha256, visitor, again)

    def cancel(self, jobs: Sequence[Job], visitor: str = "") -> None:
        """`visitor` waits for these no longer; what nobody waits for is given up."""
        with self._changed:
            for job in jobs:
                if (task := self._tasks.get(job)) is not None:
                    task.visitors.discard(visitor)
                    if not task.visitors:
                        self._give_up(task, "It was given up.")

    def close(self) -> None:
        """End the processes, whatever they are at."""
        with self._changed:
            self._closed = True
            for task in list(self._tasks.values()):
                self._give_up(task, _CLOSED)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _job(self, data: bytes, model: Model, cast: Cast | None, sha256: str, visitor: str, again: bool) -> Job:
        limits = self.limits
        megabytes = limits.picture_mb if cast is None else limits.video_mb
        if len(data) > megabytes * 1e6:
            size = f"{len(data) / 1e6:.1f} MB; the limit is {megabytes:g} MB"
            return _Outcome(error=f"The file has {size}. Make it smaller, and try that.").tell(Job())
        said: dict[str, Any] = {"do": "picture", "megapixels": limits.megapixels}
        blobs, people = [data], ""
        if cast is not None:
            named = {name: getattr(cast, name) for name in ("temperature", "threshold", "by", "newcomers")}
            said |= {"do": "video", "minutes": limits.video_minutes, **named}
            blobs += [cast.scorer.to_bytes()]
            people = f"{hashlib.sha256(blobs[1]).hexdigest()} {named}"
        said |= {"folder": str(model.folder), "file": model.file, "key": model.key}
        sha256 = sha256 or hashlib.sha256(data).hexdigest()
        key = f"{said['do']} {sha256} {model.key} {people}"
        with self._changed:
            job = self._jobs.get(key)
            if job is not None and not (again and job.again):
                self._jobs.move_to_end(key)
                if job in self._tasks:
                    self._tasks[job].visitors.add(visitor)
                return job
            if self._closed:
                return _Outcome(error=_CLOSED, again=True).tell(Job())
            if sum(len(task.message.blobs[0]) for task in self._tasks.values()) > _WAITING_BYTES:
                return _Outcome(error="Too much is waiting to be looked at. Try again later.", again=True).tell(Job())
            job = self._jobs[key] = Job()
            task = self._tasks[job] = _Task(key, job, Message(said, blobs), sha256, cast is not None, {visitor})
            self._waiting.append(task)
            while len(self._threads) < limits.processes:
                only_pictures = len(self._threads) < limits.processes // 2
                self._threads.append(Thread(target=self._work, args=(only_pictures,), daemon=True))
                self._threads[-1].start()
            self._changed.notify_all()
        return job

    def _give_up(self, task: "_Task", why: str) -> None:
        """The lock is held."""
        if task.process is not None:
            task.process.kill()
        self._end(task, _Outcome(error=why, again=True))
        self._jobs.pop(task.key, None)

    def _end(self, task: "_Task", outcome: "_Outcome") -> None:
        """Tell of a task, unless it has been given up, and forget it, its upload with it. The lock is held."""
        if self._tasks.pop(task.job, None) is None:
            return
        if task in self._waiting:
            self._waiting.remove(task)
        outcome.tell(task.job)
        ended = [(key, job) for key, job in self._jobs.items() if job.ended.is_set()]
        sizes = [job.result.size if job.result is not None else 0 for _, job in ended]
        taken = sum(sizes)
        for (key, _), size in zip(ended, sizes, strict=True):
            if len(self._jobs) <= _KEPT_JOBS and taken <= _KEPT_BYTES:
                break
            taken -= size
            del self._jobs[key]

    def _work(self, only_pictures: bool) -> None:
        """A thread: it keeps a process, and gives it one task after another."""
        process: _Process | None = None
        while (task := self._next(only_pictures)) is not None:
            if process is not None and process.ended:
                process.close()
                process = None
            process = process or _Process()
            with self._changed:
                task.process = process
                wanted = task.job in self._tasks
            outcome = process.look(task, self.limits.seconds) if wanted else _Outcome()
            with self._changed:
                self._end(task, outcome)
                self._idle += only_pictures
            del task  # and with it the upload
        if process is not None:
            process.close()

    def _next(self, only_pictures: bool) -> "_Task | None":
        """Wait for a task; None when there will be no more."""
        with self._changed:
            while not self._closed:
                if (task := self._first(only_pictures)) is not None:
                    self._waiting.remove(task)
                    self._idle -= only_pictures
                    self._changed.notify_all()
                    task.job.state = "working"
                    return task
                self._changed.wait()
            return None

    def _first(self, only_pictures: bool) -> "_Task | None":
        """What to do next: videos, and pictures while all those that take nothing else are at work. The lock is held.

        Apart from `_next`, which waits: a variable of its own would keep what it has not taken.
        """
        if only_pictures:
            return next((task for task in self._waiting if not task.video), None)
        first = next((task for task in self._waiting if task.video), None)
        return first or (self._waiting[0] if self._waiting and not self._idle else None)


@dataclass(frozen=True, eq=False)
class _Outcome:
    """How a job ended."""

    result: Picture | Footage | None = None
    error: str = ""
    again: bool = False

    def tell(self, job: Job) -> Job:
        job.result, job.error, job.again = self.result, self.error, self.again
        job.state = "failed" if self.result is None else "done"
        job.ended.set()
        return job


@dataclass(eq=False)
class _Task:
    """A job that has not ended: what to send, who waits for it, and the process that is at it."""

    key: str
    job: Job
    message: Message
    sha256: str
    video: bool
    visitors: set[str]
    process: "_Process | None" = None


class _Process:
    """A worker (castline.app.worker), started when there is something to look at. Of one thread, but for `kill`."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._running: subprocess.Popen[bytes] | None = None
        self._killed = False

    @property
    def ended(self) -> bool:
        """Whether it was here, and is no more."""
        return self._killed or (self._running is not None and self._running.poll() is not None)

    def look(self, task: _Task, seconds: float) -> _Outcome:
        """Have it look at something. seconds: that a picture may take, and that of a video nothing may be heard."""
        try:
            connection = self._connection or self._started()
            send(connection, task.message)
            started = time.monotonic()
            deadline = started + seconds
            while (left := deadline - time.monotonic()) > 0 and connection.poll(left):
                said, blobs = receive(connection, _LONGEST)
                match said:
                    case {"done": {} as done}:
                        kind = Footage if task.video else Picture
                        return _Outcome(kind.of_message(Message(done, blobs), task.sha256))
                    case {"failed": str(words), "again": bool(again)}:
                        return _Outcome(error=words, again=again)
                    case {"share": share, "length": float(length)} if task.video:
                        task.job.share = None if share is None else float(share)
                        deadline = min(time.monotonic() + seconds, started + seconds + _SLOWEST * length)
                    case _:
                        raise ValueError("no answer")
            why = "It took too long and was given up"
        except (EOFError, OSError):
            why = "The process that looked at it broke down"
        except Exception:  # whatever it is, this thread has to go on
            why = "What came back made no sense"
        self.close()
        return _Outcome(error=f"{why}. Try again, or with a smaller file, saved anew.", again=True)

    def _started(self) -> Connection:
        """Raises: OSError or EOFError when it cannot be started."""
        self._connection, theirs = Pipe()
        _impatient(self._connection, _PATIENCE)
        # Threads of linear algebra would only wait for each other: the arrays are small.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        with theirs:
            # -P: nothing is imported from the folder that the app was started in. A session of its own: Ctrl-C is for
            # the server, and when that has gone, this ends.
            self._running = subprocess.Popen(
                [sys.executable, "-P", "-m", "castline.app.worker", str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            if self._killed:  # meanwhile
                self._running.kill()
        if not self._connection.poll(_PATIENCE) or not receive(self._connection, 0).said.get("ready"):
            raise EOFError
        return self._connection

    def kill(self) -> None:
        """End it, whatever it is at. From any thread."""
        self._killed = True
        if self._running is not None:
            self._running.kill()

    def close(self) -> None:
        """End it, and leave nothing of it."""
        self.kill()
        if self._running is not None:
            self._running.wait()
        if self._connection is not None:
            self._connection.close()


def _impatient(connection: Connection, seconds: int) -> None:
    """Have it raise OSError where the other end leaves off in the middle of a message for so long."""
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        for timeout in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            end.setsockopt(socket.SOL_SOCKET, timeout, struct.pack("ll", seconds, 0))

"""A queue on disk for what could not be delivered yet: bounded, in order, at least once, whatever happens.

FOLDER/
    0000000000000001.log    records, named by the number of the first; a new file is begun every so many bytes
    state                   up to which number records were delivered, and how many were dropped
    lock                    held by the one process that uses the folder

A record is a header (magic, number, lengths, CRC-32), topic and payload, written by one call at the end of a file. A
process that is killed leaves all records but perhaps a torn last one, which is cut off; a power cut may take the last
second with it. Damage in the middle is stepped over. A disk that cannot be written to is stood in for by memory.
"""

import fcntl
import logging
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from castline.errors import ConfigError

__all__ = ["Spool"]

_log = logging.getLogger(__name__)
_MAGIC = b"\xabCs\n"
_HEAD = struct.Struct(">4sQHII")  # magic, number, bytes of topic and of payload, CRC-32 of all that follows the magic
_NUMBERS = struct.Struct(">QHI")
_STATE = struct.Struct(">QQQI")  # times written, number of the last one delivered, dropped, CRC-32 of these
_SYNC_SECONDS = 1.0  # a flash card wears out by being synced, and a picture a second is worth no more


@dataclass
class _Segment:
    """One file of records: the number of its first, and its bytes."""

    path: Path
    first: int
    size: int


class Spool:
    """Messages that wait, oldest first.

    folder: made when it is absent. max_bytes: of the records that wait on disk; beyond it the oldest go (files take up
    to an eighth more, as a file goes when all in it is done). memory_bytes: of what is held in memory while the disk
    takes nothing.

    May be used by several threads. Raises: ConfigError when another process uses the folder.
    """

    def __init__(self, folder: Path, max_bytes: int = 64_000_000, memory_bytes: int = 1_000_000) -> None:
        self.max_bytes = max_bytes
        self._folder, self._memory_bytes = folder, memory_bytes
        self._mutex = threading.Lock()
        self._memory: deque[tuple[str, bytes]] = deque()
        self._held = 0  # bytes in memory
        self._segments: deque[_Segment] = deque()
        self._head: deque[tuple[int, int, int]] = deque()  # of the first segment: number, offset, size of what waits
        self._live = 0  # bytes that wait on disk
        self._last_done, self._written, self._dropped = 0, 0, 0
        self._reader: int | None = None
        self._writer: int | None = None
        self._state: int | None = None
        self._lock: int | None = None
        self._synced, self._unsynced = 0.0, False
        self.problem = ""  # why nothing can be written, if so
        self._next = 1
        self._open()

    @property
    def dropped(self) -> int:
        """How many messages were lost, ever: beyond the bound, or damaged on disk."""
        return self._dropped

    @property
    def sequence(self) -> int:
        """The number that the next message gets. It grows across restarts."""
        with self._mutex:
            return self._next + len(self._memory)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return self.peek() is None

    def put(self, topic: str, payload: bytes) -> None:
        """Add a message. Never fails: what cannot be kept is counted in `dropped`."""
        with self._mutex:
            if _HEAD.size + len(topic.encode()) + len(payload) > self.max_bytes:
                self._dropped += 1
                self._save()
                return
            self._memory.append((topic, payload))
            self._held += len(payload)
            self._flush()
            while self._held > self._memory_bytes:
                self._held -= len(self._memory.popleft()[1])
                self._next += 1
                self._dropped += 1
            lost = False
            while self._live > self.max_bytes and self._load() and self._live > self.max_bytes:
                self._pop()
                self._dropped += 1
                lost = True
            if lost:
                self._save()

    def peek(self) -> tuple[int, str, bytes] | None:
        """The oldest message: its number, for `done`, topic and payload. None when nothing waits."""
        with self._mutex:
            while self._load():
                number, offset, size = self._head[0]
                record = self._read(offset, size)
                found = next(_records(record), None)
                if found is not None and found[0] == number:
                    return number, found[3], found[4]
                self._pop()  # damaged since it was found
                self._dropped += 1
                self._save()
            if self._memory:
                return self._next, *self._memory[0]
            return None

    def done(self, number: int) -> None:
        """The message of this number was delivered. One that was dropped meanwhile is no matter."""
        with self._mutex:
            if self._head and self._head[0][0] == number:
                self._pop()
            elif not self._load() and self._memory and number == self._next:
                self._held -= len(self._memory.popleft()[1])
                self._last_done, self._next = number, number + 1
            else:
                return
            self._save()
            self._flush()

    def sync(self) -> None:
        """Bring everything to the disk, as far as it takes it."""
        with self._mutex:
            self._flush()
            self._save()
            self._sync(force=True)

    def settle(self) -> None:
        """Bring to the disk what is not there, if that was last done more than a second ago. To be called now and then:
        after a last message, nobody else does it."""
        with self._mutex:
            self._flush()

    def close(self) -> None:
        """`sync`, and let go of the folder."""
        self.sync()
        with self._mutex:
            for descriptor in (self._reader, self._writer, self._state, self._lock):
                if descriptor is not None:
                    os.close(descriptor)
            self._reader = self._writer = self._state = self._lock = None
            if self._memory:
                _log.warning("%d results are lost: %s: %s", len(self._memory), self._folder, self.problem)

    def _open(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._say(error)
        if self._lock is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._lock)
                raise ConfigError(
                    f"{self._folder}: another program delivers from here", "end it, or give this one its own --work"
                ) from error
            except OSError:  # a file system without locks
                pass
        self._last_done, self._dropped, self._written = _read_state(self._folder / "state")
        with suppress(OSError):
            for path in sorted(self._folder.glob("*.log")):
                if path.stem.isdecimal() and path.is_file():
                    self._segments.append(_Segment(path, int(path.stem), path.stat().st_size))
        self._live = sum(segment.size for segment in self._segments)
        self._next = self._last_done + 1
        if self._segments:
            last = self._segments[-1]
            end = 0
            self._next = max(self._next, last.first)
            for number, offset, size, _, _ in _records(_bytes_of(last.path)):
                self._next, end = max(self._next, number + 1), offset + size
            with suppress(OSError):  # a torn record, cut off
                if end < last.size:
                    os.truncate(last.path, end)
                    self._live -= last.size - end
                    last.size = end

    def _say(self, error: OSError) -> None:
        """Note, and say once, that nothing can be written."""
        if not self.problem:
            _log.warning("%s: %s; meanwhile results are held in memory", self._folder, error.strerror or error)
        self.problem = error.strerror or type(error).__name__

    def _flush(self) -> None:
        """Bring what is in memory to the disk, oldest first, as far as it takes it."""
        while self._memory:
            topic, payload = self._memory[0]
            try:
                self._append(topic, payload)
            except OSError as error:
                self._say(error)
                return
            self._memory.popleft()
            self._held -= len(payload)
            if self.problem:
                _log.warning("%s: can be written to again", self._folder)
                self.problem = ""
        self._sync()

    def _append(self, topic: str, payload: bytes) -> None:
        number, name = self._next, topic.encode()
        numbers = _NUMBERS.pack(number, len(name), len(payload))
        crc = crc32(payload, crc32(name, crc32(numbers)))
        record = _HEAD.pack(_MAGIC, number, len(name), len(payload), crc) + name + payload
        segment, writer = self._tail(number)
        try:
            left = memoryview(record)
            while left:
                left = left[os.write(writer, left) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(writer, segment.size)
            # What cannot be cut off is stepped over when the file is read.
            torn = os.fstat(writer).st_size - segment.size
            segment.size += torn
            self._live += 0 if self._looked_into(segment) else torn
            if not segment.size and not self._looked_into(segment):
                os.close(writer)
                self._writer = None
                self._segments.pop()
                with suppress(OSError):
                    segment.path.unlink()
            raise
        if self._looked_into(segment):
            self._head.append((number, segment.size, len(record)))
        segment.size += len(record)
        self._live += len(record)
        self._next += 1
        self._unsynced = True

    def _full(self, segment: _Segment) -> bool:
        return segment.size >= max(4096, min(self.max_bytes // 8, 1_000_000))

    def _looked_into(self, segment: _Segment) -> bool:
        """Whether `_head` is about this file."""
        return self._reader is not None and segment is self._segments[0]

    def _tail(self, number: int) -> tuple[_Segment, int]:
        """The file that is written to, perhaps a new one, for the record of this number, and its descriptor."""
        if self._segments and not self._full(self._segments[-1]):
            if self._writer is None:
                self._writer = os.open(self._segments[-1].path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            return self._segments[-1], self._writer
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{number:016d}.log"
        writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._writer is not None:
            self._sync(force=True)
            os.close(self._writer)
        self._writer = writer
        self._segments.append(_Segment(path, number, 0))
        return self._segments[-1], writer

    def _load(self) -> bool:
        """See that `_head` holds what waits in the first file that has anything. False when nothing waits on disk."""
        while not self._head:
            if not self._segments:
                return False
            segment = self._segments[0]
            if self._reader is None:
                self._look_into(segment)
                continue
            if len(self._segments) == 1 and not self._full(segment):
                return False  # it is read to its end, and still being written to
            os.close(self._reader)
            self._reader = None
            if len(self._segments) == 1 and self._writer is not None:
                os.close(self._writer)
                self._writer = None
            self._segments.popleft()
            with suppress(OSError):
                segment.path.unlink()
        return True

    def _look_into(self, segment: _Segment) -> None:
        """Open the first file and find what waits in it; count what is damaged."""
        after = self._segments[1].first if len(self._segments) > 1 else self._next
        self._live -= segment.size
        try:
            self._reader = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
            data = _bytes_of(segment.path)
        except OSError:
            self._reader, data = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), b""
        whole = 0
        for number, offset, size, _, _ in _records(data):
            whole += size
            if number > self._last_done:
                self._head.append((number, offset, size))
                self._live += size
        if whole < segment.size or not data:
            lost = after - max(segment.first, self._last_done + 1) - len(self._head)
            if lost > 0:
                _log.warning("%s: damaged, %d results are lost", segment.path, lost)
                self._dropped += lost

    def _read(self, offset: int, size: int) -> bytes:
        if self._reader is None:
            return b""
        try:
            return os.pread(self._reader, size, offset)
        except OSError:
            return b""

    def _pop(self) -> None:
        """Be done with the first record of the first file."""
        self._last_done, _, size = self._head.popleft()
        self._live -= size
        self._load()

    def _save(self) -> None:
        """Write what was delivered and dropped into one of two slots in turn, so that a torn write leaves the other."""
        self._written += 1
        numbers = _STATE.pack(self._written, self._last_done, self._dropped, 0)[:-4]
        try:
            if self._state is None:
                self._state = os.open(self._folder / "state", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._state, numbers + struct.pack(">I", crc32(numbers)), self._written % 2 * _STATE.size)
            self._unsynced = True
        except OSError as error:
            self._say(error)

    def _sync(self, force: bool = False) -> None:
        if self._unsynced and (force or time.monotonic() - self._synced > _SYNC_SECONDS):
            self._synced, self._unsynced = time.monotonic(), False
            for descriptor in (self._writer, self._state):
                if descriptor is not None:
                    with suppress(OSError):
                        os.fsync(descriptor)


def _records(data: bytes) -> Iterator[tuple[int, int, int, str, bytes]]:
    """The whole records in a file's bytes: number, offset, size, topic, payload. What lies between is stepped over."""
    at = data.find(_MAGIC)
    while 0 <= at <= len(data) - _HEAD.size:
        _, number, name, length, crc = _HEAD.unpack_from(data, at)
        start, end = at + _HEAD.size, at + _HEAD.size + name + length
        body = data[start:end]
        if end <= len(data) and crc32(body, crc32(_NUMBERS.pack(number, name, length))) == crc:
            yield number, at, end - at, body[:name].decode(errors="replace"), body[name:]
            at = data.find(_MAGIC, end)
        else:
            at = data.find(_MAGIC, at + 1)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _read_state(path: Path) -> tuple[int, int, int]:
    """Last delivered, dropped, times written: the newer of the two slots that is whole; zeros without one."""
    data, found = _bytes_of(path), (0, 0, 0)
    for slot in (0, _STATE.size):
        part = data[slot : slot + _STATE.size]
        if len(part) == _STATE.size:
            written, last_done, dropped, crc = _STATE.unpack(part)
            if crc32(part[:-4]) == crc and written > found[2]:
                found = last_done, dropped, written
    return found

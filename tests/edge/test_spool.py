"""The queue on disk: against a model of it, killed, on a full disk, on none, and damaged."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from castline.edge import spool as module
from castline.edge.spool import _HEAD, Spool
from castline.errors import ConfigError

ROOT = Path(__file__).parents[2]


def drained(spool: Spool) -> list[bytes]:
    found = []
    while (waiting := spool.peek()) is not None:
        found.append(waiting[2])
        spool.done(waiting[0])
    return found


class AgainstADeque(RuleBasedStateMachine):
    """Whatever is put, delivered, dropped and restarted: what waits is what a bounded deque holds, in its order."""

    @initialize(bound=st.integers(100, 20_000))
    def begin(self, bound: int) -> None:
        import tempfile

        self.folder = Path(tempfile.mkdtemp(prefix="spool"))
        self.bound, self.model, self.lost, self.count = bound, deque[tuple[str, bytes]](), 0, 0
        self.spool = Spool(self.folder / "s", bound)

    def size(self, topic: str, payload: bytes) -> int:
        return _HEAD.size + len(topic.encode()) + len(payload)

    @rule(topic=st.sampled_from(["a", "ml/ü", "x" * 60]), length=st.integers(0, 9000))
    def put(self, topic: str, length: int) -> None:
        payload = (b"%d " % self.count + b"\xabCs\n" * length)[:length]  # full of what looks like a record's begin
        self.count += 1
        self.spool.put(topic, payload)
        if self.size(topic, payload) > self.bound:
            self.lost += 1
            return
        self.model.append((topic, payload))
        while sum(self.size(*message) for message in self.model) > self.bound:
            self.model.popleft()
            self.lost += 1

    @rule(many=st.integers(1, 5))
    def deliver(self, many: int) -> None:
        for _ in range(many):
            waiting = self.spool.peek()
            if waiting is None:
                assert not self.model
                return
            assert waiting[1:] == self.model.popleft()
            self.spool.done(waiting[0])

    @rule()
    def ask_twice(self) -> None:
        assert self.spool.peek() == self.spool.peek()

    @precondition(lambda self: self.count)
    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.spool = Spool(self.folder / "s", self.bound)

    @invariant()
    def nothing_is_lost_unsaid(self) -> None:
        assert self.spool.dropped == self.lost
        used = sum(file.stat().st_size for file in (self.folder / "s").glob("*.log"))
        assert used <= self.bound + max(4096, self.bound // 8) + 9200

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            assert [(topic, payload) for topic, payload in self.model] == self.rest()
            self.spool.close()
            shutil.rmtree(self.folder)

    def rest(self) -> list[tuple[str, bytes]]:
        found = []
        while (waiting := self.spool.peek()) is not None:
            found.append(waiting[1:])
            self.spool.done(waiting[0])
        return found


AgainstADeque.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAgainstADeque = AgainstADeque.TestCase

WRITER = """
import sys
from pathlib import Path
from castline.edge.spool import Spool
spool = Spool(Path(sys.argv[1]), 300_000_000)
number = int(sys.argv[2])
while True:
    spool.put("t", b"%d " % number + b"x" * (number * 37 % 700))
    print(number, flush=True)
    number += 1
    if number % 3 == 0 and (waiting := spool.peek()):
        print(-int(waiting[2].split()[0]), flush=True)
        spool.done(waiting[0])
"""


def test_killed_in_the_middle_of_writing_it_has_lost_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    said, delivered, number = 0, 0, 1
    for round_ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "s"), str(number)],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
        ) as writer:  # fmt: skip
            assert writer.stdout is not None
            assert writer.stdout.readline(), "it began"
            time.sleep(0.03 + 0.017 * round_)  # anywhere in its work
            writer.send_signal(signal.SIGKILL)
            numbers = [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        said = max([said, number, *numbers])
        delivered = max([delivered, *(-n for n in numbers)])
        spool = Spool(tmp_path / "s", 300_000_000)
        waiting = spool.peek()
        assert waiting is not None
        # At least once: the last one that was on its way may come again; one that was being written may be there.
        assert int(waiting[2].split()[0]) in (delivered, delivered + 1, delivered + 2), numbers[-5:]
        spool.close()
        number = said + 2  # the one that was being written when it died may be there: not to be written twice
    spool = Spool(tmp_path / "s", 300_000_000)
    found = [int(payload.split()[0]) for payload in drained(spool)]
    assert found == sorted(set(found))
    assert spool.dropped == 0
    spool.close()


FULL = """
import resource, sys
from pathlib import Path
from castline.edge.spool import Spool
spool = Spool(Path(sys.argv[1]), 1_000_000, memory_bytes=5_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
for number in range(30):
    spool.put("t", b"%02d" % number + b"x" * 998)
assert spool.problem, "the disk takes nothing"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
dropped = spool.dropped
spool.put("t", b"30")
assert not spool.problem
found = []
while (waiting := spool.peek()) is not None:
    found.append(int(waiting[2][:2])); spool.done(waiting[0])
print(dropped, *found)
"""


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY, reason="files are limited")
def test_a_disk_that_fills_up_in_the_middle_of_a_record(tmp_path: Path) -> None:
    """The limit cuts a record in two, as a full disk does; then what memory holds stays, and the order."""
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "held in memory" in run.stderr
    dropped, *found = map(int, run.stdout.split())
    assert found == [*range(9), *range(25, 31)], "what the disk took, then the newest that memory holds"
    assert dropped == 30 - len(found) + 1


def test_without_a_disk_it_works_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    spool = Spool(tmp_path / "file" / "s", memory_bytes=100)
    for number in range(30):
        spool.put("t", b"%010d" % number)
    assert spool.problem == "Not a directory"
    assert spool.dropped == 20
    assert [int(payload) for payload in drained(spool)] == list(range(20, 30))
    spool.close()


def test_a_message_that_was_dropped_while_it_was_delivered_takes_no_other_with_it(tmp_path: Path) -> None:
    for folder in (tmp_path / "s", tmp_path / "file" / "s"):  # on disk, and in memory
        (tmp_path / "file").write_text("no folder")
        spool = Spool(folder, max_bytes=200, memory_bytes=130)
        spool.put("t", b"a" * 60)
        waiting = spool.peek()
        assert waiting is not None
        for letter in (b"b", b"c", b"d"):
            spool.put("t", letter * 60)
        spool.done(waiting[0])
        assert drained(spool) == [b"c" * 60, b"d" * 60]
        assert spool.dropped == 2
        spool.close()


@pytest.mark.parametrize("damage", ["middle", "cut", "empty", "gone", "state", "noise"])
def test_damage_costs_what_it_hit_and_is_counted(tmp_path: Path, damage: str) -> None:
    spool = Spool(tmp_path, 40_000)
    for number in range(30):
        spool.put("t", b"%03d" % number + b"y" * 497)
    for _ in range(3):
        waiting = spool.peek()
        assert waiting is not None
        spool.done(waiting[0])
    spool.close()
    first, second, *_ = sorted(tmp_path.glob("*.log"))
    last = sorted(tmp_path.glob("*.log"))[-1]
    size = _HEAD.size + 1 + 500
    match damage:
        case "middle":  # a byte of the sixth record
            data = bytearray(first.read_bytes())
            data[5 * size + 40] ^= 1
            first.write_bytes(data)
            lost = {5}
        case "cut":  # the end of the newest file: a record that was never written whole
            os.truncate(last, last.stat().st_size - 1)
            lost = {29}
        case "empty":
            first.write_bytes(b"")
            lost = set(range(3, int(second.stem) - 1))
        case "gone":
            second.unlink()
            lost = set(range(int(second.stem) - 1, int(sorted(tmp_path.glob("*.log"))[1].stem) - 1))
        case "state":
            (tmp_path / "state").write_bytes(os.urandom(200))
            lost = set()
        case "noise":
            first.write_bytes(os.urandom(100) + first.read_bytes())
            lost = set()
    spool = Spool(tmp_path, 40_000)
    begin = 0 if damage == "state" else 3  # without its state it begins anew: at least once
    assert [int(payload[:3]) for payload in drained(spool)] == [n for n in range(begin, 30) if n not in lost]
    assert spool.dropped == (0 if damage in ("cut", "gone") else len(lost))
    spool.put("t", b"030")
    assert drained(spool) == [b"030"]
    spool.close()


def test_numbers_grow_across_restarts(tmp_path: Path) -> None:
    seen = []
    for _ in range(4):
        spool = Spool(tmp_path)
        for _ in range(3):
            seen.append(spool.sequence)
            spool.put("t", b"x")
        drained(spool)
        spool.close()
    assert seen == list(range(1, 13))


def test_the_last_message_does_not_wait_for_another_to_be_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, synced, fsync = 100.0, 0, os.fsync

    def counted(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        fsync(descriptor)

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(os, "fsync", counted)
    spool = Spool(tmp_path / "spool")
    spool.put("t", b"1")
    first = synced
    spool.put("t", b"2")
    spool.settle()
    assert synced == first > 0
    now += 1.5
    spool.settle()
    assert synced > first
    last = synced
    spool.settle()
    assert synced == last, "and a flash card is left alone"
    spool.close()


def test_what_a_disk_did_not_take_is_written_when_it_does(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()  # in the folder's place
    spool = Spool(tmp_path / "spool")
    spool.put("t", b"1")
    assert spool.problem
    (tmp_path / "spool").unlink()
    spool.settle()
    assert not spool.problem and len(list((tmp_path / "spool").glob("*.log"))) == 1
    spool.close()


def test_a_folder_is_one_programs(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(ConfigError, match="another program"):
        Spool(tmp_path)
    spool.close()
    Spool(tmp_path).close()


def test_memory_stays_flat_while_thousands_wait(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 4_000_000)
    for _ in range(500):
        spool.put("t", b"x" * 900)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(5000):
        spool.put("t", b"x" * 900)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 200_000
    assert spool.dropped > 500
    spool.close()

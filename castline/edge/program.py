"""The program: one thread reads frames, one names the people in them, one delivers, and this one looks after them.

Between the first two lies one frame, between the last two the spool: nothing grows. A frame that a newer one has
overtaken is skipped and counted; what the link does not take waits on disk.
"""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from castline.edge.links import Link, LinkDown, NotAllowed
from castline.edge.message import Message, event_bytes, now
from castline.edge.model import Model, folder_of
from castline.edge.remembered import keep, write_atomically
from castline.edge.settings import Settings, parse, without_password
from castline.edge.slot import Slot
from castline.edge.sources import Backoff, Source, open_source
from castline.edge.spool import Spool
from castline.errors import CastlineError
from castline.photos.settings import PhotoSettings

__all__ = ["Program", "Releases"]

_log = logging.getLogger(__name__)
_REREAD = 60.0  # seconds after which the configuration is read again, lest a change was not told
_STATE = 10.0  # seconds between two writings of the state file
_PATIENCE = 10.0  # seconds that a source's last results are tried to be delivered, when it was to be read once
_FAILURES = 10  # frames in a row that the model fails at: then it is the model


class Releases(Protocol):
    """What the program tells the store of releases: that it starts, that the current release works, or does not."""

    def install(self, path: Path) -> object:
        """Bring a release in. Raises: CastlineError when it could not be tried."""

    def started(self) -> object: ...

    def healthy(self) -> None: ...

    def failed(self, reason: str) -> object:
        """Go back to the release before. Raises: CastlineError when there is none."""


class Program:
    """Frames in, results out, until `stop`.

    settings: to begin with. read: the configuration's values as they are now. link_of: a link for settings, which
    connects when it is first used; asked again when `mqtt` changes. load: a model for settings. work: a folder for
    spool and state. device: its name in messages. once: end when the source has been read and all is delivered.
    releases_of: the store that settings name, None without one. release: a zip to bring into a store before its model
    is opened; when it cannot be, the program goes on with what is there.
    """

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Mapping[str, Any]],
        link_of: Callable[[Settings], Link],
        load: Callable[[Settings], Model],
        work: Path,
        device: str,
        once: bool = False,
        releases_of: Callable[[Settings], Releases | None] = lambda settings: None,
        release: Path | None = None,
        backoff: float = 0.5,
    ) -> None:
        self._settings, self._read, self._link_of, self._load = settings, read, link_of, load
        self._work, self._device, self._once = work, device, once
        self._releases_of, self._releases, self._release = releases_of, releases_of(settings), release
        self._first_wait = backoff
        self._stop = threading.Event()
        self._wake = threading.Event()  # the thread that looks after the others
        self._ready = threading.Event()  # something to deliver
        self._changed = threading.Event()
        self._reading = threading.Event()  # set: the source that is read from now is to be let go
        self._slot = Slot()
        self._local: deque[tuple[str, bytes]] = deque(maxlen=16)
        self._failure: BaseException | None = None
        self._loading = False  # a release that is current, but does not run yet
        self._recognised = threading.Event()  # the source was read `once`, and all of it is in the spool
        self._looks: deque[dict[str, float]] = deque(maxlen=100)
        self._counts = dict.fromkeys(("frames", "faces", "failed", "delivered", "refused"), 0)
        self._problems: dict[str, str] = {}
        self._began, self._patience = now(), 0.0

    def stop(self) -> None:
        """End soon; may be called from a signal handler."""
        self._stop.set()
        self._wake.set()
        self._ready.set()

    def configuration_changed(self) -> None:
        """The configuration may be another: it is read again, on another thread."""
        self._changed.set()
        self._wake.set()

    def event(self, event: str | None, **said: Any) -> None:
        """Publish an event, on the topic of results with /events behind it."""
        self._spool.put(f"{self._settings.topic}/events", event_bytes(str(event), self._device, **said))
        self._ready.set()

    def run(self) -> int:
        """Work until `stop`. Returns 0, or 1 when a part of the program broke.

        Raises: CastlineError when it cannot begin.
        """
        self._spool = Spool(self._work / "spool", self._settings.spool_bytes)
        try:
            # What may be wrong comes first: a store counts who begins with its release.
            open_source(self._settings, PhotoSettings(), self._once)
            self._link = self._link_of(self._settings)
            try:
                self._bring_in(self._releases)
                if self._stop.is_set():
                    return 0
                self._folder, self._model = self._opened(self._settings, self._releases)
                return self._work_on()
            finally:
                self._link.close()
        finally:
            self._spool.close()

    def _bring_in(self, releases: Releases | None) -> None:
        if self._release is not None and releases is not None:
            self._try("install", partial(releases.install, self._release))

    def _opened(self, settings: Settings, releases: Releases | None) -> tuple[Path, Model]:
        """The model to begin with, and its folder; a release that does not open is left for the one before."""
        if releases is not None:
            releases.started()
        folder = folder_of(settings)  # first: what becomes current meanwhile is then found to be another
        try:
            return folder, self._load(settings)
        except CastlineError as error:
            if releases is None:
                raise
            _log.warning("%s", error)
            releases.failed(str(error))
        return folder_of(settings), self._load(settings)

    def _work_on(self) -> int:
        self._read_from(open_source(self._settings, self._model.photos, self._once))
        threads = [self._thread(self._recognise), self._thread(self._deliver)]
        self._link.state("RUNNING")
        _log.info("model %s looks at %s", self._model.version, without_password(self._settings.source))
        read = written = time.monotonic()
        self._write_state()
        while not self._stop.is_set():
            self._wake.wait(0.2 if self._once else 1.0)
            self._wake.clear()
            self._spool.settle()
            self._look_for_a_release()
            if self._changed.is_set() or time.monotonic() - read > _REREAD:
                self._changed.clear()
                read = time.monotonic()
                self._reconfigure()
            if time.monotonic() - written > _STATE:
                written = time.monotonic()
                self._write_state()
            if self._once and self._recognised.is_set():
                given_up = "link" in self._problems and time.monotonic() > self._patience
                if self._spool.empty or given_up:
                    break
        self.stop()
        self._reading.set()
        until = time.monotonic() + 5
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._spool.sync()
        self._write_state()
        if self._failure is not None:
            self._link.state("ERRORED")
            return 1
        return 0

    def _thread(self, target: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                target()
            except BaseException as error:
                _log.exception("%s broke", target.__name__.strip("_"))
                self._failure = error
                self.stop()

        # Daemons: one that hangs in a camera's driver cannot keep the program from ending.
        thread = threading.Thread(target=guarded, name=target.__name__.strip("_"), daemon=True)
        thread.start()
        return thread

    def _read_from(self, source: Source) -> None:
        """Read from `source`; whatever was read from before is let go."""
        self._reading.set()
        stop = self._reading = threading.Event()

        def reads() -> None:
            for frame in source.frames(stop):
                self._slot.put(frame, source.live, stop)
                if stop.is_set():
                    return
            if not stop.is_set():
                self._slot.end()

        self._thread(reads)

    def _recognise(self) -> None:
        in_a_row, healthy = 0, None
        while not self._stop.is_set():
            frame = self._slot.take(0.5)
            if frame is None:
                if self._slot.ended:
                    self._patience = time.monotonic() + _PATIENCE
                    self._recognised.set()
                    self._wake.set()
                    return
                continue
            releases, model, settings = self._releases, self._model, self._settings
            try:
                faces, steps = model.look(frame.photo)
                latency = {"decode": frame.decode_ms, **steps}
                latency["total"] = sum(latency.values())
                payload = Message(
                    faces, model.version, latency, frame.source, frame.number, self._spool.sequence, self._device,
                    self._slot.skipped, self._spool.dropped,
                ).json_bytes()  # fmt: skip
                in_a_row = 0
            except Exception:  # a picture may be anything, and a score no number; the device goes on
                in_a_row += 1
                self._counts["failed"] += 1
                _log.exception("%s, frame %d: not looked at", frame.source, frame.number)
                if in_a_row == _FAILURES:
                    raise
                continue
            self._looks.append(latency)
            self._counts["frames"] += 1
            self._counts["faces"] += len(faces)
            self._spool.put(settings.topic, payload)
            if settings.local_topic:
                self._local.append((settings.local_topic, payload))
            self._ready.set()
            # While the next release is being loaded, it is not that one which works.
            runs = self._model is model and self._releases is releases and not self._loading
            if releases is not None and healthy is not model and runs:
                healthy = model
                releases.healthy()

    def _deliver(self) -> None:
        backoff, due = Backoff(self._first_wait), 0.0
        while not self._stop.is_set():
            self._ready.clear()
            link = self._link
            while self._local:
                self._try("local", partial(link.local, *self._local.popleft()))
            wait = due - time.monotonic()
            waiting = self._spool.peek() if wait <= 0 else None
            if waiting is None:
                self._ready.wait(min(wait, 1.0) if wait > 0 else 1.0)
                continue
            number, topic, payload = waiting
            try:
                link.publish(topic, payload)
                self._counts["delivered"] += 1
                self._solved("link", f"topic {topic}")
                backoff.reset()
            except NotAllowed as error:
                self._problem(f"topic {topic}", str(error))
                self._counts["refused"] += 1
            except LinkDown as error:
                self._problem("link", str(error))
                due = time.monotonic() + backoff.next()
                self._wake.set()
                continue
            self._spool.done(number)

    def _try(self, what: str, do: Callable[[], object]) -> None:
        try:
            do()
            self._solved(what)
        except CastlineError as error:
            self._problem(what, str(error))

    def _problem(self, what: str, why: str) -> None:
        """Say what is wrong, once."""
        if what not in self._problems:
            _log.warning("%s", why)
        self._problems[what] = why

    def _solved(self, *whats: str) -> None:
        for what in whats:
            if self._problems.pop(what, None) is not None:
                _log.warning("%s: works again", what)

    def _reconfigure(self) -> None:
        """Read the configuration and do what differs; a wrong one is said, and the last good one stays."""
        try:
            values = self._read()
        except CastlineError as error:
            self._problem("configuration", str(error))
            return
        try:
            settings, notes = parse(values)
            if settings == self._settings:
                self._solved("configuration")
                return
            self._apply(settings)
        except CastlineError as error:
            if self._problems.get("configuration") != str(error):
                self._problem("configuration", str(error))
                self.event("configuration-refused", reason=str(error))
            return
        for note in notes:
            _log.warning("configuration: %s", note)
        self._solved("configuration")
        keep(self._work, values)
        _log.info("configured anew")

    def _apply(self, settings: Settings) -> None:
        """Go over to `settings`. Raises: CastlineError; everything then is as it was."""
        before, folder, model, releases = self._settings, self._folder, self._model, self._releases
        # As at the beginning, what may be wrong comes first.
        link = self._link_of(settings) if settings.mqtt != before.mqtt else self._link
        source = open_source(settings, model.photos, self._once)
        if settings.store_path != before.store_path:
            releases = self._releases_of(settings)
            self._bring_in(releases)
            if self._stop.is_set():
                return
            folder, model = self._opened(settings, releases)
        elif _of_model(settings) != _of_model(before):
            folder = folder_of(settings)
            model = self._load(settings)
        anew = _of_source(settings) != _of_source(before)
        if model.photos != self._model.photos:
            source, anew = open_source(settings, model.photos, self._once), True
        if link is not self._link:
            self._link.close()  # before the new one connects: a broker throws out the older of two of one name
            self._link = link
        self._settings, self._folder, self._model, self._releases = settings, folder, model, releases
        if anew:
            self._read_from(source)
        self._spool.max_bytes = settings.spool_bytes

    def _look_for_a_release(self) -> None:
        """Go over to a release that the store has made current. One that does not open is said; the old one stays."""
        folder = folder_of(self._settings)
        if folder == self._folder:
            return
        self._folder = folder
        self._loading = True
        try:
            if self._releases is not None:
                self._releases.started()
            before, model = self._model, self._load(self._settings)
            if model.photos != before.photos:
                self._read_from(open_source(self._settings, model.photos, self._once))
            self._model = model
        except CastlineError as error:
            self._problem("model", str(error))
            if self._releases is None:
                self.event("model-refused", to=folder.name, reason=str(error))
            else:  # the store goes back and says so; what runs goes on meanwhile
                self._try("store", partial(self._releases.failed, str(error)))
            return
        finally:
            self._loading = False
        self._solved("model")
        _log.info("model %s instead of %s", model.version, before.version)

    def _write_state(self) -> None:
        """What there is to know of the program, for people and for whatever watches it: state.json."""
        looks = list(self._looks)  # at once: another thread adds to it
        steps = {step for look in looks for step in look}
        state = {
            "since": self._began,
            "now": now(),
            "model-version": self._model.version,
            "source": without_password(self._settings.source),
            **self._counts,
            "skipped": self._slot.skipped,
            "dropped": self._spool.dropped,
            "latency-ms": {
                step: round(median(look[step] for look in looks if step in look), 2) for step in sorted(steps)
            },
            "problems": {**self._problems, **({"spool": self._spool.problem} if self._spool.problem else {})},
        }
        with suppress(OSError):
            write_atomically(self._work / "state.json", json.dumps(state, indent=2, default=str))


def _of_model(settings: Settings) -> tuple[Any, ...]:
    return settings.model, settings.threads, settings.threshold


def _of_source(settings: Settings) -> tuple[Any, ...]:
    return settings.source, settings.fps, settings.interval

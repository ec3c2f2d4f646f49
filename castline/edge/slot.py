"""Room for one frame between the thread that reads and the one that looks: back-pressure instead of a queue."""

import threading

from castline.edge.sources import Frame

__all__ = ["Slot"]


class Slot:
    """One frame. skipped: how many were not taken before a newer one came."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._frame: Frame | None = None
        self._ended = False
        self.skipped = 0

    @property
    def ended(self) -> bool:
        """Whether no frame is there, nor will come."""
        with self._condition:
            return self._ended and self._frame is None

    def put(self, frame: Frame, live: bool, stop: threading.Event) -> None:
        """Hand over a frame: one that is `live` takes the place of an older one, others wait for it to be taken."""
        with self._condition:
            while not live and self._frame is not None and not stop.is_set():
                self._condition.wait(0.5)
            if not stop.is_set():
                self.skipped += self._frame is not None
                self._frame = frame
                self._condition.notify_all()

    def take(self, timeout: float) -> Frame | None:
        """The frame, once there is one; None when none comes within `timeout` seconds."""
        with self._condition:
            if self._frame is None and not self._ended:
                self._condition.wait(timeout)
            frame, self._frame = self._frame, None
            self._condition.notify_all()
            return frame

    def end(self) -> None:
        """No more frames will come."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

"""Pictures and videos looked at in processes of their own: pages stay quick, and a bad file ends nobody's visit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event

from castline.app.limits import Limits
from castline.app.models import Model
from castline.app.seen import Footage, Picture
from castline.runtime import Cast

__all__ = ["Job", "Workers"]


@dataclass(eq=False)
class Job:
    """Something that is looked at, or was. Pages that show the same file by the same model share it.

    state: waiting, working, done or failed. share: how much of a video is done, 0 to 1, or None where that is not
    known. error: what to tell the visitor where it failed, in words and without a path. result: once it is done.
    """

    state: str = "waiting"
    share: float | None = None
    error: str = ""
    result: Picture | Footage | None = None
    ended: Event = field(default_factory=Event)

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it has ended, within so long."""
        return self.ended.wait(seconds)


class Workers:
    """The processes. One of these serves all visitors."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def picture(self, data: bytes, model: Model) -> Job:
        """Look at a picture, unless that has been done."""
        raise NotImplementedError

    def video(self, data: bytes, model: Model, cast: Cast) -> Job:
        """Look at a video and name who is in it. cast: of `model`, with people who were enrolled for this visit."""
        raise NotImplementedError

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Give up what nobody waits for any more."""

    def close(self) -> None:
        """End the processes."""

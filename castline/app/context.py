"""What every page is given."""

from dataclasses import dataclass

from castline.app.limits import Limits
from castline.app.models import Model
from castline.app.session import Session
from castline.app.work import Workers

__all__ = ["Context"]


@dataclass(frozen=True, eq=False)
class Context:
    """model: that is chosen; None while there is none, or it cannot be used. session: the visitor's."""

    model: Model | None
    workers: Workers
    limits: Limits
    session: Session

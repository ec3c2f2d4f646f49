"""What `castline app` was told, for the script that Streamlit runs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from castline.app.limits import Limits

__all__ = ["AppSettings"]


@dataclass(frozen=True)
class AppSettings:
    """bundle: the folder of the working model. version: that is chosen at first, by default the working one."""

    bundle: str = "models/recognizer"
    version: str = ""
    limits: Limits = field(default_factory=Limits)

    def as_argument(self) -> str:
        """As a word of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def of_arguments(cls, arguments: Sequence[str]) -> "AppSettings":
        """What `as_argument` made, or the defaults."""
        if not arguments:
            return cls()
        values = json.loads(arguments[0])
        return cls(**{**values, "limits": Limits(**values["limits"])})

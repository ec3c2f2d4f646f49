"""What may be asked of the word "unknown", and of the report."""

import re
from dataclasses import dataclass

from castline.errors import ConfigError

__all__ = ["OpenSetSettings", "ReportSettings"]


@dataclass(frozen=True)
class OpenSetSettings:
    """The `open_set` section of params.yaml.

    fpir: the share of strangers' faces that may be given a name; a threshold is fitted to it.
    by: what is held against the threshold: similarity, to the nearest person's training faces; or confidence, of the
    name.
    """

    fpir: float = 0.01
    by: str = "similarity"

    def __post_init__(self) -> None:
        if not 0 < self.fpir < 1:
            raise ConfigError(f"open_set.fpir is {self.fpir:g}, it is a share: above 0 and below 1")
        if self.by not in ("similarity", "confidence"):
            raise ConfigError(f"open_set.by is {self.by!r}, allowed: similarity, confidence")


@dataclass(frozen=True)
class ReportSettings:
    """The `report` section of params.yaml.

    since: the version that the report compares with, such as v1.0.0; "" for none. commit: its commit, 40 hex digits.
    of: a digest of all settings that the report may say have changed since.
    Composing fills all in: the commit, because a report must be made of what params.yaml says, and tags can be moved.
    """

    since: str = ""
    commit: str = ""
    of: str = ""

    def __post_init__(self) -> None:
        if bool(self.since) != bool(self.commit) or not re.fullmatch("([0-9a-f]{40})?", self.commit):
            raise ConfigError(
                f"report.commit is {self.commit!r}, wanted is the commit of report.since, {self.since!r}",
                "castline compose finds both",
            )

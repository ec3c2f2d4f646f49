"""Who runs the stages: conf/fleet.yaml and conf/orchestrator/, composed by `castline fleet`, not into params.yaml."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from castline import project
from castline.errors import ConfigError
from castline.files import params

__all__ = ["KINDS", "OrchestratorSettings", "read"]

KINDS = ("local", "clearml")
_NAME = re.compile(r"[\w][\w ./:-]{0,99}")


@dataclass(frozen=True)
class OrchestratorSettings:
    """kind: one of KINDS. hours: to wait for a run. poll: seconds between two looks. lost: minutes of silence after
    which something at work counts as lost.

    For ClearML: the project that tasks are in; the queue of stages, and by name those of some (a stage that there is
    one of for each batch is named without it); the queue of what tunes more than a head; what agents clone, "" for
    git's origin.
    """

    kind: str
    hours: float
    poll: float
    lost: float
    project: str = "castline"
    queue: str = "cpu"
    tuning_queue: str = "gpu"
    queues: dict[str, str] = field(default_factory=dict)
    repository: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"orchestrator.kind={self.kind}, allowed: {', '.join(KINDS)}")
        for name in ("hours", "poll", "lost"):
            if not 0 < getattr(self, name) < 1e6:
                raise ConfigError(f"orchestrator.{name}={getattr(self, name):g}, allowed is a number above 0")
        for name in (self.project, self.queue, self.tuning_queue, *self.queues.values()):
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"orchestrator: {name!r} is no name for a project or queue",
                    "letters, digits, spaces and . _ - / : are allowed",
                )

    def queue_of(self, stage: str | None, values: Mapping[str, Any]) -> str:
        """The queue of a stage, or of the whole pipeline (None), with the values of params.yaml."""
        name = (stage or "train").partition("@")[0]
        if name in self.queues:
            return self.queues[name]
        tunes = name == "train" and values.get("training", {}).get("tune", "head") != "head"
        return self.tuning_queue if tunes else self.queue


def read(overrides: Sequence[str] = ()) -> OrchestratorSettings:
    """What conf/fleet.yaml comes to with Hydra's overrides, such as `orchestrator=clearml`.

    Raises: ConfigError.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    project.check_in_project()
    if wrong := [word for word in overrides if not word.lstrip("+~").startswith("orchestrator")]:
        raise ConfigError(f"{wrong[0]!r} says nothing of the orchestrator", f"of the experiment: -S '{wrong[0]}'")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "fleet.yaml")
        try:
            compose_and_dump(made, str(Path("conf").absolute()), None, "fleet", str(Path.cwd()), list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(
                f"conf/fleet.yaml cannot be composed: {error}", "orchestrator=clearml, or =local"
            ) from error
        return params.read("orchestrator", OrchestratorSettings, made)

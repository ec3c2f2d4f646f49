"""`castline fleet run` and `status`, by whichever orchestrator was chosen."""

import re
from collections.abc import Sequence

from castline.errors import ConfigError
from castline.fleet.settings import read

__all__ = ["run", "status"]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}", re.IGNORECASE)


def run(orchestrator: Sequence[str], overrides: Sequence[str], name: str | None) -> list[str] | None:
    """What became of it: a line for each experiment, its name first; None when all was up to date.

    Raises: CastlineError when something was not done.
    """
    from castline.fleet import controller, local

    settings = read(orchestrator)
    name = _named(name or controller.free_name("fleet"))
    if settings.kind == "local":
        return local.run(settings, name, overrides)
    made = controller.run(settings, name, overrides)
    return [f"{name}  Success, commit {made[:7]}"] if made else None


def status(orchestrator: Sequence[str], name: str) -> list[dict[str, str]]:
    """name, status and detail, of the run and each of its tasks.

    Raises: CastlineError when nothing can be found out.
    """
    settings = read(orchestrator)
    if settings.kind == "local":
        from castline.fleet import local

        rows = [(str(one["name"] or one["rev"][:7]), str(one["status"]), "") for one in local.entries()]
    else:
        from castline.fleet.server import Server

        found = Server(settings).newest(_named(name) if name else "")
        states = [found[0], *found[1]] if found else []
        rows = [(state.name, state.status, state.reason) for state in states]
    return [{"name": name, "status": status, "detail": detail} for name, status, detail in rows]


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a run", "letters, digits and dashes, 41 at most: --name night-2")
    return name

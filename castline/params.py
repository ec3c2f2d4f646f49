"""params.yaml, read a section at a time into frozen dataclasses: a wrong key or type is said, not guessed at."""

import dataclasses
import io
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from castline.errors import ConfigError

__all__ = ["read", "typed"]

T = TypeVar("T")
_MEND = "edit it in conf/, then: castline compose"


def read(section: str, settings: type[T], path: Path = Path("params.yaml")) -> T:
    """The section of params.yaml as `settings`, a dataclass.

    Raises: ConfigError naming the key, its value and what is allowed.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path.absolute()}: no params.yaml here", "run it in the project's folder, or: castline compose"
        )
    try:
        values = _values(path.read_text(encoding="utf-8"))
    except (OmegaConfBaseException, OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}", "castline compose writes it anew from conf/") from error
    if not isinstance(values, dict) or section not in values:
        raise ConfigError(f"{path}: there is no section {section!r}", "castline compose writes it anew from conf/")
    return typed(values[section], settings, section)


@lru_cache(maxsize=2)
def _values(text: str) -> Any:
    """What a YAML text says. A stage reads section after section of one file, and parsing takes a tenth of a second."""
    return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=True)


def typed(values: Any, settings: type[T], section: str) -> T:
    """Plain values (of a YAML section) as `settings`, a dataclass, its tuples as tuples.

    Raises: ConfigError naming the key, its value and what is allowed.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(settings), values or {})
        made = OmegaConf.to_object(merged)
    except ConfigError as error:  # the dataclass's own word on its values
        raise ConfigError(error.what, error.next or _MEND) from error
    except OmegaConfBaseException as error:
        key = f"{section}.{error.full_key}" if getattr(error, "full_key", None) else section
        allowed = ", ".join(field.name for field in dataclasses.fields(settings))  # type: ignore[arg-type]
        what = str(error.msg if hasattr(error, "msg") else error).splitlines()[0]
        raise ConfigError(f"{key}: {what} (keys of {section}: {allowed})", _MEND) from error
    if not isinstance(made, settings):
        raise ConfigError(f"{section}: has to be a mapping, not {values!r}", _MEND)
    return made

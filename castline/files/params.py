"""params.yaml, read a section at a time into frozen dataclasses: a wrong key or type is said, not guessed at.

Hydra composes it, OmegaConf writes it. Every stage reads it, so it is read without them, which takes a hundredth of
the time.
"""

import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from castline.errors import ConfigError

__all__ = ["load", "read", "typed"]

T = TypeVar("T")
_MEND = "edit it in conf/, then: castline compose"


def read(section: str, settings: type[T], path: Path = Path("params.yaml")) -> T:
    """The section of params.yaml as `settings`, a dataclass.

    Raises: ConfigError naming the key, its value and what is allowed.
    """
    values = load(path)
    if section not in values:
        raise ConfigError(f"{path}: there is no section {section!r}", "castline compose writes it anew from conf/")
    return typed(values[section], settings, section)


def load(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """All sections, as plain values that are not to be changed.

    Raises: ConfigError when there are none.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path.absolute()}: no params.yaml here", "run it in the project's folder, or: castline compose"
        )
    try:
        values = _values(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}", "castline compose writes it anew from conf/") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: there is no section in it", "castline compose writes it anew from conf/")
    return values


@lru_cache(maxsize=2)
def _values(text: str) -> Any:
    """What a YAML text says. A stage reads section after section of one file."""
    return yaml.load(text, yaml.CSafeLoader)


def typed(values: Any, settings: type[T], section: str) -> T:
    """Plain values (of a YAML section) as `settings`, a dataclass, its tuples as tuples.

    Raises: ConfigError naming the key, its value and what is allowed.
    """
    try:
        made: T = _made(values or {}, settings, section)
    except ConfigError as error:  # the dataclass's own word on its values has no advice
        raise ConfigError(error.what, error.next or _MEND) from error
    return made


def _made(value: Any, kind: Any, key: str) -> Any:
    """A value of the type that a dataclass's field has.

    Numbers may be written as text, as YAML takes 1e-3 for one, and text as numbers, as it takes a batch named 2024.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        types = get_type_hints(kind)
        fields = {field.name: field for field in dataclasses.fields(kind)}
        if unknown := [name for name in value if name not in fields]:
            raise ConfigError(f"{key}.{unknown[0]}: there is no such key (keys of {key}: {', '.join(fields)})")
        made = {name: _made(one, types[name], f"{key}.{name}") for name, one in value.items()}
        for name, field in fields.items():
            if name not in made and field.default is field.default_factory is dataclasses.MISSING:
                raise ConfigError(f"{key}.{name}: has to be set (keys of {key}: {', '.join(fields)})")
        build: Any = kind
        return build(**made)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return origin(_made(one, inner[0], f"{key}[{place}]") for place, one in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {str(name): _made(one, inner[1], f"{key}.{name}") for name, one in value.items()}
    if kind is str and not isinstance(value, dict | list | None) and value != "???":  # Hydra's word for what is not set
        return str(value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind in (int, float) and isinstance(value, str | int | kind) and not isinstance(value, bool):
        try:
            return kind(value)
        except ValueError:
            pass
    raise ConfigError(f"{key}: has to be {_NAMES.get(origin or kind, 'a mapping')}, not {value!r}")


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list", tuple: "a list"}

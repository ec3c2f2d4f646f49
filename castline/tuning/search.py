"""The search-space file: which settings to try, between what bounds, and how a value is written for Hydra."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from yaml import YAMLError

from castline.errors import ConfigError

__all__ = ["OBJECTIVES", "Search", "Value", "differing", "found", "override", "read"]

Value = str | int | float | bool | None

# Columns of reports/curves.csv, and which way is better. Both are of the validation faces: whoever chooses settings by
# the test faces has no number left that says how good the model is on faces it has not seen.
OBJECTIVES = {"val_loss": "minimize", "val_accuracy": "maximize"}

# What Hydra takes as text without quotes, and does not take for a number, a truth value or nothing.
_PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)\Z)[A-Za-z_][A-Za-z0-9_]*", re.IGNORECASE)


@dataclass(frozen=True)
class Search:
    """What to look for: the objective, overrides that hold for every trial, and the settings with their bounds."""

    objective: str
    fixed: tuple[str, ...]
    space: dict[str, BaseDistribution]

    def overrides(self, settings: Mapping[str, Value]) -> list[str]:
        """Hydra's overrides of a trial."""
        return [*self.fixed, *(override(key, value) for key, value in settings.items())]


def read(path: Path) -> Search:
    """A search-space file, checked as far as it can be without the project's settings.

    Raises: ConfigError naming the key and what is allowed.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such search-space file", "--search search/head.yaml, or write your own")
    try:
        made = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        raise ConfigError(f"{path}: {error}", "write it like search/head.yaml") from error
    made = made if isinstance(made, dict) else {}
    _known(str(path), made, ("objective", "fixed", "space"))
    objective, fixed, space = made.get("objective", "val_loss"), made.get("fixed") or [], made.get("space")
    if objective not in OBJECTIVES:
        raise ConfigError(f"{path}: objective is {objective!r}, allowed: {', '.join(OBJECTIVES)}")
    if not (isinstance(fixed, list) and all(isinstance(word, str) and "=" in word for word in fixed)):
        raise ConfigError(f"{path}: fixed is {fixed!r}, wanted is a list of overrides", "fixed: [training.epochs=200]")
    if not (isinstance(space, dict) and space):
        raise ConfigError(f"{path}: there is no space to search", "space: {head.dropout: {choices: [0.0, 0.5]}}")
    return Search(objective, tuple(fixed), {str(key): _distribution(f"{path}: {key}", space[key]) for key in space})


def _distribution(where: str, bounds: Any) -> BaseDistribution:
    wanted = (
        "{type: float, low: 0.0, high: 0.5}, {type: int, low: 1, high: 9} or {choices: [a, b]}; log: true is allowed"
    )
    if not isinstance(bounds, dict):
        raise ConfigError(f"{where} is {bounds!r}", f"write {wanted}")
    if "choices" in bounds:
        _known(where, bounds, ("choices",))
        choices = bounds["choices"]
        if not (isinstance(choices, list) and choices and all(_plain(choice) for choice in choices)):
            raise ConfigError(
                f"{where}: choices is {choices!r}", "list numbers, words, true, false or null, one or more"
            )
        return CategoricalDistribution(choices)
    _known(where, bounds, ("type", "low", "high", "log"))
    kind, log = bounds.get("type"), bounds.get("log", False)
    low: Any = bounds.get("low")
    high: Any = bounds.get("high")
    number = (int, float) if kind == "float" else int
    fits = all(isinstance(bound, number) and not isinstance(bound, bool) for bound in (low, high))
    if kind not in ("float", "int") or not fits or not isinstance(log, bool):
        raise ConfigError(f"{where} is {bounds!r}", f"write {wanted}")
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ConfigError(f"{where}: low is {low}, high is {high}; low has to be the lower one")
    if log and low <= 0:
        raise ConfigError(f"{where}: low is {low}; with log: true it has to be above 0")
    if kind == "int":
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _plain(choice: Any) -> bool:
    if isinstance(choice, str):
        return "${" not in choice  # which conf/ would take for a reference to another setting
    return choice is None or isinstance(choice, bool | int) or (isinstance(choice, float) and math.isfinite(choice))


def _known(where: str, mapping: Mapping[Any, Any], keys: Sequence[str]) -> None:
    if unknown := [key for key in mapping if key not in keys]:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}, known are {', '.join(keys)}")


def override(key: str, value: Value) -> str:
    r"""A setting as Hydra reads it back: numbers exact, text in quotes where it needs them.

    >>> print(override("training.lr", 1e-05), override("head.kind", "cosine"), override("split.salt", "it's, 1"))
    training.lr=1e-05 head.kind=cosine split.salt='it\'s, 1'
    """
    if isinstance(value, str):
        # A backslash counts for itself except before a quote, where two stand for one.
        quoted = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
        written = value if _PLAIN.fullmatch(value) else f"'{quoted}'"
    elif isinstance(value, bool):
        written = str(value).lower()
    else:
        written = "null" if value is None else repr(value)
    return f"{key}={written}"


def found(settings: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key.

    Raises: ConfigError naming the keys beside which it was looked for.
    """
    value: Any = settings
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(value, dict) or part not in value:
            above = ".".join(parts[:depth])
            known = ", ".join(map(str, value)) if isinstance(value, dict) else "nothing: it is a value"
            raise ConfigError(f"there is no setting {key!r}; in {above or 'params.yaml'} there is {known}")
        value = value[part]
    return value


def differing(one: Mapping[str, Any], other: Mapping[str, Any], above: str = "") -> dict[str, tuple[Any, Any]]:
    """The dotted keys at which two trees of settings differ, each with both values; None stands for absent."""
    different: dict[str, tuple[Any, Any]] = {}
    for key in {**one, **other}:
        mine, theirs = one.get(key), other.get(key)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            different |= differing(mine, theirs, f"{above}{key}.")
        elif mine != theirs:
            different[f"{above}{key}"] = (mine, theirs)
    return different

"""Entries of dvc.lock: what a stage that ran elsewhere has read and made, taken out there and put in here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from castline.errors import DataError

__all__ = ["Entries", "entries", "merge"]

Entries = dict[str, dict[str, Any]]
"""By stage: what dvc.lock has of it: cmd, deps, params, outs."""


def entries(stages: Sequence[str] = (), path: Path = Path("dvc.lock")) -> Entries:
    """What the file says of `stages`, or of all; those it does not know are absent.

    Raises: DataError when it is no dvc.lock.
    """
    # As DVC reads it: YAML 1.2, where `yes` is a text.
    from dvc.utils.serialize import YAMLFileCorruptedError, load_yaml

    try:
        read = load_yaml(path) if path.exists() else {}
        found: Entries = {name: dict(entry) for name, entry in (read or {}).get("stages", {}).items()}
    except (OSError, UnicodeDecodeError, YAMLFileCorruptedError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", f"git checkout {path}") from error
    return {name: found[name] for name in stages if name in found} if stages else found


def merge(fragments: Sequence[Mapping[str, dict[str, Any]]], path: Path = Path("dvc.lock")) -> list[str]:
    """Put what stages that ran elsewhere say into the file, all or nothing; the stages whose entry is another now.

    Raises: DataError when two say different things of one stage, or the file is no dvc.lock.
    """
    known, new = entries(path=path), Entries()
    for fragment in fragments:
        for name, entry in fragment.items():
            if new.setdefault(name, entry) != entry:
                raise DataError(f"stage {name} ran twice, with different results", "dvc repro")
    changed = [name for name, entry in new.items() if known.get(name) != entry]
    if changed:
        from dvc.utils.serialize import dump_yaml

        unfinished = path.with_name(f"{path.name}.part")
        dump_yaml(unfinished, {"schema": "2.0", "stages": {**known, **new}})
        unfinished.replace(path)
    return changed

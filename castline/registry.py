"""`castline models`: the base models of conf/base_model/, what each wants and allows, and which are here already."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from castline.embedding.base_settings import BaseModelSettings
from castline.embedding.download import cached, hush_hub
from castline.embedding.entries import read_entries
from castline.errors import CastlineError
from castline.files.weights import checked_file, packaged_file
from castline.runtime.draw import printable

__all__ = ["as_json", "as_table", "is_here"]

_COLUMNS = ("name", "source", "input", "embedding", "template", "licence", "commercial", "here")
_WIDEST = 60


def as_table(conf: Path = Path("conf")) -> str:
    """The entries as text, a line each, under a line of titles.

    Raises: ConfigError for an entry that is none.
    """
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for entry in read_entries(conf):
        *values, here = _row(entry).values()
        rows.append(tuple(printable(str(value), _WIDEST) for value in (*values, "yes" if here else "no")))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def as_json(conf: Path = Path("conf")) -> str:
    """The same as JSON: a list of objects.

    Raises: ConfigError for an entry that is none.
    """
    return json.dumps([_row(entry) for entry in read_entries(conf)], indent=2, ensure_ascii=True)


def is_here(settings: BaseModelSettings) -> bool:
    """Whether the weights can be had without a network, and are those of the entry where it says which."""
    try:
        if settings.source == "packaged":
            packaged_file(settings.package, settings.file, settings.sha256)
        elif settings.source == "file":
            path = Path(settings.file).expanduser() if settings.file else cached(settings.url, settings.sha256)
            checked_file(path, settings.sha256, "")
        else:
            return _in_hubs_cache(settings)
    except (CastlineError, OSError):
        return False
    return True


def _row(entry: BaseModelSettings) -> dict[str, Any]:
    values = (
        entry.name,
        entry.source,
        entry.input_size,
        entry.embedding_size,
        entry.template,
        entry.licence,
        entry.commercial_ok,
        is_here(entry),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _in_hubs_cache(settings: BaseModelSettings) -> bool:
    hush_hub()
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    # timm keeps what it publishes under timm/ARCHITECTURE.TAG; asking timm itself would take seconds.
    timms: tuple[str, Sequence[str]] = (f"timm/{settings.architecture}", ("model.safetensors", "pytorch_model.bin"))
    repo, files = timms if settings.source == "timm" else (settings.repo, (settings.file,))
    try:
        found = [try_to_load_from_cache(repo, file, revision=settings.revision) for file in files]
    except HFValidationError:
        return False
    paths = [Path(path) for path in found if isinstance(path, str)]
    if settings.sha256:
        paths = [checked_file(path, settings.sha256, "") for path in paths]
    return bool(paths)

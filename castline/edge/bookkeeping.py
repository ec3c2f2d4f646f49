"""What a store of releases remembers: state.json."""

import json
from dataclasses import asdict, dataclass, field, fields

from castline import __version__

__all__ = ["State"]

_REMEMBERED = 20  # refused releases


@dataclass
class State:
    """state.json. current: the version that was announced last. starts: of it, in a row, that it did not live through.
    proven: versions that have run well here. leaving: why `current` is being left, until that is announced. refused: by
    the SHA-256 of a zip or of a manifest: version, reason, and the castline that refused it.
    """

    current: str | None = None
    starts: int = 0
    proven: list[str] = field(default_factory=list)
    leaving: str = ""
    refused: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> "State":
        """A damaged one counts as none: what it costs is an announcement made twice and a refusal forgotten."""
        try:
            state = cls(**json.loads(data))
        except (ValueError, TypeError, RecursionError):
            return cls()
        sound = (
            all(type(getattr(state, part.name)) in _KINDS[part.name] for part in fields(cls))
            and all(isinstance(version, str) for version in state.proven)
            and all(_is_entry(entry) for entry in state.refused.values())
        )
        return state if sound else cls()

    def json_bytes(self) -> bytes:
        """What `parse` reads."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    def refuse(self, digest: str, version: str, reason: str) -> None:
        """Not to be tried again. Only so many are remembered."""
        self.refused.pop(digest, None)
        self.refused[digest] = {"version": version, "reason": reason, "castline": __version__}
        for oldest in list(self.refused)[:-_REMEMBERED]:
            del self.refused[oldest]

    def refusal(self, digest: str) -> dict[str, str] | None:
        """Why this is not to be tried. What another castline refused may do with this one."""
        found = self.refused.get(digest)
        return found if found and found["castline"] == __version__ else None


_KINDS = {"current": (str, type(None)), "starts": (int,), "proven": (list,), "leaving": (str,), "refused": (dict,)}


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {"version", "reason", "castline"}
        and all(isinstance(text, str) for text in entry.values())
    )

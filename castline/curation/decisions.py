"""What a person decided about single faces: labels/review.json, by hand or as Label Studio exports it.

Castline's own format:

    {"decisions": [
        {"sha256": "55d3…", "face": 0, "decision": "keep"},
        {"sha256": "9a1c…", "face": 0, "decision": "leave out"},
        {"sha256": "07be…", "face": 1, "decision": "it is", "person": "alma"}]}

sha256 is that of the photo's file, so a decision holds wherever the photo lies. An empty decision is none yet; other
keys are for whoever reads the file. A Label Studio export ("JSON") of the tasks of `castline review` is read alike.
"""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from castline.errors import DataError

__all__ = ["IT_IS", "KEEP", "LEAVE_OUT", "Decision", "read_decisions"]

KEEP, LEAVE_OUT, IT_IS = "keep", "leave out", "it is"
_HOW = "docs/curation.md shows what is read; or move the file away"


@dataclass(frozen=True)
class Decision:
    """kind: keep, leave out, or it is. person: who it is, else empty."""

    kind: str
    person: str = ""


def read_decisions(path: Path) -> dict[tuple[str, int], Decision]:
    """Decisions by the photo's sha256 and the face's number in it. No file, no decision.

    Raises: DataError naming the entry that does not fit, or the face about which two entries differ.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}", _HOW) from error
    found: dict[tuple[str, int], Decision] = {}
    for where, entry in _entries(path, content):
        said = entry.get("decision")
        if said in (None, ""):
            continue
        sha256, face, person = entry.get("sha256"), entry.get("face"), entry.get("person") or ""
        if not isinstance(sha256, str) or len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef"):
            raise DataError(f"{path}, {where}: sha256 is {sha256!r}, not 64 hexadecimal digits", _HOW)
        if not isinstance(face, int) or isinstance(face, bool) or face < 0:
            raise DataError(f"{path}, {where}: face is {face!r}, not the number of a face (0, 1, ...)", _HOW)
        if said not in (KEEP, LEAVE_OUT, IT_IS):
            raise DataError(f"{path}, {where}: decision is {said!r}, not one of: {KEEP}, {LEAVE_OUT}, {IT_IS}", _HOW)
        # As folders are: one Unicode form, no blanks around it.
        person = unicodedata.normalize("NFC", person).strip() if isinstance(person, str) else ""
        if (said == IT_IS) != bool(person):
            raise DataError(f"{path}, {where}: a person is named where the decision is {IT_IS!r}, and only there", _HOW)
        key, decision = (sha256.lower(), face), Decision(said, person)
        if found.setdefault(key, decision) != decision:
            raise DataError(f"{path}, {where}: face {face} of {sha256[:12]}… is decided twice, differently", _HOW)
    return found


def _entries(path: Path, content: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """The entries of either format, and where each is."""
    if isinstance(content, dict) and isinstance(content.get("decisions"), list):
        entries = [(f"decisions[{i}]", entry) for i, entry in enumerate(content["decisions"])]
    elif isinstance(content, list):
        entries = [one for i, task in enumerate(content) for one in _of_task(f"task {i}", task)]
    else:
        raise DataError(f'{path}: neither {{"decisions": [...]}} nor a Label Studio export', _HOW)
    for where, entry in entries:
        if not isinstance(entry, dict):
            raise DataError(f"{path}, {where}: not a mapping", _HOW)
    return entries


def _of_task(where: str, task: Any) -> list[tuple[str, Any]]:
    """The annotations of one exported task; skipped ones and drafts say nothing."""
    try:
        data, found = task["data"], []
        for number, annotation in enumerate(task["annotations"]):
            if annotation["was_cancelled"]:
                continue
            said = {result["from_name"]: result["value"] for result in annotation["result"]}
            person = said["person"]["text"] if "person" in said else ""
            entry = {
                "sha256": data["sha256"],
                "face": data["face"],
                "decision": said["decision"]["choices"][0] if "decision" in said else "",
                "person": person if isinstance(person, str) else person[0],
            }
            if entry["decision"] != IT_IS:
                entry["person"] = ""  # a name that was typed before another choice was made
            found.append((f"{where}, annotation {number}", entry))
        return found
    except (KeyError, IndexError, TypeError):
        return [(f"{where} (not one that `castline review` made)", None)]

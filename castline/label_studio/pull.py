"""What people said, from the server into labels/batches/BATCH.json: what the pipeline reads, sorted, a task a line."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from castline.errors import CastlineError, DataError
from castline.label_studio.client import Client
from castline.label_studio.projects import clusters_of, find
from castline.photos.batches import check_name
from castline.text import shown

__all__ = ["Pulled", "export", "pull", "slim", "write"]

_KEYS = ("id", "completed_by", "was_cancelled", "ground_truth", "created_at", "updated_at", "lead_time", "result")


@dataclass(frozen=True)
class Pulled:
    """Tasks by their state: labelled, skipped (by all who answered), begun (a draft only), not yet. labellers: by
    e-mail address, or number, answers and skips.
    """

    path: Path
    states: Counter[str]
    labellers: Mapping[str, Counter[str]] = field(default_factory=dict)


def pull(
    client: Client, batch: str, folder: Path = Path("labels"), force: bool = False, clusters: bool = False
) -> Pulled:
    """Write what people said of a batch's photos, or of its clusters. The same answers give the same bytes.

    force: also where that loses answers which the file has.

    Raises: CastlineError when the server has no project of the batch; DataError when it exports something else, or
    lacks answers that the file has. The file then stays as it is.
    """
    check_name(batch)
    raw = export(client, clusters_of(batch) if clusters else batch)
    path = folder / ("clusters" if clusters else "batches") / f"{batch}.json"
    tasks = slim(raw)
    write(path, tasks, force)
    states = Counter(_state(task) for task in raw)
    people: dict[int, Counter[str]] = {}
    for task in tasks:
        for answer in task["annotations"]:
            said = people.setdefault(answer["completed_by"], Counter())
            said["skipped" if answer["was_cancelled"] else "labelled"] += 1
    users = client.get("/api/users/") if people else []
    emails = {user.get("id"): user.get("email") for user in users if isinstance(user, dict) and user.get("email")}
    return Pulled(path, states, {shown(str(emails.get(who, who))): said for who, said in sorted(people.items())})


def export(client: Client, name: str) -> list[dict[str, Any]]:
    """All tasks of the project that was pushed as `name`, as the server exports them (JSON), by their numbers.

    Raises: CastlineError; DataError when it is none, or not what Label Studio 1.23 exports.
    """
    project = find(client, name)
    if project is None:
        raise CastlineError(
            f"{client.url}: there is no project of {name}", "castline label push, or castline label clusters, makes it"
        )
    path = f"/api/projects/{project.id}/export"
    content = client.get(path, exportType="JSON", download_all_tasks="true")
    if not isinstance(content, list) or not all(map(_is_task, content)):
        raise DataError(f"{client.url}{path}: not the tasks that Label Studio 1.23 exports", "is it that version?")
    return sorted(content, key=lambda task: task["id"])


def slim(tasks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of exported tasks what is read: their data and what people submitted. Of the people to choose from those stay who
    were chosen, which is all it takes to see that they were offered.
    """
    return [
        {
            "id": task["id"],
            "data": _data(task),
            "annotations": [
                {**{key: answer.get(key) for key in _KEYS}, "completed_by": _number(answer["completed_by"])}
                for answer in sorted(task["annotations"], key=lambda answer: answer["id"])
            ],
        }
        for task in tasks
    ]


def write(path: Path, tasks: Sequence[Mapping[str, Any]], force: bool = False) -> None:
    """Write slim tasks, a line each, whole or not at all.

    Raises: DataError when the file there has answers that `tasks` do not have, unless `force`.
    """
    if not force and path.exists():
        lost = _answers(_read(path)) - _answers(tasks)
        if lost:
            raise DataError(
                f"{path} has {len(lost)} answers that the server does not have: of another server, or deleted there",
                "pull from the server they are on; or --force to replace them (git has the file as it was committed)",
            )
    lines = (json.dumps(_finite(task), ensure_ascii=False, sort_keys=True, allow_nan=False) for task in tasks)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    # Half a surrogate pair can be in JSON, as \\ud800, but not in UTF-8.
    unfinished.write_bytes(("[\n" + ",\n".join(lines) + "\n]\n").encode("utf-8", "backslashreplace"))
    unfinished.replace(path)


def _is_task(task: Any) -> bool:
    return (
        isinstance(task, dict)
        and isinstance(task.get("id"), int)
        and isinstance(task.get("data"), dict)
        and isinstance(task.get("annotations"), list)
        and all(
            isinstance(answer, dict)
            and isinstance(answer.get("id"), int)
            and isinstance(answer.get("result"), list)
            and _number(answer.get("completed_by")) is not None
            for answer in task["annotations"]
        )
    )


def _number(user: Any) -> int | None:
    """A user, whom some versions export as a mapping, by number."""
    number = user.get("id") if isinstance(user, dict) else user
    return number if isinstance(number, int) else None


def _data(task: Mapping[str, Any]) -> dict[str, Any]:
    data = dict(task["data"])
    if isinstance(data.get("people"), list):
        said = json.dumps([answer["result"] for answer in task["annotations"]])
        data["people"] = [
            one for one in data["people"] if isinstance(one, dict) and json.dumps(one.get("value")) in said
        ]
    return data


def _state(task: Mapping[str, Any]) -> str:
    answers = task["annotations"]
    if not answers:
        return "begun" if task.get("drafts") else "not yet"
    return "skipped" if all(answer.get("was_cancelled") for answer in answers) else "labelled"


def _finite(task: Mapping[str, Any]) -> Any:
    """The task with null for NaN and the infinities, which Python writes and reads and JSON does not have."""
    return json.loads(json.dumps(task), parse_constant=lambda word: None)


def _answers(tasks: Iterable[Mapping[str, Any]]) -> set[tuple[str, int, str]]:
    """Answers that are more than a skip: whose, when, on which photo (or, of a cluster, on which task)."""
    return {
        (str(task["data"].get("sha256", task["id"])), answer["completed_by"], str(answer["created_at"]))
        for task in tasks
        for answer in task["annotations"]
        if not answer.get("was_cancelled")
    }


def _read(path: Path) -> list[dict[str, Any]]:
    """A labels file, as this module or Label Studio itself writes it; without what is not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}", "git checkout it, or move it away") from error
    tasks = [task for task in content if _is_task(task)] if isinstance(content, list) else []
    return slim(tasks)

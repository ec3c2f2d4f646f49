"""A project on a Label Studio server: found again or made, and filled so that filling it twice changes nothing.

Nothing is ever deleted there: neither tasks nor what people said.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from castline.errors import CastlineError
from castline.label_studio.client import Client

__all__ = ["MODEL", "Filled", "Project", "allow_photos", "clusters_of", "fill", "find", "open_again", "opened"]

MODEL = "castline"
"""The version that predictions of a push go by, on the server."""

_AT_ONCE = 100  # tasks in a request
Task = Mapping[str, Any]


@dataclass(frozen=True)
class Project:
    """id: on its server. title: for people. url: where to label."""

    id: int
    title: str
    url: str


@dataclass(frozen=True)
class Filled:
    """Tasks by what a push did to them. kept: not touched, because somebody has labelled them or nothing changed.

    shows: the version of the predictions that labellers see, or empty: MODEL, unless somebody chose others there.
    """

    new: int
    changed: int
    kept: int
    shows: str


def find(client: Client, name: str) -> Project | None:
    """The project that `opened` made for `name`, whoever ran it and whatever its title is now; the oldest, if several.

    Raises: CastlineError.
    """
    mark = _mark(name)
    found = [p for p in client.pages("/api/projects/", include="id,title,description") if mark in _lines(p)]
    return _project(client, min(found, key=lambda project: project["id"])) if found else None


def clusters_of(batch: str) -> str:
    """The name of the project for a batch's clusters: no batch's, since those have no blanks.

    >>> clusters_of("first")
    'clusters of first'
    """
    return f"clusters of {batch}"


def opened(client: Client, name: str, config: str, overlap: int | None = None) -> Project:
    """The project for `name`, a batch's or another, made if there is none, brought up to date if there is one.

    config: the form. overlap: how many people answer each task; None leaves it (1 in a new project). A task that
    somebody skips goes to somebody else.

    Raises: CastlineError.
    """
    project, config = find(client, name), config.strip()  # as the server keeps it
    if project is None:
        made = client.post(
            "/api/projects/",
            {
                "title": f"Castline {name}"[:50],
                "description": f"{_mark(name)}\nThe line above is how Castline finds this project again.",
                "label_config": config,
                "maximum_annotations": overlap or 1,
                "skip_queue": "REQUEUE_FOR_OTHERS",
                "show_collab_predictions": True,
                "enable_empty_annotation": True,
            },
        )
        return _project(client, made)
    now = client.get(f"/api/projects/{project.id}/")
    wanted: dict[str, Any] = {"label_config": config, "maximum_annotations": overlap or now["maximum_annotations"]}
    changes = {key: value for key, value in wanted.items() if now[key] != value}
    if changes:
        client.patch(f"/api/projects/{project.id}/", changes)
    return project


def allow_photos(client: Client, project: Project, folder: Path) -> None:
    """Let the server read the photos in `folder`, as the path is there, which lies below its document root.

    Raises: CastlineError, when the server does not serve local files or not those.
    """
    path = f"/api/storages/localfiles?project={project.id}"
    if any(Path(storage["path"]) == folder for storage in client.get(path)):
        return
    try:
        client.post(
            "/api/storages/localfiles",
            {
                "project": project.id,
                "title": folder.name,
                "path": str(folder),
                "use_blob_urls": True,
                "regex_filter": "(?!)",  # no file: the button that makes a task of each file makes none
            },
        )
    except CastlineError as error:
        raise CastlineError(
            f"the server does not read photos from {folder}: {error.what}",
            "it needs LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and, as LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, "
            "a folder above that one, which --root names",
        ) from error


def fill(
    client: Client,
    project: Project,
    tasks: Sequence[Task],
    key: Callable[[Mapping[str, Any]], object] = lambda data: data.get("sha256"),
) -> Filled:
    """Bring `tasks` into the project: new ones are made, those that nobody has labelled yet are brought up to date.

    tasks: `data`, and `predictions` of at most one. key: of a task's data, what it is known by.

    Raises: CastlineError; what was done until then stays, and the next run goes on from there.
    """
    there: dict[object, Task] = {}
    for task in client.pages("/api/tasks", project=project.id, resolve_uri="false"):
        there.setdefault(key(task["data"]), task)
    new = [task for task in tasks if key(task["data"]) not in there]
    old = [(there[key(task["data"])], task) for task in tasks if key(task["data"]) in there]
    with tqdm(total=len(tasks), desc="tasks", unit="task", disable=None) as bar:
        for start in range(0, len(new), _AT_ONCE):
            some = [
                {**task, "predictions": [_named(p) for p in task["predictions"]]} for task in new[start:][:_AT_ONCE]
            ]
            client.post(f"/api/projects/{project.id}/import", some)
            bar.update(len(some))
        changed = _update(client, project, old, bar) if old else 0
    shows = client.get(f"/api/projects/{project.id}/")["model_version"] or ""
    if not shows and any(task["predictions"] for task in tasks):
        shows = client.patch(f"/api/projects/{project.id}/", {"model_version": MODEL})["model_version"]
    return Filled(len(new), changed, len(old) - changed, shows)


def open_again(client: Client, tasks: Iterable[Task]) -> int:
    """Ask for one answer more to each of `tasks`, as the server lists them; how many were not waiting for one yet."""
    opened = 0
    for task in tasks:
        answers = task["total_annotations"]
        if task["overlap"] <= answers:
            client.patch(f"/api/tasks/{task['id']}/", {"overlap": answers + 1, "is_labeled": False})
            opened += 1
    return opened


def _update(client: Client, project: Project, pairs: Sequence[tuple[Task, Task]], bar: tqdm) -> int:
    """Data and predictions of tasks without an answer, where they differ from what is there; how many did."""
    predicted: dict[int, Mapping[str, Any]] = {}
    for prediction in client.get("/api/predictions/", project=project.id):
        if prediction["model_version"] == MODEL:
            predicted[prediction["task"]] = prediction
    changed = 0
    for there, task in pairs:
        bar.update()
        if there["total_annotations"]:
            continue
        number, differs = there["id"], there["data"] != task["data"]
        if differs:
            client.patch(f"/api/tasks/{number}/", {"data": task["data"]})
        before = predicted.get(number)
        result = task["predictions"][0]["result"] if task["predictions"] else []
        if before and before["result"] != result:
            client.patch(f"/api/predictions/{before['id']}/", {"result": result})
            differs = True
        elif not before and result:
            # One by one: its import of many drops, with a 201, what has a label that the config itself does not list.
            client.post("/api/predictions/", {**_named(task["predictions"][0]), "task": number})
            differs = True
        changed += differs
    return changed


def _named(prediction: Mapping[str, Any]) -> dict[str, Any]:
    return {**prediction, "model_version": MODEL}


def _mark(name: str) -> str:
    return f"castline {name}"


def _lines(project: Mapping[str, Any]) -> list[str]:
    return str(project.get("description") or "").splitlines()


def _project(client: Client, values: Mapping[str, Any]) -> Project:
    return Project(values["id"], values["title"], f"{client.url}/projects/{values['id']}/data")

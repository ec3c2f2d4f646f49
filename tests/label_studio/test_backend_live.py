"""The backend and the real Label Studio: how they find each other, and that by default they do not."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_label_studio import Live, started
from projects import copy
from sample_recognizer import sample_recognizer

from castline.errors import CastlineError
from castline.label_studio import projects
from castline.label_studio.attach import TITLE, attach
from castline.label_studio.backend import Backend
from castline.label_studio.client import Client
from castline.label_studio.prelabels import Prelabeller
from castline.label_studio.projects import Project
from castline.label_studio.server import CREDENTIALS, SERVED
from castline.label_studio.tasks import photo_address
from castline.labels.form import FACES_CONFIG

pytestmark = pytest.mark.slow
PEOPLE = ("alma", "bruno", "chidi")


@pytest.fixture(scope="module")
def folder(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for person in PEOPLE:
        copy(sample / f"photos/first/{person}/{person}_01.jpg", folder / f"data/pile/{person}.jpg")
    return folder


def filled(client: Client, folder: Path, name: str) -> Project:
    """A project with a photo of each of PEOPLE."""
    project = projects.opened(client, name, FACES_CONFIG)
    projects.allow_photos(client, project, (folder / SERVED / "data").absolute())
    tasks = [
        {
            "data": {
                "image": photo_address(f"data/pile/{person}.jpg"),
                "photo": person,
                "people": [{"value": other} for other in PEOPLE],
            },
            "predictions": [],
        }
        for person in PEOPLE
    ]
    assert projects.fill(client, project, tasks, key=lambda data: data["photo"]).new == len(PEOPLE)
    return project


@contextmanager
def model(sample: Path, folder: Path, login: tuple[str, str] | None = None) -> Iterator[Backend]:
    with Backend(Prelabeller(sample_recognizer(sample), "castline-1", folder), port=0, login=login) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def shown(client: Client, project: Project) -> dict[str, list[str]]:
    """By photo, the names in what its tasks show a labeller."""
    tasks = client.pages("/api/tasks", project=project.id, fields="all")
    return {
        task["data"]["photo"]: [
            f"{prediction['model_version']}: {region['value']['rectanglelabels'][0]}"
            for prediction in client.get(f"/api/tasks/{task['id']}/", project=project.id)["predictions"]
            for region in prediction["result"]
        ]
        for task in tasks
    }


def test_names_are_there_when_a_task_is_opened(sample: Path, folder: Path) -> None:
    with started(folder, "--allow-backend") as url, model(sample, folder) as server:
        client = Client(url, json.loads((folder / CREDENTIALS).read_text())["token"])
        project = filled(client, folder, "first")
        assert attach(client, project, server.url) == "castline-1"
        assert attach(client, project, server.url) == "castline-1"
        (backend,) = client.get("/api/ml", project=project.id)
        assert (backend["title"], backend["readable_state"]) == (TITLE, "Connected")
        opened = client.get(f"/api/projects/{project.id}/next")
        assert [p["model_version"] for p in opened["predictions"]] == ["castline-1"]
        everything = {"selectedItems": {"all": True, "excluded": []}}
        client.post("/api/dm/actions", everything, id="retrieve_tasks_predictions", project=project.id)
        assert shown(client, project) == {person: [f"castline-1: {person}"] for person in PEOPLE}
        client.patch(f"/api/projects/{project.id}/", {"model_version": "castline-1"})
        assert shown(client, project) == {person: [f"castline-1: {person}"] for person in PEOPLE}

        for elsewhere in ("http://10.0.0.1:9090", "http://192.168.1.5:9090", "http://169.254.169.254/"):
            with pytest.raises(CastlineError, match="asks no address of that network"):
                attach(client, project, elsewhere)

        with model(sample, folder, login=("castline", "secret")) as closed:
            with pytest.raises(CastlineError, match="authentication parameters"):
                attach(client, project, closed.url)
            assert attach(client, project, closed.url, ("castline", "secret")) == "castline-1"


def test_by_default_label_studio_asks_nobody_in_its_network(live: Live, sample: Path) -> None:
    project = projects.opened(live.client, "asks nobody", FACES_CONFIG)
    with model(sample, live.folder) as server, pytest.raises(CastlineError, match="asks no address of that network"):
        attach(live.client, project, server.url)
    assert live.client.get("/api/ml", project=project.id) == []

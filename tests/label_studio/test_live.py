"""The whole way on the real server: a batch goes in, two people label it, and what they said comes out."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from live_label_studio import Live
from projects import ROOT, environment
from typer.testing import CliRunner

from castline.cli import app
from castline.errors import CastlineError
from castline.files import tables
from castline.label_studio.client import Client
from castline.label_studio.projects import find
from castline.labels.form import NO_FACE, STRANGER, UNNAMED
from castline.labels.gather import COLUMNS, hear
from castline.labels.said import Said
from castline.labels.settings import LabelsSettings

pytestmark = pytest.mark.slow


@dataclass
class Person:
    """A labeller: number on the server, and a personal access token."""

    number: int
    token: str


@dataclass
class Story:
    """What happened, in this order. said: what each command printed. tasks: by the photo's name, before any answer."""

    live: Live
    said: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    ann: Person | None = None
    bob: Person | None = None


def castline(*words: str) -> str:
    result = CliRunner().invoke(app, ["label", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def joined(live: Live, name: str) -> Person:
    """Somebody who signs up by the organisation's invitation: users whom the API makes cannot log in."""
    invitation = live.url + live.client.get("/api/invite")["invite_url"].removeprefix(live.url)
    session = requests.Session()
    session.get(invitation)
    form = {"email": f"{name}@example.org", "password": "label-Pass1", "allow_newsletters": "False"}
    token = session.cookies["csrftoken"]
    answer = session.post(
        invitation, data={**form, "csrfmiddlewaretoken": token}, headers={"Referer": invitation}, allow_redirects=False
    )
    assert answer.status_code == 302, answer.text
    made = session.post(f"{live.url}/api/token/", headers={"X-CSRFToken": session.cookies["csrftoken"]})
    return Person(session.get(f"{live.url}/api/current-user/whoami").json()["id"], made.json()["token"])


def named(region: dict[str, Any], name: str, **value: float) -> dict[str, Any]:
    """A face's box as the browser sends it back once somebody chose a name."""
    return {**region, "origin": "prediction", "value": {**region["value"], "rectanglelabels": [name], **value}}


def about_photo(choice: str) -> dict[str, Any]:
    value = {"choices": [choice]}
    return {"id": "scene", "type": "choices", "from_name": "scene", "to_name": "image", "value": value}


@pytest.fixture(scope="module")
def story(live: Live) -> Iterator[Story]:
    patch = pytest.MonkeyPatch()
    patch.chdir(live.folder)
    told = Story(live)
    told.said["push"] = castline("push", "--batch", "pile")
    told.said["push again"] = castline("push", "--batch", "pile", "--overlap", "2")
    told.ann, told.bob = joined(live, "ann"), joined(live, "bob")
    ann, bob = (Client(live.url, person.token) for person in (told.ann, told.bob))
    project = find(live.client, "pile")
    assert project is not None
    predictions = {one["task"]: one["result"] for one in live.client.get("/api/predictions/", project=project.id)}
    for task in ann.pages("/api/tasks", project=project.id):
        told.tasks[task["data"]["photo"].removeprefix("pile/")] = {**task, "faces": predictions.get(task["id"], [])}

    def answer(who: Client, photo: str, *result: dict[str, Any], **more: Any) -> None:
        who.post(
            f"/api/tasks/{told.tasks[photo]['id']}/annotations/", {"result": list(result), "lead_time": 2.5, **more}
        )

    odd = next(photo for photo in told.tasks if photo.startswith("0"))
    face = {photo: task["faces"][0] for photo, task in told.tasks.items() if task["faces"]}
    answer(ann, odd, named(face[odd], "alma"))
    answer(bob, odd, named(face[odd], "alma", rotation=8, x=face[odd]["value"]["x"] + 1))
    answer(ann, "1 again.jpg", named(face["1 again.jpg"], "alma"))
    answer(bob, "1 again.jpg", named(face["1 again.jpg"], "bruno"))
    answer(ann, "2.jpg", named(face["2.jpg"], STRANGER))
    answer(bob, "2.jpg", was_cancelled=True)
    typed = {"id": face["3.jpg"]["id"], "type": "textarea", "from_name": "name", "to_name": "image"}
    answer(ann, "3.jpg", face["3.jpg"], {**typed, "value": {**face["3.jpg"]["value"], "text": ["Zoë O'Hara"]}})
    answer(bob, "3.jpg", face["3.jpg"])  # confirmed without looking
    answer(ann, "meadow.png", about_photo(NO_FACE))

    labels = Path("labels/batches/pile.json")
    for step, token in (("pull", live.token), ("pull with the other kind of token", told.bob.token)):
        patch.setenv("MY_TOKEN", token)
        told.said[step] = castline("pull", "--batch", "pile", "--url", live.url, "--token-env", "MY_TOKEN")
        told.files[step] = labels.read_bytes()
    told.said["pull again"] = castline("pull", "--batch", "pile")
    told.files["pull again"] = labels.read_bytes()
    (live.pile / "new.jpg").write_bytes((ROOT / "sample/photos/second/bruno/bruno_20.jpg").read_bytes())
    told.said["grown"] = castline("push", "--batch", "pile")
    told.said["disagreements"] = castline("push", "--batch", "pile", "--disagreements")
    told.said["disagreements again"] = castline("push", "--batch", "pile", "--disagreements")
    yield told
    patch.undo()


def test_a_batch_goes_in_once_however_often_it_is_pushed(story: Story) -> None:
    assert (
        "pile: 5 new tasks, 0 changed, 0 kept; 1 photos are copies of others; 1 × not a picture" in story.said["push"]
    )
    assert "faces: 0 named by their folder, 0 by the model, 4 left to name" in story.said["push"]
    assert "pile: 0 new tasks, 0 changed, 5 kept" in story.said["push again"]
    assert len(story.tasks) == 5
    for photo, task in story.tasks.items():
        assert [face["value"]["rectanglelabels"] for face in task["faces"]] == [[UNNAMED]] * (photo != "meadow.png")
        assert task["data"]["people"] == [{"value": "alma"}, {"value": "bruno"}]
        assert task["overlap"] == 2


def test_a_batch_that_grew_brings_its_new_photo_and_leaves_what_is_labelled(story: Story) -> None:
    assert "pile: 1 new tasks, 0 changed, 5 kept" in story.said["grown"]


def test_photos_are_read_through_links_and_nothing_else_is(story: Story) -> None:
    live, header = story.live, {"Authorization": f"Token {story.live.token}"}
    for photo, task in story.tasks.items():
        answer = requests.get(live.url + task["data"]["image"], headers=header)
        assert answer.status_code == 200
        assert answer.content == (live.pile / photo).read_bytes()
        assert requests.get(live.url + task["data"]["image"], allow_redirects=False).status_code == 401
    for path in (
        ".castline/label-studio/credentials.json",
        "credentials.json",
        "../credentials.json",
        "data/pile/../../../credentials.json",
        "data/sorted/alma/alma_01.jpg",  # another batch, never pushed
        "params.yaml",
        "../../../../../../../etc/passwd",
        "/etc/passwd",
    ):
        answer = requests.get(f"{live.url}/data/local-files/", params={"d": path}, headers=header)
        assert answer.status_code in (400, 404, 500), path
        assert live.token not in answer.text
    # Nor may who can set up a project reach more: the document root holds the photos alone.
    project = find(live.client, "pile")
    assert project is not None
    for folder in (live.folder, live.folder / ".castline", live.folder / ".castline/label-studio/served/.."):
        with pytest.raises(CastlineError, match="400"):
            live.client.post("/api/storages/localfiles", {"project": project.id, "path": str(folder)})


def test_pulled_is_what_people_said_in_the_same_bytes_each_time_and_by_either_kind_of_token(story: Story) -> None:
    first, *others = story.files.values()
    assert len(others) == 2
    assert all(other == first for other in others)
    assert "photos: 5 labelled, 0 skipped, 0 begun, 0 not yet" in story.said["pull"]
    assert "ann@example.org: 5 labelled, 0 skipped" in story.said["pull"]
    assert "bob@example.org: 3 labelled, 1 skipped" in story.said["pull"]
    assert b"example.org" not in first, "people are numbers there"
    lines = first.decode().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("[", "]", 7)
    tasks = json.loads(first)
    assert [task["id"] for task in tasks] == sorted(task["id"] for task in tasks)
    assert all(task.keys() == {"id", "data", "annotations"} for task in tasks)


def test_the_pipeline_reads_it(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(story.live.folder)
    faces = tables.read(Path("build/faces/pile.parquet"), COLUMNS).to_pylist()
    rejects = tables.read(Path("build/faces/pile.rejects.parquet")).to_pylist()
    heard = hear(["pile"], faces, rejects, LabelsSettings())
    by_photo = {row["photo"]: heard.said.get((row["photo_sha256"], row["face"])) for row in faces}
    odd = next(photo for photo in by_photo if photo.startswith("0"))
    assert by_photo[odd] == Said(person="alma")
    assert by_photo["2.jpg"] == Said(stranger=True)
    assert by_photo["3.jpg"] == Said(person="Zoë O'Hara"), "typed by one; the other confirmed that nobody had named it"
    assert (said := by_photo["1.jpg"]) is not None
    assert said.problem == "labellers disagree: alma, bruno"
    assert said.person == ""
    assert heard.problems["skipped"] == 1
    assert heard.problems["no name"] == 1


def test_disagreements_go_back_once(story: Story) -> None:
    assert story.said["disagreements"].startswith("pile: 1 photos wait for one more labeller")
    assert story.said["disagreements again"].startswith("pile: 0 photos")
    task = story.live.client.get(f"/api/tasks/{story.tasks['1 again.jpg']['id']}/")
    assert (task["overlap"], task["is_labeled"], task["total_annotations"]) == (3, False, 2)


def test_a_fresh_server_does_not_wipe_labels(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(story.live.folder)
    path = Path("labels/batches/sorted.json")
    assert "faces: 4 named by their folder" in castline("push", "--batch", "sorted")
    path.write_bytes(story.files["pull"])
    try:
        with pytest.raises(CastlineError, match="8 answers that the server does not have"):
            castline("pull", "--batch", "sorted")
        assert path.read_bytes() == story.files["pull"]
        castline("pull", "--batch", "sorted", "--force")
        assert len(json.loads(path.read_bytes())) == 4
    finally:
        path.unlink()


def test_a_second_start_says_that_it_runs_and_a_taken_port_is_said(story: Story, tmp_path: Path) -> None:
    live = story.live
    port = live.url.rpartition(":")[2]
    code = "import sys; from castline.cli import main; sys.argv[0] = 'castline'; main()"
    command = [sys.executable, "-P", "-c", code, "label", "start", "--port", port]
    for folder, code_, words in ((live.folder, 0, f"runs already: {live.url}"), (tmp_path, 1, f"port {port}: ")):
        done = subprocess.run(
            command, cwd=folder, env={**environment(), "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
        )
        assert done.returncode == code_, done.stderr
        assert words in done.stdout + done.stderr


def test_secrets_are_for_their_owner_and_in_no_log(story: Story) -> None:
    home = story.live.folder / ".castline/label-studio"
    secrets = json.loads((home / "credentials.json").read_text())
    for path in (home / "credentials.json", home / "label_studio.sqlite3", home / ".env"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert home.stat().st_mode & 0o077 == 0
    log = (home / "server.log").read_text()
    said = "".join(story.said.values())
    assert all(secrets[key] not in log + said for key in ("password", "token"))


def test_a_wrong_token_and_an_absent_project_are_said(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(story.live.folder)
    for token in ("0" * 40, "eyJh.eyJ0.c2ln"):
        monkeypatch.setenv("CASTLINE_LABEL_TOKEN", token)
        with pytest.raises(CastlineError, match="the token is not accepted") as error:
            castline("pull", "--batch", "pile", "--url", story.live.url)
        assert token not in str(error.value)
    with pytest.raises(CastlineError, match="no project of nobody"):
        castline("pull", "--batch", "nobody")

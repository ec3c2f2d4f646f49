"""Clusters on the real server: sheets go in, one name for many faces comes out."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from live_label_studio import Live
from typer.testing import CliRunner

from castline.cli import app
from castline.label_studio.clusters import SHEETS
from castline.label_studio.projects import find
from castline.labels.export import read_export

pytestmark = pytest.mark.slow


def castline(*words: str) -> str:
    result = CliRunner().invoke(app, ["label", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


@pytest.fixture(autouse=True)
def nothing_labelled(live: Live, tmp_path: Path) -> Iterator[None]:
    """Whatever was labelled before, put aside: there are few faces in the pile."""
    labels, aside = live.folder / "labels/batches/pile.json", tmp_path / "pile.json"
    there = labels.is_file()
    if there:
        labels.rename(aside)
    yield
    if there:
        aside.rename(labels)


def test_naming_a_sheet_names_its_faces(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(live.folder)
    # The pile's few faces have no cluster of their own: what the reference model is to have made of them.
    monkeypatch.setattr("castline.label_studio.clusters.linked", lambda vectors, least: [list(range(len(vectors)))])
    assert "1 sheets" in castline("clusters", "--batch", "pile")
    assert "0 of them new" in castline("clusters", "--batch", "pile")
    project = find(live.client, "clusters of pile")
    assert project is not None
    (task,) = live.client.pages("/api/tasks", project=project.id, resolve_uri="false")
    data = task["data"]
    shown = requests.get(live.url + data["image"], headers={"Authorization": f"Token {live.token}"}, timeout=30)
    assert shown.content == (SHEETS / "pile" / f"{data['cluster']}.jpg").read_bytes()

    said = {"person": [data["people"][0]["value"]], "others": ["2"]}
    result = [
        {"id": name, "type": "choices", "from_name": name, "to_name": "image", "value": {"choices": choices}}
        for name, choices in said.items()
    ]
    live.client.post(f"/api/tasks/{task['id']}/annotations/", {"result": result})
    assert "1 labelled" in castline("pull", "--batch", "pile", "--clusters")
    (read,), problems = read_export(Path("labels/clusters/pile.json"))
    assert read.faces == tuple((sha256, face) for sha256, face in data["faces"]) and not problems
    assert read.annotations[0].name == said["person"][0] and read.annotations[0].others == {2}
    castline("clusters", "--batch", "pile")
    left = [path.stem for path in (SHEETS / "pile").iterdir()]
    assert data["cluster"] not in left, "what has a name is not asked about again"
    Path("labels/clusters/pile.json").unlink()

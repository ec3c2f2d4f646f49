"""What is pushed of a batch, and what is kept of what is pulled."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from castline.errors import ConfigError, DataError
from castline.label_studio.pull import export, slim, write
from castline.label_studio.push import Found, Place, photo_tasks
from castline.label_studio.tasks import photo_address, rectangle
from castline.labels.form import STRANGER, UNNAMED


def face(photo: str, number: int = 0, sha256: str = "", **more: Any) -> dict[str, Any]:
    return {
        "photo": photo,
        "face": number,
        "photo_sha256": sha256 or f"hash of {photo}",
        "photo_width": 200,
        "photo_height": 100,
        "box": [20.0, 10.0, 60.0, 50.0],
        **more,
    }


def said(known: bool, nearest: str = "bruno") -> Any:
    return SimpleNamespace(known=known, nearest=nearest, confidence=0.875)


def tasks_of(rows: list[dict[str, Any]], names: Any = None, **options: Any) -> Any:
    found = Found(pa.Table.from_pylist(rows), options.pop("faceless", ()), Counter())
    return photo_tasks("first", found, options.pop("place", Place()), ["alma", "bruno"], names, **options)


def labels(task: dict[str, Any]) -> list[str]:
    return [region["value"]["rectanglelabels"][0] for one in task["predictions"] for region in one["result"]]


def test_a_name_is_on_somebodys_word_or_not_there() -> None:
    rows = [
        face("alma/1.jpg"),  # a lone face in a folder: the folder's, whatever the model says
        face("alma/two.jpg", 0),
        face("alma/two.jpg", 1),
        face("_strangers/x/1.jpg"),
        face("pile.jpg"),
        face("pile 2.jpg"),
        face("pile 3.jpg"),  # the model knows somebody whom nobody may choose, as who is forgotten
    ]
    names = [said(True), said(True), said(False), said(True), said(False), None, said(True, "carla")]
    tasks, copies, words = tasks_of(rows, names)
    assert {task["data"]["photo"]: labels(task) for task in tasks} == {
        "first/_strangers/x/1.jpg": [STRANGER],
        "first/alma/1.jpg": ["alma"],
        "first/alma/two.jpg": ["bruno", UNNAMED],
        "first/pile 2.jpg": [UNNAMED],
        "first/pile 3.jpg": [UNNAMED],
        "first/pile.jpg": [UNNAMED],
    }
    assert words == {"folder": 2, "model": 1, "nobody": 4}
    assert copies == 0
    scores = {task["data"]["photo"]: task["predictions"][0]["score"] for task in tasks}
    assert scores["first/alma/two.jpg"] == 0.0, "the least sure of its faces"


def test_tasks_are_by_path_or_as_asked_and_a_copy_is_none() -> None:
    rows = [face("c.jpg"), face("a.jpg"), face("b.jpg", sha256="hash of a.jpg")]
    tasks, copies, _ = tasks_of(rows)
    assert [task["data"]["photo"] for task in tasks] == ["first/a.jpg", "first/c.jpg"]
    assert copies == 1
    tasks, _, _ = tasks_of(rows, only=["c.jpg"])
    assert [task["data"]["photo"] for task in tasks] == ["first/c.jpg"]
    assert tasks[0]["data"]["people"] == [{"value": "alma"}, {"value": "bruno"}]
    assert (tasks[0]["data"]["width"], tasks[0]["data"]["height"]) == (200, 100)


def test_a_photo_without_a_face_is_a_task_without_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("photos: {}\n")
    Path("data/first").mkdir(parents=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 30)).save("data/first/meadow.jpg", exif=turned)
    tasks, _, _ = tasks_of([face("a.jpg")], faceless=["meadow.jpg"])
    assert tasks[1]["predictions"] == []
    assert (tasks[1]["data"]["width"], tasks[1]["data"]["height"]) == (30, 40), "as the browser shows it"
    Path("data/first/meadow.jpg").write_text("no photo any more")
    with pytest.raises(DataError, match="not the photo it was"):
        tasks_of([face("a.jpg")], faceless=["meadow.jpg"])


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: "\x00" not in text))
def test_an_address_leads_back_to_the_path(path: str) -> None:
    parts = urlsplit(photo_address(path))
    assert parts.path == "/data/local-files/"
    assert parse_qs(parts.query, keep_blank_values=True) == {"d": [path]}


def test_a_teams_server_reads_below_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nfs/cast").mkdir(parents=True)
    (tmp_path / "nfs/project/data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "nfs/project")
    Path("data/first").symlink_to(tmp_path / "nfs/cast")
    photo, here = Path("data/first/a.jpg"), Place(Path())
    assert here.address(photo) == "/data/local-files/?d=data/first/a.jpg"
    assert here.folder(Path("data/first")) == tmp_path / "nfs/project/data/first"
    nfs = Place(tmp_path / "nfs")
    assert nfs.address(photo) == "/data/local-files/?d=project/data/first/a.jpg"
    cast = Place(tmp_path / "nfs/cast")
    assert cast.address(photo) == "/data/local-files/?d=a.jpg", "as links lead"
    with pytest.raises(ConfigError, match="does not lie below"):
        Place(tmp_path / "elsewhere").address(photo)


def test_a_box_is_cut_off_at_the_edges_of_the_photo() -> None:
    value = rectangle(3, "person", "alma", [-10.0, 25.0, 100.0, 120.0], (200, 100), 0.98765)
    assert value["value"] == {
        "x": 0.0, "y": 25.0, "width": 50.0, "height": 75.0, "rotation": 0, "rectanglelabels": ["alma"],
    }  # fmt: skip
    assert (value["id"], value["score"]) == ("face3", 0.988)


def answer(number: int, who: Any = 1, result: Any = (), **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "completed_by": who,
        "was_cancelled": False,
        "created_at": f"2026-11-22T10:00:0{number}Z",
        "result": list(result),
        "prediction": {"score": 1},
        "unique_id": "x",
        **more,
    }


def task(number: int, *answers: Any, **data: Any) -> dict[str, Any]:
    return {"id": number, "data": {"sha256": f"h{number}", **data}, "annotations": list(answers), "drafts": []}


def test_what_is_kept_is_what_is_read() -> None:
    region = {"type": "rectanglelabels", "value": {"rectanglelabels": ['O\'Hara "é"']}}
    people = [{"value": name} for name in ("alma", 'O\'Hara "é"', "O'Hara")]
    (kept,) = slim([task(1, answer(2, {"id": 7, "email": "ann@example.org"}), answer(1, 3, [region]), people=people)])
    assert [one["id"] for one in kept["annotations"]] == [1, 2]
    assert kept["annotations"][1]["completed_by"] == 7
    assert "prediction" not in kept["annotations"][0]
    assert kept["data"]["people"] == [{"value": 'O\'Hara "é"'}], "who was offered and chosen"


def test_a_file_is_whole_sorted_and_loses_no_answer_unasked(tmp_path: Path) -> None:
    path = tmp_path / "batches" / "first.json"
    write(path, slim([task(1, answer(1), person="\ud800 é"), task(2)]))
    first = path.read_bytes()
    assert json.loads(first)[0]["data"]["person"] == "\ud800 é"
    assert "é".encode() in first
    write(path, slim([task(1, answer(1), answer(2, 2))]))  # more answers, fewer tasks without one
    second = path.read_bytes()
    for fewer in ([task(1, answer(2, 2))], [], [task(9, answer(1), answer(2, 2))]):
        with pytest.raises(DataError, match=r"answers that the server does not have"):
            write(path, slim(fewer))
        assert path.read_bytes() == second
    write(path, slim([task(1, answer(1, was_cancelled=True))]), force=True)
    write(path, [])  # a skip is nothing to lose
    assert path.read_bytes() == b"[\n\n]\n"
    write(path, slim([task(1, answer(1, created_at=[], lead_time=float("nan")), sha256=[])]))
    assert json.loads(path.read_bytes())[0]["annotations"][0]["lead_time"] is None, "JSON has no NaN"
    with pytest.raises(DataError, match=r"1 answers that the server does not have"):
        write(path, [])
    path.write_text("<<<<<<< HEAD")
    with pytest.raises(DataError, match="not readable as JSON"):
        write(path, [])
    assert list(tmp_path.rglob("*.part")) == []


@pytest.mark.parametrize(
    "content",
    [
        {"tasks": []},
        "id,image",
        [1],
        [{"id": 1, "data": {}}],
        [{"id": "1", "data": {}, "annotations": []}],
        [{"id": 1, "data": [], "annotations": []}],
        [task(1, answer(1, who=None))],
        [task(1, {**answer(1), "result": None})],
        [{"id": 1, "image": "a", "annotator": 3}],  # JSON_MIN
    ],
)
def test_what_is_no_export_is_not_written(content: Any) -> None:
    project = {"id": 4, "title": "mine", "description": "castline first\nand more"}
    client: Any = SimpleNamespace(url="http://x", pages=lambda *_, **__: iter([project]), get=lambda *_, **__: content)
    with pytest.raises(DataError, match=r"not the tasks that Label Studio 1\.23 exports"):
        export(client, "first")

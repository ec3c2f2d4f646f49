"""Files of labels without a person: what is about others stays as it is written."""

import json
from pathlib import Path
from typing import Any

import pytest

from castline.errors import DataError
from castline.forgetting.labels import Mention, Theirs, edited, label_files, mentions, names_in

OWN, GROUP, OTHER = "aa" * 32, "bb" * 32, "cc" * 32
ALMA = Theirs("alma", {OWN}, {(GROUP, 1)})


def region(id: str, name: str, x: float = 10, kind: str = "rectanglelabels", **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": 20, "width": 30, "height": 40, "rotation": 0, kind: [name], **more}
    return {"id": id, "type": kind, "original_width": 200, "original_height": 100, "value": value}


def task(number: int, sha256: str, photo: str, *annotations: list[dict[str, Any]], **data: Any) -> dict[str, Any]:
    people = [{"value": "alma"}, {"value": "bruno"}]
    ones = [{"id": i, "completed_by": i, "was_cancelled": False, "result": one} for i, one in enumerate(annotations)]
    return {"id": number, "data": {"sha256": sha256, "photo": photo, "people": people, **data}, "annotations": ones}


def written(folder: Path, content: object, name: str = "one.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_of_an_export_their_tasks_regions_and_choices_go(tmp_path: Path) -> None:
    bruno, scene = region("b", "bruno", 60), {"id": "s", "type": "choices", "value": {"choices": ["has_face"]}}
    typed = {**region("t", "alma", 5, "text"), "type": "textarea"}
    tasks = [
        task(1, OWN, "one/pile/1.jpg", [bruno]),
        task(2, OTHER, "one/alma/2.jpg", []),
        task(3, GROUP, "one/3.jpg", [region("a", "alma"), bruno, scene], [region("t", "unknown_person", 5), typed]),
        task(4, OTHER, "one/4.jpg", [region("a", "alma"), scene]),
        task(5, OTHER, "one/5.jpg", [bruno]),
        task(6, OTHER, "one/6.jpg", []),
    ]
    path = written(tmp_path, tasks)
    done = edited(path, ALMA)
    left = {one["id"]: one for one in json.loads(done.text)}
    assert set(left) == {3, 5, 6} and "alma" not in done.text
    assert left[3]["annotations"] == [{**tasks[2]["annotations"][0], "result": [bruno, scene]}]
    assert left[5]["annotations"] == tasks[4]["annotations"] and left[6]["annotations"] == tasks[5]["annotations"]
    assert left[5]["data"]["people"] == [{"value": "bruno"}]
    assert done.tasks == [1, 2, 3, 4] and done.entries == 6, "in two only the choice was taken away"
    assert len(done.text.splitlines()) == len(left) + 2, "a task a line"
    assert names_in(path) == {"alma", "bruno", "unknown_person"}


def test_faces_that_an_export_calls_theirs_are_found(tmp_path: Path) -> None:
    turned = region("r", "alma", 50, rotation=90)  # clockwise about the top left corner: it then lies left of it
    path = written(tmp_path, [task(1, GROUP, "one/1.jpg", [region("a", "alma"), turned, region("b", "bruno")])])
    assert mentions(path, "alma") == [
        Mention(GROUP, "one/1.jpg", None, (0.1, 0.2, 0.4, 0.6)),
        Mention(GROUP, "one/1.jpg", None, (0.3, 0.2, 0.5, 0.8)),
    ]
    cluster = task(7, "", "", [{"id": "n", "type": "textarea", "value": {"text": ["alma"]}}])
    cluster["data"]["faces"] = [[GROUP, 1], [OTHER, 0], ["no photo", 0], []]
    path = written(tmp_path, [cluster], "cluster.json")
    assert mentions(path, "alma") == [Mention(GROUP, "", 1), Mention(OTHER, "", 0)]
    assert json.loads(edited(path, Theirs("alma", {OTHER}, {(GROUP, 1)})).text) == []
    cluster["annotations"] = []
    path = written(tmp_path, [cluster], "cluster.json")
    assert json.loads(edited(path, ALMA).text)[0]["data"]["faces"] == [[OTHER, 0], ["no photo", 0], []]


def test_decisions_about_them_and_decisions_that_name_them_go(tmp_path: Path) -> None:
    decisions = [
        {"sha256": OWN, "face": 0, "decision": "keep"},
        {"sha256": GROUP, "face": 1, "decision": "leave out"},
        {"sha256": GROUP, "face": 0, "decision": "keep", "why": "closer to alma (0.61)"},
        {"sha256": OTHER, "face": 2, "decision": "it is", "person": "alma"},
        {"photo": "one/alma/9.jpg", "sha256": OTHER, "face": 0, "decision": ""},
        {"sha256": OTHER, "face": 1, "decision": "it is", "person": "bruno"},
    ]
    path = written(tmp_path, {"decisions": decisions})
    done = edited(path, ALMA)
    assert json.loads(done.text) == {"decisions": [{**decisions[2], "why": ""}, decisions[5]]}
    assert done.entries == 5
    assert mentions(path, "alma") == [Mention(OTHER, "", 2)]
    review = task(3, OTHER, "one/bruno/1.jpg", [{"id": "p", "type": "textarea", "value": {"text": "alma"}}], face=0)
    assert mentions(written(tmp_path, [review]), "alma") == [Mention(OTHER, "one/bruno/1.jpg", 0)]


def test_a_csv_keeps_its_other_lines_byte_for_byte(tmp_path: Path) -> None:
    kept = ["photo,source\r\n", '"one/bruno/1.jpg","a ""shoot""\nin May"\r\n', "one/almah/1.jpg,alma's picnic\r\n"]
    gone = [f"one/pile/2.jpg,{OWN.upper()}\r\n", '"one/alma/\n1.jpg",x\r\n', "one/bruno/4.jpg, alma \r\n"]
    text = "".join([kept[0], gone[0], kept[1], gone[1], gone[2], kept[2]])
    path = tmp_path / "sources.csv"
    path.write_bytes(text.encode())
    done = edited(path, ALMA)
    assert done.text == "".join(kept) and done.entries == 3
    header = written(tmp_path, "person,alma\nbruno,x\n", "people.csv")
    assert edited(header, ALMA).text == "person,alma\nbruno,x\n", "the first line is no entry"


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000])
def test_what_cannot_be_read_is_said(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=r"one\.json: not readable"):
        edited(path, ALMA)


@pytest.mark.parametrize(
    "content",
    [
        "1", "null", "[1, null, [], {}]", '{"decisions": 3}', '[{"data": 1, "annotations": 2}]',
        '[{"data": {"sha256": 5, "faces": [1, [2]], "people": [3]}, "annotations": [1, {"result": [1]}]}]',
        '[{"data": {"faces": [[]]}, "annotations": [{"result": [{"value": 2}]}]}]',
        '[{"annotations": [{"result": [{"value": {"x": "y", "text": ["alma", 1]}}]}], "data": {"people": "alma"}}]',
    ],
)  # fmt: skip
def test_odd_files_are_read_without_a_crash(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, content)
    edited(path, ALMA)
    mentions(path, "alma")
    names_in(path)


def test_the_register_and_the_audit_are_no_files_of_labels(tmp_path: Path) -> None:
    for name in ("forgotten.csv", "audit.csv", "README.md", "people.csv", "batches/one.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [path.relative_to(tmp_path).as_posix() for path in label_files(tmp_path)] == [
        "batches/one.json",
        "people.csv",
    ]

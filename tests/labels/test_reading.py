"""A Label Studio export is read with distrust: what cannot be used is counted, and nothing of it is a crash."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castline.errors import DataError
from castline.labels.export import LONGEST, MOST_BOXES, PROBLEMS, Task, name_of, read_export

REAL = Path(__file__).with_name("export_1.23.2.json")
"""Two labellers, made with a live server: they disagree, one turned a box, one skipped, one photo has no face."""


def rectangle(name: str | None = "alma", key: str = "r", **value: Any) -> dict[str, Any]:
    """A region of a picture of 400 × 200."""
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, **value}
    if name is not None:
        value["rectanglelabels"] = [name]
    return {
        "id": key, "type": "rectanglelabels", "from_name": "person", "to_name": "image", "value": value,
        "original_width": 400, "original_height": 200, "image_rotation": 0,
    }  # fmt: skip


def typed(text: Any, key: str = "r") -> dict[str, Any]:
    return {"id": key, "type": "textarea", "from_name": "name", "to_name": "image", "value": {"text": text}}


def scene(choice: str) -> dict[str, Any]:
    return {"id": "s", "type": "choices", "from_name": "scene", "to_name": "image", "value": {"choices": [choice]}}


def annotation(*result: Any, by: Any = 6, number: int = 1, at: str = "2026-11-22T10:00:00Z", **more: Any) -> Any:
    known = {"id": number, "completed_by": by, "was_cancelled": False, "created_at": at, "updated_at": at}
    return {**known, "result": list(result), **more}


def task(
    *annotations: Any, number: int = 1, photo: str = "one/1.jpg", people: Any = ("alma", "bruno"), **data: Any
) -> Any:
    offered = {} if people is None else {"people": [{"value": name} for name in people]}
    return {"id": number, "data": {"photo": photo, **offered, **data}, "annotations": list(annotations)}


def reading(folder: Path, content: Any) -> tuple[list[Task], Counter[str]]:
    path = folder / "one.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    tasks, problems = read_export(path)
    assert problems.keys() <= PROBLEMS.keys()
    return tasks, problems


def test_the_real_export_is_read() -> None:
    tasks, problems = read_export(REAL)
    assert problems == {"skipped": 1, "no annotation": 1}
    assert [task.photo for task in tasks] == [f"images/{name}.png" for name in ("astronaut", "camera", "chelsea")]
    first, second, third = tasks
    assert first.sha256 == "", "'demo' is none"
    assert [(one.labeller, one.truth, [box.name for box in one.boxes]) for one in first.annotations] == [
        (6, False, ["eileen_collins"]),
        (7, False, ["unknown_person"]),
    ]
    assert first.annotations[0].boxes[0].bounds == pytest.approx((0.335, 0.095, 0.545, 0.375))
    # 19 × 26 percent of a square, turned by 6 degrees about (35, 11).
    c, s = math.cos(math.radians(6)), math.sin(math.radians(6))
    turned = (35 - 26 * s, 11, 35 + 19 * c, 11 + 19 * s + 26 * c)
    assert first.annotations[1].boxes[0].bounds == pytest.approx([share / 100 for share in turned])
    assert first.annotations[0].at < first.annotations[1].at
    assert [box.name for box in second.annotations[0].boxes] == ["cameraman"]
    assert third.annotations[0].boxes == (), "no face: finished, and nothing boxed"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "readable"),
        ("{", "readable"),
        ("[" * 100_000, "readable"),
        ('{"decisions": []}', "list of tasks"),
        ('[{"image": "a.jpg", "person": []}]', "list of tasks"),
        ("3", "list of tasks"),
    ],
)
def test_a_file_that_is_no_export_is_said(tmp_path: Path, content: str, word: str) -> None:
    with pytest.raises(DataError, match=rf"one\.json.*{word}(.|\n)*next:"):
        reading(tmp_path, content)


def test_no_task_is_no_label(tmp_path: Path) -> None:
    assert reading(tmp_path, []) == ([], Counter())


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ([rectangle(x=math.nan)], "bad numbers"),
        ([rectangle(width=math.inf)], "bad numbers"),
        ([rectangle(x="10")], "bad numbers"),
        ([rectangle(y=None)], "bad numbers"),
        ([rectangle(height=10**300)], "bad numbers"),
        ([{**rectangle(rotation=5), "original_width": 0}], "bad numbers"),
        ([{"type": "rectanglelabels", "value": 3}], "bad numbers"),
        ([rectangle(width=0)], "no area"),
        ([rectangle(height=-5)], "no area"),
        ([rectangle(x=150, y=-5, width=5, height=5)], "outside the picture"),
        ([{"type": "polygonlabels", "value": {"points": []}}, 7], "not read"),
        ([], "nothing said"),
        ([scene("has_face")], "nothing said"),
        ([typed("alma", "elsewhere")], "nothing said"),
    ],
)
def test_what_is_no_box_is_counted_and_the_photo_is_not_labelled(
    tmp_path: Path, result: list[Any], problem: str
) -> None:
    tasks, problems = reading(tmp_path, [task(annotation(*result))])
    assert tasks == []
    assert problems[problem] >= 1 and problems["nothing said"] == 1


def test_more_boxes_than_a_photo_has_faces_are_not_read(tmp_path: Path) -> None:
    (found,), problems = reading(tmp_path, [task(annotation(*[rectangle(key=str(i)) for i in range(MOST_BOXES + 7)]))])
    assert len(found.annotations[0].boxes) == MOST_BOXES and problems == {"too many boxes": 7}


@pytest.mark.parametrize(
    ("result", "name", "problem"),
    [
        ([rectangle()], "alma", ""),
        ([rectangle(" bruno ")], "bruno", ""),
        ([rectangle("unknown_person")], "unknown_person", ""),
        ([rectangle("zed")], "", "not in the list"),
        ([rectangle("zed"), typed(["zed"])], "zed", ""),
        ([rectangle(), typed("Zoe\u0308")], "Zo\u00eb", ""),
        ([rectangle(None), typed(["carla"])], "carla", ""),
        ([rectangle(), typed(["  "])], "alma", ""),
        ([rectangle(None)], "", "no name"),
        ([rectangle("not_named_yet")], "", "no name"),
        ([rectangle(None, rectanglelabels=["alma", "bruno"])], "", "several names"),
        ([rectangle(), typed(["a", "b"])], "", "several names"),
        ([rectangle(), typed("_strangers")], "", "bad name"),
        ([rectangle(), typed("../../etc")], "", "bad name"),
        ([rectangle(), typed("x" * (LONGEST + 1))], "", "bad name"),
        ([rectangle(), typed("anna\u202egnp")], "", "bad name"),
        ([rectangle(), typed("\ud800")], "", "bad name"),
        ([rectangle(), typed([{"a": 1}])], "", "bad name"),
        ([rectangle(), scene("no_face")], "alma", "no face, but boxes"),
    ],
)
def test_names(tmp_path: Path, result: list[Any], name: str, problem: str) -> None:
    tasks, problems = reading(tmp_path, [task(annotation(*result))])
    assert [box.name for box in tasks[0].annotations[0].boxes] == [name]
    assert problems == ({problem: 1} if problem else {})


def test_without_a_list_any_name_is_taken(tmp_path: Path) -> None:
    tasks, problems = reading(tmp_path, [task(annotation(rectangle("zed")), people=None)])
    assert tasks[0].annotations[0].boxes[0].name == "zed" and not problems


def test_half_finished_tasks_and_odd_answers_are_counted(tmp_path: Path) -> None:
    content = [
        task(),
        {**task(), "drafts": [{"result": [rectangle()]}]},
        task(annotation(was_cancelled=True)),
        task(annotation(rectangle(), by=None), annotation(rectangle(), by={"id": 7, "email": ""}), "annotation"),
        "task",
        {"data": {}},
    ]
    tasks, problems = reading(tmp_path, content)
    assert problems == {"no annotation": 1, "only a draft": 1, "skipped": 1, "not an annotation": 2, "not a task": 2}
    assert [[one.labeller for one in task.annotations] for task in tasks] == [[7]]


def test_a_box_that_reaches_out_of_the_picture_is_cut(tmp_path: Path) -> None:
    tasks, problems = reading(tmp_path, [task(annotation(rectangle(x=-5, y=80, width=20, height=30)))])
    assert tasks[0].annotations[0].boxes[0].bounds == pytest.approx((0, 0.8, 0.15, 1)) and not problems


@given(
    angle=st.floats(-720, 720),
    width=st.floats(1, 20),
    height=st.floats(1, 20),
    size=st.tuples(st.integers(50, 5000), st.integers(50, 5000)),
)
def test_a_turned_box_is_bounded_as_its_pixels_are(
    tmp_path_factory: pytest.TempPathFactory, angle: float, width: float, height: float, size: tuple[int, int]
) -> None:
    """Against the definition: the corners in pixels, turned clockwise about the first, which y downwards makes plus."""
    region = rectangle(x=50, y=50, width=width, height=height, rotation=angle)
    region |= {"original_width": size[0], "original_height": size[1]}
    tasks, problems = reading(tmp_path_factory.mktemp("turned"), [task(annotation(region))])
    first, span = np.multiply([50, 50], size) / 100, np.multiply([width, height], size) / 100
    turn = np.exp(1j * math.radians(angle))
    corners = first @ [1, 1j] + np.array([0, span[0], span[0] + 1j * span[1], 1j * span[1]]) * turn
    low, high = (np.array([f(corners.real), f(corners.imag)]) / size for f in (np.min, np.max))
    if ((low + high) / 2 < 0).any() or ((low + high) / 2 > 1).any():
        assert problems["outside the picture"] == 1
    else:
        found = tasks[0].annotations[0].boxes[0].bounds
        assert found == pytest.approx([*low.clip(0, 1), *high.clip(0, 1)], abs=1e-6)


def test_a_cluster_is_named_as_a_whole(tmp_path: Path) -> None:
    faces = [["a" * 64, 0], ["B" * 64, 2], ["short", 0], ["c" * 64, -1], "x"]
    choice = {"type": "choices", "from_name": "person", "value": {"choices": ["alma"]}}
    tasks, problems = reading(
        tmp_path, [task(annotation(choice)), task(annotation(choice), annotation(typed("zoe"), by=7), faces=faces)]
    )
    assert [task.faces for task in tasks] == [(("a" * 64, 0), ("b" * 64, 2), ("", 0), ("", 0), ("", 0))]
    assert [answer.name for answer in tasks[0].annotations] == ["alma", "zoe"]
    assert problems == {"not read": 1, "nothing said": 1}, "a photo is not named as a whole"


@pytest.mark.parametrize("name", ["alma", "José", 'O\'Neil "Bo"', "安娜", "x" * LONGEST])
def test_a_name_that_a_folder_can_have(name: str) -> None:
    assert name_of(f" {name}\u00a0") == name


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["id", "data", "annotations", "result", "value", "type", "from_name", "completed_by", "rectanglelabels",
             "x", "y", "width", "height", "rotation", "text", "choices", "people", "faces", "image", "drafts"]
        ),
        inner | st.sampled_from(["rectanglelabels", "textarea", "choices", "name", "scene", "person", "/?d=%zz["]),
        max_size=8,
    ),
    max_leaves=30,
)  # fmt: skip


@given(st.lists(JSON, max_size=2), JSON, JSON, JSON)
def test_nothing_in_an_export_is_a_crash(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Any], data: Any, answer: Any, value: Any
) -> None:
    region = {"type": "rectanglelabels", "id": value, "value": value}
    entries = [
        *entries,
        {
            "data": data if isinstance(data, dict) else {"faces": data},
            "annotations": [answer, annotation(region, answer)],
        },
    ]
    _, problems = reading(tmp_path_factory.mktemp("any"), entries)
    assert all(count > 0 for count in problems.values())


def test_the_page_on_labels_lists_what_is_counted() -> None:
    text = (Path(__file__).parents[2] / "docs/labelling_agreement.md").read_text(encoding="utf-8")
    assert [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")][4:] == list(PROBLEMS)

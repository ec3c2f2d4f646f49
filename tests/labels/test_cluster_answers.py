"""What is said of clusters: a name for many faces, but for the numbers that do not belong."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castline.labels.clusters import CLUSTERS_CONFIG, OTHERS
from castline.labels.export import PROBLEMS, read_export
from castline.labels.form import NAME, PERSON, STRANGER
from castline.labels.gather import Heard, hear
from castline.labels.said import Said
from castline.labels.settings import LabelsSettings

FACES = [[f"{number:064x}", number % 2] for number in range(6)]
KEYS = [(sha256, face) for sha256, face in FACES]


def answer(who: int, person: str, *numbers: Any, typed: bool = False, **more: Any) -> dict[str, Any]:
    """As Label Studio 1.23 exports it."""
    name = (
        {"type": "textarea", "from_name": NAME, "value": {"text": [person]}}
        if typed
        else {"type": "choices", "from_name": PERSON, "value": {"choices": [person]}}
    )
    others = {"type": "choices", "from_name": OTHERS, "value": {"choices": list(numbers)}}
    moment = f"2026-11-22T10:00:{who:02}Z"
    known = {"id": who, "completed_by": who, "was_cancelled": False, "created_at": moment, "updated_at": moment}
    return {**known, "result": [name, *([others] if numbers else [])], **more}


def heard(folder: Path, *answers: dict[str, Any], faces: Any = FACES, rule: str = "majority") -> Heard:
    (folder / "clusters").mkdir(exist_ok=True)
    people = [{"value": name} for name in ("alma", "bruno", STRANGER)]
    tasks = [{"id": 1, "data": {"faces": faces, "people": people, "cluster": "c"}, "annotations": list(answers)}]
    (folder / "clusters" / "one.json").write_text(json.dumps(tasks))
    rows = [
        {
            "batch": "one", "photo": f"{sha256}.jpg", "face": face, "photo_sha256": sha256, "photo_width": 100,
            "photo_height": 100, "box": [0, 0, 50, 50],
        }
        for sha256, face in KEYS
    ]  # fmt: skip
    return hear(["one"], rows, [], LabelsSettings(rule=rule), folder)


def test_the_form_has_the_controls_that_are_read() -> None:
    form = ElementTree.fromstring(CLUSTERS_CONFIG)
    controls = {tag.get("name") for tag in form if tag.get("toName") == "image"}
    assert controls == {PERSON, NAME, OTHERS}


@pytest.mark.parametrize("typed", [False, True])
def test_naming_one_names_all_but_those_that_do_not_belong(tmp_path: Path, typed: bool) -> None:
    result = heard(tmp_path, answer(6, "alma", "2", "6", typed=typed))
    assert result.said == {KEYS[i]: Said("alma") for i in (0, 2, 3, 4)}
    assert result.first.keys() == {KEYS[i][0] for i in (0, 2, 3, 4)}
    assert result.clusters == 1 and not result.problems


def test_a_cluster_of_a_stranger(tmp_path: Path) -> None:
    assert heard(tmp_path, answer(6, STRANGER)).said == {key: Said(stranger=True) for key in KEYS}


def test_labellers_who_differ_on_a_face_leave_it_out(tmp_path: Path) -> None:
    result = heard(tmp_path, answer(6, "alma", "1", "2"), answer(7, "alma", "1"))
    assert KEYS[0] not in result.said, "both say that it is somebody else's, and not whose"
    assert result.said[KEYS[1]].problem.startswith("labellers disagree")
    assert result.said[KEYS[2]] == Said("alma")
    differing = heard(tmp_path, answer(6, "alma"), answer(7, "bruno"))
    assert all(said.problem.startswith("labellers disagree") for said in differing.said.values())


def test_the_rule_is_that_of_photos(tmp_path: Path) -> None:
    three = answer(6, "alma"), answer(7, "alma", "3"), answer(8, "bruno")
    assert heard(tmp_path, *three).said[KEYS[0]] == Said("alma")
    assert heard(tmp_path, *three).said[KEYS[2]].problem, "one of three"
    assert heard(tmp_path, *three, rule="unanimous").said[KEYS[0]].problem
    truth = answer(8, "bruno", ground_truth=True)
    assert heard(tmp_path, *three[:2], truth, rule="reviewer").said[KEYS[2]] == Said("bruno")


def test_a_face_that_cannot_be_read_moves_no_number(tmp_path: Path) -> None:
    broken: list[Any] = [list(face) for face in FACES]
    broken[0], broken[2] = "x", ["../etc", True]
    result = heard(tmp_path, answer(6, "alma", "2"), faces=broken)
    assert result.said == {KEYS[i]: Said("alma") for i in (3, 4, 5)}


@pytest.mark.parametrize("number", ["0", "7", "-1", "1.0", " ", "x", 2**70, None, ["1"], {"1": 1}])
def test_numbers_that_are_not_on_the_sheet_are_counted(tmp_path: Path, number: Any) -> None:
    result = heard(tmp_path, answer(6, "alma", "1", number))
    assert result.said == {key: Said("alma") for key in KEYS[1:]}
    assert result.problems.get("no such number", 0) == (number not in (None, " "))


def test_a_skipped_sheet_and_one_without_a_name_say_nothing(tmp_path: Path) -> None:
    skipped = answer(6, "alma", was_cancelled=True)
    nameless = answer(7, "alma", "1")
    nameless["result"] = nameless["result"][1:]
    result = heard(tmp_path, skipped, nameless, answer(8, "../etc"), answer(9, "zoe"))
    assert result.said == {}
    assert result.problems["skipped"] == 1 and result.problems["nothing said"] == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "choices"]), inner),
    max_leaves=6,
)


@given(faces=JSON, person=JSON, numbers=JSON)
def test_no_content_is_a_crash(tmp_path_factory: pytest.TempPathFactory, faces: Any, person: Any, numbers: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "clusters.json"
    result = [
        {"type": "choices", "from_name": PERSON, "value": {"choices": person}},
        {"type": "choices", "from_name": OTHERS, "value": {"choices": numbers}},
    ]
    path.write_text(json.dumps([{"data": {"faces": faces}, "annotations": [{"completed_by": 1, "result": result}]}]))
    tasks, problems = read_export(path)
    assert problems.keys() <= PROBLEMS.keys()
    for task in tasks:
        assert task.faces is not None
        assert all(answer.others <= set(range(1, len(task.faces) + 1)) for answer in task.annotations)

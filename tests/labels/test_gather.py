"""From exports to what is said of each face that was found: matching, rules, agreement, and what is counted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castline.errors import ConfigError
from castline.labels.export import PROBLEMS, Box
from castline.labels.form import STRANGER
from castline.labels.gather import Heard, hear
from castline.labels.matching import pairs, units
from castline.labels.rules import resolve
from castline.labels.said import Said
from castline.labels.settings import RULES, LabelsSettings

SETTINGS = LabelsSettings()
LEFT, RIGHT, FAR = (10, 10, 20, 30), (60, 10, 20, 30), (35, 60, 20, 30)
"""Where faces are: x, y, width, height in percent."""


def sha(number: int) -> str:
    return f"{number:064x}"


def found(number: int, *places: tuple[int, ...], size: tuple[int, int] = (800, 600)) -> list[dict[str, Any]]:
    """Rows of the faces table: photo NUMBER.jpg of batch one."""
    scale = np.array([*size, *size]) / 100
    return [
        {
            "batch": "one", "photo": f"{number}.jpg", "face": face, "photo_sha256": sha(number),
            "photo_width": size[0], "photo_height": size[1],
            "box": (np.array([x, y, x + w, y + h]) * scale).tolist(),
        }
        for face, (x, y, w, h) in enumerate(places)
    ]  # fmt: skip


def box(name: str, place: tuple[int, ...], size: tuple[int, int] = (800, 600)) -> dict[str, Any]:
    value = dict(zip(("x", "y", "width", "height"), place, strict=True))
    return {
        "id": f"{name} {place}", "type": "rectanglelabels", "from_name": "person",
        "value": {**value, "rotation": 0, "rectanglelabels": [name]},
        "original_width": size[0], "original_height": size[1], "image_rotation": 0,
    }  # fmt: skip


NO_FACE = {"type": "choices", "from_name": "scene", "value": {"choices": ["no_face"]}}


def by(who: int, *result: Any, at: int = 0, **more: Any) -> dict[str, Any]:
    moment = f"2026-11-22T10:{at // 60:02}:{at % 60:02}Z"
    return {"id": who, "completed_by": who, "created_at": moment, "updated_at": moment, "result": list(result), **more}


def task(number: int, *annotations: Any, **data: Any) -> dict[str, Any]:
    return {
        "id": number,
        "data": {"photo": f"one/{number}.jpg", "sha256": sha(number), **data},
        "annotations": list(annotations),
    }


def heard(
    folder: Path,
    tasks: list[Any],
    faces: list[Any],
    settings: LabelsSettings = SETTINGS,
    rejects: tuple[str, ...] = (),
    clusters: list[Any] | None = None,
) -> Heard:
    for kind, content in (("batches", tasks), ("clusters", clusters)):
        if content is not None:
            (folder / kind).mkdir(exist_ok=True)
            (folder / kind / "one.json").write_text(json.dumps(content))
    rows = [{"batch": "one", "photo": photo} for photo in rejects]
    result = hear(["one", "two"], faces, rows, settings, folder)
    assert result.problems.keys() <= PROBLEMS.keys()
    json.dumps(result.metrics(settings), allow_nan=False)
    return result


def test_no_file_is_no_label(tmp_path: Path) -> None:
    result = heard(tmp_path, [], found(1, LEFT))
    assert (result.said, result.metrics(SETTINGS)) == ({}, {"photos": 0})
    assert hear(["none"], [], [], SETTINGS, tmp_path / "nowhere").metrics(SETTINGS) == {"photos": 0}


def test_faces_are_named_and_the_rest_of_the_photo_is_nobodys(tmp_path: Path) -> None:
    a_little_off = (12, 8, 22, 34)
    result = heard(
        tmp_path,
        [task(1, by(6, box("alma", a_little_off), box(STRANGER, RIGHT))), task(2, by(6, NO_FACE)), task(3)],
        found(1, RIGHT, LEFT, FAR) + found(2, LEFT) + found(3, LEFT),
    )
    assert result.said == {
        (sha(1), 0): Said(stranger=True),
        (sha(1), 1): Said("alma"),
        (sha(1), 2): Said(),
        (sha(2), 0): Said(),
    }, "photo 3 has not been labelled"
    assert result.first.keys() == {sha(1), sha(2)} and result.first[sha(1)].people == {"alma"}
    metrics = result.metrics(SETTINGS)
    assert metrics["faces"] == {"boxed": 2, "missed_by_detector": 0, "named": 1, "strangers": 1, "disagreed": 0}
    assert metrics["not_used"] == {"no annotation": 1}
    assert metrics["agreement"] == {"faces": 0} and metrics["pairs"] == {}


def test_what_the_detector_missed_is_counted_once_also_where_it_found_nothing_at_all(tmp_path: Path) -> None:
    tasks = [task(1, by(6, box("alma", FAR)), by(7, box("alma", FAR))), task(9, by(6, box("bruno", LEFT)))]
    result = heard(tmp_path, tasks, found(1, LEFT), rejects=("9.jpg",))
    assert result.said == {(sha(1), 0): Said()}
    assert result.metrics(SETTINGS)["faces"]["missed_by_detector"] == 2
    assert result.metrics(SETTINGS)["faces"]["boxed"] == 2
    assert not result.problems


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, ""),
        ({"photo": "elsewhere/x.jpg"}, ""),  # its content says which it is
        ({"sha256": "demo"}, ""),
        ({"sha256": "demo", "photo": None, "image": "/data/local-files/?d=data/one/1.jpg"}, ""),
        ({"sha256": "demo", "photo": None, "image": "/data/local-files/?d=1.jpg"}, ""),
        ({"sha256": sha(5)}, "changed photo"),
        ({"sha256": sha(5), "photo": "one/5.jpg"}, "unknown photo"),
        ({"sha256": "demo", "photo": "two/1.jpg"}, "unknown photo"),
        ({"sha256": "demo", "photo": 3, "image": ["x"]}, "unknown photo"),
    ],
)
def test_which_photo_a_task_is_of(tmp_path: Path, data: dict[str, Any], problem: str) -> None:
    result = heard(tmp_path, [task(1, by(6, box("alma", LEFT)), **data)], found(1, LEFT))
    assert result.problems == ({problem: 1} if problem else {})
    assert result.said == ({} if problem else {(sha(1), 0): Said("alma")})


@pytest.mark.parametrize(
    ("drawn_on", "problem"),
    [
        ((800, 600), ""),
        ((401, 300), ""),
        ((0, 0), ""),
        ((600, 800), "photo not upright"),
        ((800, 200), "picture of another size"),
    ],
)
def test_boxes_are_held_against_the_upright_photo(tmp_path: Path, drawn_on: tuple[int, int], problem: str) -> None:
    result = heard(tmp_path, [task(1, by(6, box("alma", LEFT, drawn_on)))], found(1, LEFT))
    assert result.problems == ({problem: 1} if problem else {})
    assert result.said == ({} if problem else {(sha(1), 0): Said("alma")})


def test_a_second_task_and_a_second_answer(tmp_path: Path) -> None:
    tasks = [
        task(1, by(6, box("alma", LEFT), at=5), by(6, box("bruno", LEFT), at=9)),
        task(1, by(7, box("bruno", LEFT), at=1)),
    ]
    result = heard(tmp_path, tasks, found(1, LEFT))
    assert result.said == {(sha(1), 0): Said("bruno")}
    assert result.problems == {"answered again": 1, "second task": 1}
    assert result.first[sha(1)].people == {"bruno"}


def test_a_face_that_one_labeller_boxed_twice(tmp_path: Path) -> None:
    near = (11, 11, 20, 30)
    same = heard(tmp_path, [task(1, by(6, box("alma", LEFT), box("alma", near)))], found(1, LEFT))
    assert same.said[sha(1), 0] == Said("alma") and same.problems == {"boxed twice": 1}
    differing = heard(tmp_path, [task(1, by(6, box("alma", LEFT), box("bruno", near)))], found(1, LEFT))
    assert differing.said[sha(1), 0].problem == "boxed, but with no name to use"
    assert differing.metrics(SETTINGS)["faces"]["missed_by_detector"] == 0


def test_disagreement_is_said_and_goes_back(tmp_path: Path) -> None:
    tasks = [
        task(1, by(6, box("alma", LEFT)), by(7, box("bruno", LEFT))),
        task(2, by(6, box("alma", LEFT)), by(7, box("alma", LEFT))),
        task(3, by(6, box("bruno", LEFT)), by(7, box("bruno", LEFT))),
    ]
    result = heard(tmp_path, tasks, found(1, LEFT) + found(2, LEFT) + found(3, LEFT))
    assert result.said[sha(1), 0] == Said(problem="labellers disagree: alma, bruno")
    assert result.to_label_again("one") == ["1.jpg"] and result.to_label_again("two") == []
    metrics = result.metrics(SETTINGS)
    assert metrics["agreement"] == {"faces": 3, "alpha": 0.4444, "same_name": 0.6667, "mean_iou": 1.0}
    assert metrics["labellers"] == {who: {"photos": 3, "compared": 3, "same_name": 0.6667} for who in ("6", "7")}
    assert metrics["pairs"] == {
        "6 and 7": {
            "faces": 3, "boxed_by_both": 3, "mean_iou": 1.0, "named_by_both": 3, "same_name": 0.6667, "kappa": 0.4,
        }
    }  # fmt: skip
    assert metrics["people"] == {"alma": {"same": 2, "said": 3}, "bruno": {"same": 2, "said": 3}}
    # Who decides, decides.
    ruled = heard(tmp_path, tasks, found(1, LEFT), LabelsSettings(rule="reviewer", reviewers=[7]))
    assert ruled.said[sha(1), 0] == Said("bruno") and ruled.to_label_again("one") == []
    tasks[0]["annotations"][0]["ground_truth"] = True
    truth = heard(tmp_path, tasks, found(1, LEFT), LabelsSettings(rule="reviewer"))
    assert truth.said[sha(1), 0] == Said("alma")


@pytest.mark.parametrize(
    ("rule", "names", "finished", "deciding", "said"),
    [
        ("majority", {1: "a"}, 1, (), Said("a")),
        ("majority", {1: "a"}, 3, (), Said("a")),
        ("majority", {1: "a", 2: "a", 3: "b"}, 3, (), Said("a")),
        ("majority", {1: STRANGER, 2: STRANGER}, 2, (), Said(stranger=True)),
        ("majority", {1: "a", 2: "b"}, 2, (), Said(problem="labellers disagree: a, b")),
        ("majority", {1: "a", 2: "", 3: ""}, 3, (), Said("a")),
        ("majority", {1: "a", 2: "a", 3: "b", 4: "c"}, 4, (), Said(problem="labellers disagree: a, b, c")),
        ("majority", {1: ""}, 1, (), Said(problem="boxed, but with no name to use")),
        ("majority", {}, 2, (), Said()),
        ("unanimous", {1: "a", 2: "a"}, 2, (), Said("a")),
        ("unanimous", {1: "a", 2: ""}, 2, (), Said(problem="labellers disagree: a, no name")),
        ("unanimous", {1: "a", 2: "a"}, 3, (), Said(problem="labellers disagree: a, no box")),
        ("unanimous", {1: "a", 2: "a", 3: "b"}, 3, (1,), Said(problem="labellers disagree: a, b")),
        ("reviewer", {1: "a", 2: "a", 3: "b"}, 3, (3,), Said("b")),
        ("reviewer", {1: "a", 2: "a"}, 3, (3,), Said()),
        ("reviewer", {1: "a", 2: "b", 3: "b"}, 3, (1, 2), Said(problem="labellers disagree: a, b")),
        ("reviewer", {1: "a", 2: "b"}, 2, (), Said(problem="labellers disagree: a, b")),
        ("reviewer", {1: "a", 2: "a"}, 2, (), Said("a")),
    ],
)
def test_rules(rule: str, names: dict[int, str], finished: int, deciding: tuple[int, ...], said: Said) -> None:
    assert resolve(names, range(1, finished + 1), deciding, rule) == said


@given(
    st.sampled_from(RULES),
    st.dictionaries(st.integers(1, 5), st.sampled_from(["a", "b", "", STRANGER])),
    st.sets(st.integers(1, 5)),
)
def test_nobody_is_named_whom_nobody_named(rule: str, names: dict[int, str], deciding: set[int]) -> None:
    said = resolve(names, range(1, 6), deciding, rule)
    assert not said.person or said.person in names.values()
    assert bool(said.person) + said.stranger + bool(said.problem) <= 1
    if said.person and rule != "reviewer":
        votes = [name for name in names.values() if name]
        assert 2 * votes.count(said.person) > len(votes)


@pytest.mark.parametrize("wrong", [{"rule": "loudest"}, {"min_iou": 0.0}, {"min_iou": 1.5}])
def test_settings_that_do_not_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"labels.{next(iter(wrong))}"):
        LabelsSettings(**wrong)


def test_naming_a_cluster_names_its_faces_unless_somebody_boxed_them(tmp_path: Path) -> None:
    def name(person: str) -> dict[str, Any]:
        return {"type": "choices", "from_name": "person", "value": {"choices": [person]}}

    faces = ["none", [sha(1), 0], [sha(1), 1], [sha(2), 0], [sha(99), 0], [sha(1), 2]]
    not_her = {"type": "choices", "from_name": "others", "value": {"choices": ["6", "900", "x"]}}
    result = heard(
        tmp_path,
        [task(2, by(6, box("bruno", LEFT), at=9))],
        found(1, LEFT, RIGHT, FAR) + found(2, LEFT),
        clusters=[
            task(7, by(6, name("alma"), not_her, at=3), faces=faces),
            task(8, by(6, name("zoe")), faces=[[sha(99), 0]]),
        ],
    )
    assert result.said == {
        (sha(1), 0): Said("alma"),
        (sha(1), 1): Said("alma"),
        (sha(2), 0): Said("bruno"),
    }, "the third face of photo 1 does not belong: nothing is said of it"
    assert result.first[sha(2)].people == {"alma"}, "which was said first"
    assert result.clusters == 1 and result.problems == {"no such number": 2, "unknown photo": 1}


BOXES = st.lists(
    st.tuples(*[st.floats(0, 0.8)] * 2, *[st.floats(0.05, 0.2)] * 2).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    ),
    max_size=6,
)


@given(BOXES, st.lists(BOXES, max_size=3))
def test_each_box_is_of_one_face_and_each_face_has_one_box_of_a_labeller(
    faces: list[tuple[float, ...]], drawn: list[list[tuple[float, float, float, float]]]
) -> None:
    labelled = {who: [Box(bounds, f"{who} {n}") for n, bounds in enumerate(boxes)] for who, boxes in enumerate(drawn)}
    result, twice = units(np.array(faces, np.float32).reshape(-1, 4), labelled, 0.3)
    assert [unit.face for unit in result[: len(faces)]] == list(range(len(faces)))
    assert all(unit.face is None and unit.drawn for unit in result[len(faces) :])
    assert sum(len(unit.drawn) for unit in result) + twice == sum(map(len, drawn))


def test_the_best_overlap_goes_first() -> None:
    overlap = np.array([[0.5, 0.9, 0.0], [0.4, 0.8, 0.2]], np.float32)
    assert pairs(overlap, 0.3) == [(0, 1), (1, 0)]
    assert pairs(overlap, 0.85) == [(0, 1)]
    assert pairs(np.zeros((0, 3), np.float32), 0.3) == pairs(np.zeros((3, 0), np.float32), 0.3) == []

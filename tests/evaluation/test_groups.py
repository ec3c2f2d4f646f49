"""Errors by group: every face is in one group, nothing is inferred, and what is too little to judge is not judged."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castline.errors import DataError
from castline.evaluation.groups import (
    CONDITIONS,
    FEW_FACES,
    FEW_PEOPLE,
    NOT_KNOWN,
    Group,
    PeopleFile,
    by_condition,
    by_people,
    read_people,
)
from castline.evaluation.measures import wilson_interval


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "people.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_what_the_file_says_of_people_it_says_of_their_faces(tmp_path: Path) -> None:
    path = write(tmp_path, '\ufeffperson,team,"with, comma"\nanna,red,\nben , blue ,x\n\nnobody,red,y\n')
    file = read_people(path, ["anna", "ben", "cleo"])
    assert file.columns == {"team": {"anna": "red", "ben": "blue"}, "with, comma": {"anna": "", "ben": "x"}}
    assert file.unknown == ("nobody",)
    who = ["anna", "anna", "ben", "cleo"]
    team, _ = by_people(file, who, np.array([True, False, True, True]))
    assert [(group.value, group.faces, group.people, group.right) for group in team.groups] == [
        ("blue", 1, 1, 1),
        ("red", 2, 1, 1),
        (NOT_KNOWN, 1, 1, 1),
    ]


def test_names_are_those_of_folders_in_whatever_form_they_are_typed(tmp_path: Path) -> None:
    assert read_people(write(tmp_path, "person,team\nZoe\u0308,red\n"), ["Zo\u00eb"]).columns == {
        "team": {"Zo\u00eb": "red"}
    }


@pytest.mark.parametrize("text", ["person\n", "team,person\n", "person,team\nanna,\n", "person,team\nanna\n"])
def test_a_file_that_says_nothing_makes_no_groups(tmp_path: Path, text: str) -> None:
    assert by_people(read_people(write(tmp_path, text), ["anna"]), ["anna"], np.array([True])) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "line 1: no column 'person', only nothing"),
        (b"person;team\nanna;red\n", "line 1: no column 'person', only 'person;team'"),
        (b"person,team,team\n", "line 1: columns called alike or not at all: 'team'"),
        (b"person,\n", "line 1: columns called alike or not at all: ''"),
        (b"person,team\nanna,red\nben,red,blue\n", "line 3: 3 cells under 2 columns"),
        (b"person,team\n,red\n", "line 2: whose line is it?"),
        (b"person,team\nanna,red\n\nanna,blue\n", "line 4: a second line of 'anna'"),
        (b"person,team\nanna,\xff\n", "line 2: not UTF-8"),
        (b'person,team\nanna,"red\n', "line 2: unexpected end of data"),
        (b"person,team\nanna," + b"x" * 201 + b"\n", "line 2: a cell of more than 200 characters"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(tmp_path: Path, text: bytes, says: str) -> None:
    with pytest.raises(DataError) as error:
        read_people(write(tmp_path, text), ["anna", "ben"])
    assert says in error.value.what
    assert "people.csv" in error.value.what


def test_an_absent_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_people(tmp_path / "people.csv", [])


def test_bins_are_as_they_are_described() -> None:
    for condition in CONDITIONS:
        assert len(condition.labels) == len(condition.edges) + 1 == len(set(condition.labels))
        edges = np.array(condition.edges)
        assert condition.values(edges) == list(condition.labels[1:]), "an edge belongs to the bin above it"
        assert condition.values(edges - 0.01) == list(condition.labels[:-1])
    turned = CONDITIONS[3]
    assert turned.values(np.array([-20.0, 20.0, np.nan])) == [turned.labels[1], turned.labels[1], NOT_KNOWN]


faces = st.lists(
    st.tuples(
        st.sampled_from(["anna", "ben", "cleo", "dan"]),
        st.floats(-100, 2000) | st.just(float("nan")),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=200,
)


@given(faces)
def test_every_face_is_in_one_group_smallest_first(rows: list[tuple[str, float, bool, bool]]) -> None:
    who = [row[0] for row in rows]
    measured = {condition.column: np.array([row[1] for row in rows]) for condition in CONDITIONS}
    right = np.array([row[2] for row in rows])
    named = right & np.array([row[3] for row in rows])
    for grouping in by_condition(measured, who, right, named):
        groups = grouping.groups
        assert sum(group.faces for group in groups) == len(rows)
        assert sum(group.right for group in groups) == right.sum()
        assert sum(group.named or 0 for group in groups) == named.sum()
        known = [group for group in groups if group.value != NOT_KNOWN]
        assert [group.faces for group in known] == sorted(group.faces for group in known)
        assert groups[len(known) :] == tuple(group for group in groups if group.value == NOT_KNOWN)
        unknown = np.isnan([row[1] for row in rows]).sum()
        assert sum(group.faces for group in groups[len(known) :]) == unknown, "never dropped"
        for group in groups:
            assert group.interval == wilson_interval(group.right, group.faces)
            if group.worse:
                assert not group.few
                assert group.interval[1] < right.mean() or group.tpir_interval[1] < named.mean()  # type: ignore[index]


def grouped(right: list[int], people: int, named: list[int] | None = None, each: int = 100) -> dict[str, Group]:
    """Teams of `each` faces of `people` people, of which so many are named right."""
    who, team, good, sure = [], {}, [], []
    for number, count in enumerate(right):
        for i in range(each):
            person = f"{number} {i % people}"
            who.append(person)
            team[person] = str(number)
            good.append(i < count)
            sure.append(named is not None and i < named[number])
    (grouping,) = by_people(
        PeopleFile({"team": team}), who, np.array(good), np.array(sure) if named is not None else None
    )
    return {group.value: group for group in grouping.groups}


def test_a_group_does_worse_if_its_whole_interval_lies_below() -> None:
    groups = grouped([99, 99, 80], FEW_PEOPLE)
    assert [groups[team].worse for team in "012"] == [False, False, True]
    assert not any(group.worse for group in grouped([99, 99, 97], FEW_PEOPLE).values())


def test_a_group_may_be_named_as_well_and_yet_called_unknown_more_often() -> None:
    groups = grouped([99, 99, 99], FEW_PEOPLE, named=[97, 97, 60])
    assert (groups["2"].behind, groups["2"].named_behind, groups["2"].worse) == (False, True, True)


@pytest.mark.parametrize(("people", "each"), [(FEW_PEOPLE - 1, 100), (FEW_PEOPLE, FEW_FACES - 1)])
def test_too_little_is_never_called_worse(people: int, each: int) -> None:
    groups = grouped([each, each, 0], people, each=each)
    assert all(group.few and not group.worse for group in groups.values())
    assert not grouped([each + 1] * 2, people + 1, each=each + 1)["0"].few

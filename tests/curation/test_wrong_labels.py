import numpy as np
import pytest

from castline.curation.settings import CurationSettings
from castline.curation.wrong_labels import REASON, judge, two_people

SETTINGS = CurationSettings()


class Cast:
    """Embeddings of made-up people: something in common, a direction each, and noise."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.common = 3 * self.random.normal(size=64)
        self.people: dict[str, np.ndarray] = {}
        self.rows: list[np.ndarray] = []
        self.names: list[str | None] = []

    def add(self, count: int, who: str, named: str | None = None) -> list[int]:
        direction = self.people.setdefault(who, self.random.normal(size=64))
        for _ in range(count):
            self.rows.append(self.common + direction + 0.6 * self.random.normal(size=64))
            self.names.append(named or who)
        return list(range(len(self.rows) - count, len(self.rows)))

    def embeddings(self) -> np.ndarray:
        rows = np.array(self.rows, np.float32).reshape(-1, 64)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def judged(self) -> list:
        return judge(self.embeddings(), self.names, [True] * len(self.names), SETTINGS)


def cast(people: int, each: int, seed: int = 0) -> Cast:
    made = Cast(seed)
    for person in range(people):
        made.add(each, f"p{person}")
    return made


def test_nobody_and_somebody_alone_are_not_judged() -> None:
    assert Cast().judged() == []
    assert all(one.score is None and not one.reason for one in cast(1, 5).judged())


@pytest.mark.parametrize(("people", "each"), [(2, 3), (2, 20), (3, 2), (6, 8), (20, 10)])
def test_right_labels_stay(people: int, each: int) -> None:
    judged = cast(people, each).judged()
    assert not any(one.reason for one in judged)
    assert all(one.score is not None and -1 <= one.score <= 1 for one in judged)


@pytest.mark.parametrize(("people", "each"), [(2, 6), (6, 8), (20, 10)])
def test_a_face_under_another_persons_name_is_left_out_and_says_whose_it_is(people: int, each: int) -> None:
    made = cast(people, each)
    (wrong,) = made.add(1, "p1", "p0")
    judged = made.judged()
    assert judged[wrong].reason.startswith(f"{REASON}: closer to p1")
    assert [i for i, one in enumerate(judged) if one.reason] == [wrong]


def test_a_face_of_nobody_in_the_cast_is_left_out_where_there_is_enough_to_tell() -> None:
    made = cast(8, 10)
    (wrong,) = made.add(1, "a stranger", "p0")
    assert [i for i, one in enumerate(made.judged()) if one.reason] == [wrong]
    few = cast(3, 10)
    (wrong,) = few.add(1, "a stranger", "p0")
    judged = few.judged()
    assert not any(one.reason for one in judged) or judged[wrong].reason
    assert judged[wrong].reason or judged[wrong].doubt


def test_of_two_people_under_a_name_the_larger_part_is_kept() -> None:
    made = cast(8, 12)
    second = made.add(9, "somebody", "p0")
    judged = made.judged()
    assert [i for i, one in enumerate(judged) if one.reason] == second
    odd = [bool(one.reason) for one in judged]
    assert two_people(made.embeddings(), made.names, odd) == {"p0": 9}
    scattered = cast(8, 12)
    for number in range(4):
        scattered.add(1, f"stranger {number}", "p0")
    odd = [bool(one.reason or one.doubt) for one in scattered.judged()]
    assert two_people(scattered.embeddings(), scattered.names, odd) == {}


def test_faces_that_do_not_count_are_scored_and_move_nothing() -> None:
    made = cast(6, 8)
    before = made.judged()
    poor = made.add(4, "somebody", "p0")
    judged = judge(made.embeddings(), made.names, [i not in poor for i in range(len(made.names))], SETTINGS)
    assert [one.score for one in judged[:48]] == [one.score for one in before]
    assert all(judged[i].score is not None for i in poor)


def test_the_unnamed_are_passed_over() -> None:
    made = cast(6, 8)
    made.add(3, "p0", "p0")
    made.names[-3:] = [None] * 3
    judged = made.judged()
    assert all(one.score is None for one in judged[-3:])
    assert [one.score for one in judged[:-3]] == [one.score for one in cast(6, 8).judged()]

import numpy as np
import pytest

from castline.curation.choose import centred, choose

OPTIONS = {"min_agreement": 0.35, "min_lead": 0.1}


class Faces:
    """Embeddings of made-up people: a direction each, and a little noise."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.people: dict[str, np.ndarray] = {}
        self.rows: list[np.ndarray] = []

    def photo(self, *names: str) -> list[int]:
        for name in names:
            direction = self.people.setdefault(name, self.random.normal(size=64))
            self.rows.append(direction + 0.5 * self.random.normal(size=64))
        return list(range(len(self.rows) - len(names), len(self.rows)))

    def embeddings(self) -> np.ndarray:
        rows = np.array(self.rows, np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_no_photos() -> None:
    assert choose([], np.zeros((0, 64), np.float32), **OPTIONS) == []
    assert centred(np.zeros((0, 64), np.float32)).shape == (0, 64)


def test_the_face_that_the_other_photos_agree_on_is_chosen() -> None:
    faces = Faces()
    photos = [
        faces.photo("ann"),
        faces.photo("bob", "ann"),
        faces.photo("ann"),
        faces.photo("cleo", "dan", "ann"),
    ]
    assert [c.face for c in choose(photos, faces.embeddings(), **OPTIONS)] == [
        photos[0][0],
        photos[1][1],
        photos[2][0],
        photos[3][2],
    ]


def test_no_photo_of_the_person_alone_is_needed() -> None:
    faces = Faces(1)
    photos = [faces.photo("x1", "ann"), faces.photo("ann", "x2"), faces.photo("x3", "x4", "ann")]
    assert [c.face for c in choose(photos, faces.embeddings(), **OPTIONS)] == [
        photos[0][1],
        photos[1][0],
        photos[2][2],
    ]


def test_a_companion_in_several_photos_is_not_taken_for_the_person() -> None:
    faces = Faces(2)
    photos = [
        faces.photo("ann", "pal"),
        faces.photo("pal", "ann"),
        faces.photo("ann", "pal"),
        faces.photo("ann"),
    ]
    assert [c.face for c in choose(photos, faces.embeddings(), **OPTIONS)] == [0, 3, 4, 6]


@pytest.mark.parametrize(
    ("people", "why"),
    [
        ([["ann", "bob"]], "no other photo"),
        ([["ann"], ["ann"], ["x", "y"]], "none of 2 faces agrees"),
        ([["ann"], ["ann"], ["ann", "ann"]], "two faces agree alike"),
    ],
)
def test_what_stays_ambiguous_is_rejected_with_its_reason(people: list[list[str]], why: str) -> None:
    faces = Faces(3)
    photos = [faces.photo(*names) for names in people]
    last = choose(photos, faces.embeddings(), **{**OPTIONS, "min_lead": 0.3})[-1]
    assert last.face is None
    assert why in last.reason

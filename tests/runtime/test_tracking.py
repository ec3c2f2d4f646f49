"""Faces that move, cross, leave and come back: which of them are one track."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from castline.runtime.tracking import Track, Tracker, TrackingSettings

FPS = 10
# People as unlike as two strangers are: at right angles. A third of each embedding is noise.
PEOPLE = np.eye(6, 32, dtype=np.float32)
Box = tuple[float, float, float, float]
Seen = tuple[int, Box, float]  # whose face, where, detector's score


def face(person: int, x: float, y: float = 0.0, score: float = 0.8) -> Seen:
    return person, (x, y, x + 20, y + 20), score


class Scene:
    """A tracker that is shown faces of people of whom it knows the embedding only."""

    def __init__(self, **settings: float) -> None:
        self.tracker = Tracker(TrackingSettings(**settings), lambda raw: raw, lambda raw: PEOPLE @ raw)
        self.looks: list[int] = []

    def show(self, time: float, *faces: Seen) -> list[int]:
        asked: list[int] = []

        def embed(row: int) -> NDArray[np.float32]:
            asked.append(row)
            person, (x, y, *_), _ = faces[row]
            noise = np.random.default_rng([int(1000 * x), int(1000 * y), len(self.looks)])
            raw = PEOPLE[person] + noise.normal(0, 0.06, 32)
            return (raw / np.linalg.norm(raw)).astype(np.float32)

        boxes = np.array([box for _, box, _ in faces], np.float32).reshape(-1, 4)
        numbers = self.tracker.update(time, boxes, np.array([score for *_, score in faces], np.float32), embed)
        assert len(asked) == len(set(asked)), "no face is embedded twice"
        self.looks.append(len(asked))
        return numbers.tolist()

    def spans(self, end: float) -> list[tuple[int, float, float]]:
        return [(t.number, round(t.start, 3), round(t.end, 3)) for t in self.tracker.finish(end)]


def test_a_face_that_moves_is_one_track_until_the_next_frame_comes() -> None:
    scene = Scene()
    for i in range(20):
        assert scene.show(i / FPS, *([face(0, i * 8)] if 5 <= i < 15 else [])) == ([1] if 5 <= i < 15 else [])
    assert scene.spans(2.0) == [(1, 0.5, 1.5)]


def test_it_is_on_screen_until_the_end() -> None:
    scene = Scene()
    scene.show(0.0, face(0, 0))
    scene.show(0.1, face(0, 0))
    assert scene.spans(0.2) == [(1, 0.0, 0.2)]


def test_a_face_that_is_followed_is_embedded_now_and_then() -> None:
    scene = Scene(look_every=0.5)
    for i in range(40):
        scene.show(i / FPS, face(0, i))
    assert scene.looks[:3] == [1, 1, 1], "each of the first"
    assert np.flatnonzero(scene.looks[2:]).tolist() == [0, 5, 10, 15, 20, 25, 30, 35]
    (track,) = scene.tracker.finish(4.0)
    assert (track.frames, track.faces) == (40, sum(scene.looks))
    np.testing.assert_allclose(track.pooled, PEOPLE[0], atol=0.15)
    assert 0.8 < track.similar[0] < 1 and track.similar.argmax() == 0


@pytest.mark.parametrize(("absent", "tracks"), [(4, 1), (6, 2)])
def test_a_short_gap_is_bridged_and_a_long_one_is_not(absent: int, tracks: int) -> None:
    scene = Scene(gap=0.5)
    for i in range(20 + absent):
        scene.show(i / FPS, *([] if 10 <= i < 10 + absent else [face(0, 0)]))
    assert len(scene.spans(3.0)) == tracks


def test_a_cut_to_another_face_in_the_same_place() -> None:
    scene = Scene()
    for i in range(40):
        scene.show(i / FPS, face(0 if i < 20 else 1, 0))
    (_, _, end), (_, start, _) = scene.spans(4.0)
    assert end == start
    assert 2.0 <= start <= 2.25 + 1 / FPS, "it is seen when the face is looked at again"


def test_two_who_cross_keep_their_tracks() -> None:
    scene, found = Scene(), []
    for i in range(21):
        left, right = face(0, 6 * i), face(1, 120 - 6 * i)
        order = [left, right] if i % 2 else [right, left]
        numbers = scene.show(i / FPS, *order)
        found.append({seen[0]: number for seen, number in zip(order, numbers, strict=True)})
    assert all(whose == found[0] for whose in found)


def test_who_moves_too_fast_is_known_by_looks() -> None:
    scene = Scene()
    for i in range(6):
        assert sorted(scene.show(i / 2, face(0, 100 * i), face(1, 100 * i, 100))) == [1, 2]
    assert len(scene.spans(3.0)) == 2


def test_a_frame_that_is_held_ends_nothing() -> None:
    """Where the frame rate varies, a still picture may be one frame for many seconds."""
    scene = Scene()
    scene.show(0.0, face(0, 0))
    assert scene.show(30.0, face(0, 0)) == [1]
    assert scene.spans(30.1) == [(1, 0.0, 30.1)]


@pytest.mark.parametrize(("scores", "kept"), [([0.6], False), ([0.95], True), ([0.5, 0.5], True), ([], False)])
def test_what_flickers_up_is_noise_unless_the_detector_is_sure(scores: list[float], kept: bool) -> None:
    scene = Scene()
    for i in range(20):
        scene.show(i / FPS, *([face(0, 0, score=scores[i])] if i < len(scores) else []))
    assert bool(scene.spans(2.0)) == kept


FRAMES = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60), st.integers(0, 60)), max_size=5, unique=True), max_size=12
)


@settings(max_examples=50)
@given(FRAMES, st.sampled_from([0.05, 0.3, 1.0]))
def test_whatever_comes_each_face_is_in_one_track_and_each_track_once_in_a_frame(
    frames: list[list[tuple[int, int, int]]], step: float
) -> None:
    scene = Scene(min_support=0.0)
    count: dict[int, int] = {}
    for i, faces in enumerate(frames):
        numbers = scene.show(i * step, *(face(*where) for where in faces))
        assert len(numbers) == len(set(numbers)) == len(faces)
        for number in numbers:
            count[number] = count.get(number, 0) + 1
    end = len(frames) * step
    tracks = scene.tracker.finish(end)
    assert {track.number: track.frames for track in tracks} == count
    assert all(0 <= track.start < track.end <= end for track in tracks)
    assert all(1 <= track.faces <= track.frames and np.isfinite(track.pooled).all() for track in tracks)


@settings(max_examples=50)
@given(FRAMES, st.permutations(range(5)))
def test_the_order_of_the_faces_in_a_frame_is_no_matter(
    frames: list[list[tuple[int, int, int]]], order: list[int]
) -> None:
    """But for ties: no two faces are in one place."""
    frames = [list({where[1:]: where for where in faces}.values()) for faces in frames]

    def tracks(shuffled: bool) -> set[frozenset[tuple[int, tuple[int, int, int]]]]:
        scene, found = Scene(), dict[int, set[tuple[int, tuple[int, int, int]]]]()
        for i, faces in enumerate(frames):
            # Places differ in their last digit, too, so that no two overlaps are the same.
            faces = [faces[i] for i in order if i < len(faces)] if shuffled else faces
            moved = [face(p, x + (17 * x + 5 * y) % 13 / 31, y + (7 * x + 11 * y) % 17 / 37) for p, x, y in faces]
            for where, number in zip(faces, scene.show(i / FPS, *moved), strict=True):
                found.setdefault(number, set()).add((i, where))
        return {frozenset(faces) for faces in found.values()}

    assert tracks(False) == tracks(True)


def test_a_track_does_not_grow() -> None:
    scene = Scene()
    for i in range(500):
        scene.show(i / FPS, face(0, 0))
    (track,) = scene.tracker.finish(50.0)
    assert isinstance(track, Track)
    assert sum(np.asarray(value).nbytes for value in vars(track).values()) < 1000

"""Tracks to names and times: nobody twice in a frame, whatever the tracks are like; and what is written of it."""

import csv
import io
import json
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from castline.faces.detection import Detections
from castline.photos.decode import Photo
from castline.photos.settings import PhotoSettings
from castline.runtime import Cast, Name, Recognizer, Timeline, watch
from castline.runtime.appearances import _appearances, name_tracks
from castline.runtime.tracking import Track
from castline.runtime.video import Video, write_video
from castline.scoring import Scorer

CAST = ("anna", "ben", "=cmd()")
GALLERY = np.eye(3, 8, dtype=np.float32)


def recognizer(threshold: float | None = 0.5) -> Recognizer:
    """One without files: its embeddings are as they come."""
    made = object.__new__(Recognizer)
    made.photos = PhotoSettings()
    zeros = np.zeros(8, np.float32)
    scorer = Scorer(CAST, {}, zeros, np.ones(1, np.float32), 5 * GALLERY, zeros[:3], gallery=GALLERY)
    made.cast = Cast(scorer, threshold=threshold)
    return made


def like(person: int, similarity: float = 0.9, second: float = 0.0) -> NDArray[np.float32]:
    """A unit vector that is so similar to one of the cast, and to the next."""
    raw = similarity * GALLERY[person] + second * GALLERY[(person + 1) % 3]
    raw[7] = np.sqrt(1 - similarity**2 - second**2)
    return raw


def track(number: int, start: float, end: float, raw: NDArray[np.float32], faces: int = 10) -> Track:
    similarities = faces * recognizer().similarities(raw)
    return Track(number, start, end, np.zeros(4, np.float32), 10, 8.0, faces, faces * raw, faces * raw, similarities)


def shown(tracks: list[Track], threshold: float | None = 0.5) -> dict[int, str]:
    return {number: name.shown for number, name in name_tracks(tracks, recognizer(threshold)).items()}


def test_each_track_has_its_name() -> None:
    assert shown([track(1, 0, 5, like(0)), track(2, 0, 5, like(1)), track(3, 0, 5, like(2, 0.4))]) == {
        1: "anna", 2: "ben", 3: "unknown",
    }  # fmt: skip


def test_two_tracks_of_one_moment_are_not_one_person() -> None:
    weak, strong = track(1, 0, 5, like(0, 0.6)), track(2, 4, 9, like(0, 0.8))
    assert shown([weak, strong]) == {1: "unknown", 2: "anna"}
    assert shown([weak, track(2, 5, 9, like(0, 0.8))]) == {1: "anna", 2: "anna"}, "one ends as the other begins"


def test_the_other_is_the_next_likeliest_if_that_is_known_too() -> None:
    strong = track(1, 0, 5, like(0, 0.9))
    assert shown([strong, track(2, 0, 5, like(0, 0.7, 0.6))]) == {1: "anna", 2: "ben"}
    assert shown([strong, track(2, 0, 5, like(0, 0.7, 0.4))]) == {1: "anna", 2: "unknown"}
    assert shown([strong, track(2, 0, 5, like(0, 0.7, 0.6)), track(3, 0, 5, like(1, 0.9))])[2] == "unknown"


def test_few_looks_are_less_evidence_than_many() -> None:
    assert shown([track(1, 0, 5, like(0, 0.8), faces=1), track(2, 0, 5, like(0, 0.7), faces=20)]) == {
        1: "unknown", 2: "anna",
    }  # fmt: skip


def test_more_faces_than_people_where_everybody_is_named() -> None:
    tracks = [track(i, 0, 5, like(0, 0.9 - i / 100, 0.1)) for i in range(1, 5)]
    found = shown(tracks, threshold=None)
    assert sorted(found.values()) == ["=cmd()", "anna", "ben", "unknown"]
    assert found[1] == "anna"


def test_the_mean_of_several_faces_is_held_against_the_threshold_for_one() -> None:
    """Faces that are 0.45 similar to anna each, and unlike among themselves: so is a stranger's."""
    rest = np.eye(8, dtype=np.float32)[3:8] * np.sqrt(1 - 0.45**2)
    raws = 0.45 * GALLERY[0] + rest
    each = np.array([recognizer().similarities(raw) for raw in raws])
    seen = Track(1, 0, 1, np.zeros(4, np.float32), 5, 4.0, 5, raws.sum(0), raws.sum(0), each.sum(0))
    name = recognizer().name(seen.pooled, seen.similar)
    assert name.similarity == pytest.approx(0.45, abs=1e-4)
    assert not name.known
    assert recognizer().name(seen.pooled).similarity > 0.7
    one = Track(1, 0, 1, np.zeros(4, np.float32), 1, 1.0, 1, raws[0], raws[0], each[0])
    assert recognizer().name(one.pooled, one.similar).similarity == pytest.approx(0.45, abs=1e-4)


TRACKS = st.lists(
    st.tuples(
        st.floats(0, 9), st.floats(0.1, 5), st.integers(0, 2), st.floats(0.1, 0.9), st.floats(0, 0.4), st.integers(1, 9)
    ),
    max_size=8,
    unique_by=lambda values: values[3] * values[5] / (values[5] + 1),
)


@settings(max_examples=200)
@given(TRACKS, st.sampled_from([None, 0.3, 0.6]), st.permutations(range(8)))
def test_nobody_is_twice_in_a_frame_and_times_are_the_tracks(
    values: list[tuple[float, float, int, float, float, int]], threshold: float | None, order: list[int]
) -> None:
    tracks = [
        track(i, start, start + seconds, like(person, similarity, second), faces)
        for i, (start, seconds, person, similarity, second, faces) in enumerate(values)
    ]
    names = name_tracks(tracks, recognizer(threshold))
    for one in tracks:
        for other in tracks:
            if one is not other and one.start < other.end and other.start < one.end:
                a, b = names[one.number], names[other.number]
                assert not (a.known and b.known and a.nearest == b.nearest)
    again = name_tracks([tracks[i] for i in order if i < len(tracks)], recognizer(threshold))
    assert {i: name.shown for i, name in again.items()} == {i: name.shown for i, name in names.items()}

    found = _appearances(tracks, names, gap=0.5)
    assert sorted(number for _, numbers in found for number in numbers) == list(range(len(tracks)))
    for seen, numbers in found:
        parts = [tracks[i] for i in numbers]
        assert (seen.start, seen.end) == (min(t.start for t in parts), max(t.end for t in parts))
        assert seen.known or len(numbers) == 1
    assert [s.number for s, _ in found if not s.known] == list(range(1, 1 + sum(not s.known for s, _ in found)))
    for person in CAST:
        spans = sorted((seen.start, seen.end) for seen, _ in found if seen.known and seen.name == person)
        assert all(later[0] - earlier[1] > 0.5 for earlier, later in pairwise(spans))


class Script(Recognizer):
    """Faces as they stand in a script: of each tenth of a second, who is where, as how similar."""

    def __init__(self, script: dict[int, list[tuple[int, float]]], threshold: float | None = 0.5) -> None:
        vars(self).update(vars(recognizer(threshold)))
        self.script, self.frame, self.raws = script, -1, dict[int, NDArray[np.float32]]()

    def find(self, photo: Photo) -> Detections:
        self.frame += 1
        faces = self.script.get(self.frame, [])
        boxes = np.array([[30 * i, 5, 30 * i + 20, 25] for i in range(len(faces))], np.float32).reshape(-1, 4)
        marks = np.zeros((len(faces), 5, 2), np.float32)
        for i, (person, similarity) in enumerate(faces):
            self.raws[id_ := 100 * self.frame + i] = like(person, similarity)
            marks[i] = id_
        return Detections(boxes, marks, np.full(len(faces), 0.8, np.float32))

    def embed(self, photo: Photo, landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.raws[int(landmarks[0, 0])]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, [(i / 10, Image.new("RGB", (96, 32), (90, 90, 90))) for i in range(30)], 10)
    return path


def spans(timeline: Timeline) -> list[tuple[str, float, float]]:
    return [(seen.label, round(seen.start, 2), round(seen.end, 2)) for seen in timeline.appearances]


def test_who_is_on_screen_when(clip: Path) -> None:
    script = {i: [(0, 0.9)] + ([(2, 0.3)] if 5 <= i < 15 else []) for i in [*range(20), *range(23, 30)]}
    timeline = watch(Script(script), clip)
    assert spans(timeline) == [("anna", 0, 3), ("unknown 1", 0.5, 1.5)]
    assert (timeline.video.frames, timeline.boxes) == (30, None)
    anna, other = timeline.appearances
    assert (anna.known, anna.number, other.known, other.number, other.nearest) == (True, None, False, 1, "=cmd()")
    assert anna.similarity == pytest.approx(0.9, abs=1e-3)


def test_a_person_who_comes_back_has_two_times(clip: Path) -> None:
    timeline = watch(Script({i: [(1, 0.9)] for i in [*range(8), *range(20, 26)]}), clip)
    assert spans(timeline) == [("ben", 0, 0.8), ("ben", 2, 2.6)]


def test_nobody(clip: Path) -> None:
    timeline = watch(Script({}), clip, keep_boxes=True)
    assert timeline.described()["appearances"] == []
    assert timeline.csv() == "name,number,known,start,end,nearest,confidence,similarity\n"
    assert len(list(timeline.drawn())) == 30


def test_json_and_csv_say_the_same_and_the_csv_runs_nothing(clip: Path) -> None:
    timeline = watch(Script({i: [(2, 0.9), (0, 0.2)] for i in range(12)}), clip)
    described = json.loads(json.dumps(timeline.described()))
    assert {key: described[key] for key in ("width", "height", "frames", "warning")} == {
        "width": 96, "height": 32, "frames": 30, "warning": "",
    }  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(timeline.csv())))
    assert [row["name"] for row in rows] == ["'=cmd()", "unknown"]
    assert [seen["name"] for seen in described["appearances"]] == ["=cmd()", "unknown"]
    for row, seen in zip(rows, described["appearances"], strict=True):
        assert list(row) == list(seen)
        assert {key: row[key] for key in ("number", "known", "start", "end")} == {
            key: "" if seen[key] is None else str(seen[key]) for key in ("number", "known", "start", "end")
        }


def test_names_are_drawn_where_the_faces_were(clip: Path) -> None:
    script = {i: [(0, 0.9)] for i in range(10, 20)}
    frames = list(watch(Script(script), clip, keep_boxes=True).drawn())
    assert [round(time, 1) for time, _ in frames] == [i / 10 for i in range(30)]
    blue = [bool((np.abs(np.asarray(image, int) - (0, 114, 178)).sum(-1) < 30).any()) for _, image in frames]
    assert blue == [10 <= i < 20 for i in range(30)]


def test_each_frame_can_be_seen_with_its_faces_and_their_tracks(clip: Path) -> None:
    script = {i: [(0, 0.9)] + ([(1, 0.8)] if 5 <= i < 15 else []) for i in range(10)}
    frames = []
    timeline = watch(
        Script(script),
        clip.read_bytes(),
        seen=lambda photo, found, tracks: frames.append((photo.width, len(found), tracks.tolist())),
    )
    assert [count for _, count, _ in frames] == [len(script.get(i, [])) for i in range(30)]
    assert all(width == 96 and count == len(tracks) for width, count, tracks in frames)
    assert [timeline.tracks[track].name for track in frames[7][2]] == ["anna", "ben"]


def test_who_is_told_can_end_it(clip: Path) -> None:
    class EnoughError(Exception):
        pass

    def told(video: Video) -> None:
        if video.seconds > 1:
            raise EnoughError

    script = Script({i: [(0, 0.9)] for i in range(30)})
    with pytest.raises(EnoughError):
        watch(script, clip, told=told)
    assert script.frame < 20


def test_what_goes_wrong_while_finding_is_not_lost(clip: Path) -> None:
    class Broken(Script):
        def find(self, photo: Photo) -> Detections:
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        watch(Broken({}), clip)


def test_the_name_that_it_cannot_be() -> None:
    def named(but: Collection[str]) -> Name:
        return recognizer().name(like(0, 0.7, 0.6), but=but)

    assert (named(()).shown, named({"anna"}).shown, named({"anna", "ben"}).shown) == ("anna", "ben", "unknown")
    assert named({"anna"}).similarity == pytest.approx(0.6)

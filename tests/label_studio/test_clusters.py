"""Faces that are alike, on one sheet, as one task."""

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from face_tables import faces_of, sha_of, write_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from castline.errors import ConfigError
from castline.label_studio.clusters import SHEETS, cluster_tasks, parted, sheet
from castline.label_studio.linkage import linked
from castline.labels.clusters import CLUSTERS_CONFIG
from castline.runtime import Name


def by_the_book(vectors: NDArray[np.float32], least: float) -> set[frozenset[int]]:
    """Average linkage as it is defined: the two most similar clusters of all are joined, again and again."""
    clusters = [[row] for row in range(len(vectors))]
    similar = (vectors @ vectors.T).astype(np.float64)
    while len(clusters) > 1:
        pairs = [
            (float(similar[np.ix_(a, b)].mean()), i, j)
            for i, a in enumerate(clusters)
            for j, b in enumerate(clusters)
            if i < j
        ]
        best, i, j = max(pairs)
        if best < least:
            break
        clusters[i] += clusters.pop(j)
    return {frozenset(rows) for rows in clusters}


@settings(max_examples=40)
@given(people=st.lists(st.integers(0, 4), max_size=22), seed=st.integers(0, 999), least=st.floats(0.2, 0.8))
def test_linked_is_average_linkage_in_whatever_order(people: list[int], seed: int, least: float) -> None:
    vectors = faces_of(people, seed, spread=0.25) if people else np.zeros((0, 16), np.float32)
    found = linked(vectors, least)
    assert sorted(row for rows in found for row in rows) == list(range(len(people)))
    assert [len(rows) for rows in found] == sorted((len(rows) for rows in found), reverse=True)
    assert {frozenset(rows) for rows in found} == by_the_book(vectors, least)
    order = np.random.default_rng(seed).permutation(len(people))
    assert {frozenset(order[rows].tolist()) for rows in linked(vectors[order], least)} == {
        frozenset(rows) for rows in found
    }


def test_linked_copes_with_copies() -> None:
    """Of equal vectors every pair is as near as every other: the chain must end."""
    assert linked(np.repeat(faces_of([0, 1]), 40, axis=0), 0.5) == [list(range(40)), list(range(40, 80))]


@pytest.mark.parametrize(("count", "most"), [(1, 60), (60, 60), (61, 60), (7, 3), (1000, 60)])
def test_parts_are_nearly_equal(count: int, most: int) -> None:
    parts = parted(range(count), most)
    assert [row for part in parts for row in part] == list(range(count))
    sizes = {len(part) for part in parts}
    assert max(sizes) <= most and max(sizes) - min(sizes) <= 1


def jpeg(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (256, 256), colour).save(file, "JPEG", quality=95)
    return file.getvalue()


RED, BLUE = jpeg((200, 0, 0)), jpeg((0, 0, 200))


def test_a_sheet_shows_faces_in_order_ten_in_a_row() -> None:
    made = sheet([RED] * 10 + [BLUE] * 2)
    assert made == sheet([RED] * 10 + [BLUE] * 2)
    picture = np.asarray(Image.open(io.BytesIO(made)))
    assert picture.shape == (2 * 150, 1280, 3)
    assert picture[64, 64::128, 0].min() > 150 and picture[214, [64, 192], 2].min() > 150
    assert picture[214, 320:].min() > 240  # empty
    assert (picture[128:150, :128] < 100).any()  # a number below the face


WHO = [0] * 7 + [1] * 3 + [2] * 2 + [3] * 4
PHOTOS = [f"{n}.jpg" for n in range(12)] + [f"alma/{n}.jpg" for n in range(4)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    chips = [RED] * 7 + [BLUE] * 9
    write_batch(tmp_path / "build", "new", PHOTOS, faces_of(WHO), chip=chips)
    return tmp_path


def test_tasks_are_clusters_of_faces_that_nobody_named(project: Path) -> None:
    tasks = cluster_tasks("new", ["new"], ["alma", "bruno"], project=project)
    of_first, of_second = ({sha_of(f"{n}.jpg") for n in rows} for rows in (range(7), range(7, 10)))
    assert [{sha for sha, _ in task["data"]["faces"]} for task in tasks] == [of_first, of_second]
    for task in tasks:
        data = task["data"]
        assert data["image"] == f"/data/local-files/?d=build/label/clusters/new/{data['cluster']}.jpg"
        made = project / SHEETS / "new" / f"{data['cluster']}.jpg"
        assert Image.open(io.BytesIO(made.read_bytes())).size == (128 * len(data["faces"]), 150)
        assert [one["value"] for one in data["numbers"]] == [str(n + 1) for n in range(len(data["faces"]))]
        assert [one["value"] for one in data["people"]] == ["alma", "bruno", "unknown_person"]
    json.dumps(tasks)


def test_the_form_asks_for_what_tasks_bring(project: Path) -> None:
    data = cluster_tasks("new", ["new"], [], project=project)[0]["data"]
    form = ElementTree.fromstring(CLUSTERS_CONFIG)
    asked = {value[1:] for tag in form.iter() for value in tag.attrib.values() if value.startswith("$")}
    assert asked <= data.keys()


def test_again_is_the_same_and_what_is_named_goes(project: Path) -> None:
    folder = project / SHEETS / "new"
    first = cluster_tasks("new", ["new"], [], project=project)
    assert cluster_tasks("new", ["new"], [], project=project) == first
    said = {(sha, face) for sha, face in first[0]["data"]["faces"]}
    second = cluster_tasks("new", ["new"], [], said=said, project=project)
    assert second == first[1:]
    assert [path.name for path in folder.iterdir()] == [f"{second[0]['data']['cluster']}.jpg"]
    assert cluster_tasks("new", ["new"], [], [sha_of(photo) for photo in PHOTOS], project=project) == []
    assert list(folder.iterdir()) == []


def test_whom_the_model_names_is_not_asked_about(project: Path) -> None:
    names = [Name(n < 7, "alma", 1.0, 1.0, np.ones(1, np.float32), np.ones(1, np.float32)) for n in range(16)]
    tasks = cluster_tasks("new", ["new"], ["alma"], named=names, project=project)
    assert [len(task["data"]["faces"]) for task in tasks] == [3]


def test_large_clusters_have_several_sheets_and_small_ones_none(project: Path) -> None:
    tasks = cluster_tasks("new", ["new"], [], project=project, min_faces=3, most=4)
    assert [len(task["data"]["faces"]) for task in tasks] == [4, 3, 3]
    assert len(cluster_tasks("new", ["new"], [], project=project, min_faces=2)) == 3


def test_a_file_that_lies_there_twice_is_on_the_sheet_once(tmp_path: Path) -> None:
    photos, who = list("abcdefgh"), [0] * 5 + [1, 2, 3]
    content = [sha_of(photo) for photo in "aaabcdef"]
    write_batch(tmp_path / "build", "new", photos, faces_of(who), chip=[RED] * 8, photo_sha256=content)
    (task,) = cluster_tasks("new", ["new"], [], project=tmp_path)
    assert sorted(sha for sha, _ in task["data"]["faces"]) == sorted(set(content[:5]))


@pytest.mark.parametrize("wrong", [{"min_faces": 1}, {"most": 2}, {"least": 0.0}, {"least": 1.5}])
def test_numbers_that_cannot_be(project: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="wanted are"):
        cluster_tasks("new", ["new"], [], project=project, **wrong)

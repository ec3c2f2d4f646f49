"""The dataset as a whole: what becomes of each face, and that no group crosses sides and new data moves nothing."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castline.curation.dataset import DatasetRow, FaceRow, Known, assemble
from castline.curation.decisions import Decision
from castline.curation.settings import CurationSettings, SplitSettings
from castline.errors import DataError
from castline.faces.quality import Quality
from castline.labels.gather import FirstSaid
from castline.labels.said import Said

GOOD = Quality(60.0, 1.0, 120.0, 40.0, 0.0, 0.0)
CURATION, SPLIT = CurationSettings(), SplitSettings()
KEEP = Decision("keep")
SIDES = {"train", "val", "test"}


def sha(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


class Photos:
    """Faces of made-up people, as the face and embedding tables have them."""

    def __init__(self) -> None:
        self.faces: list[FaceRow] = []
        self.rows: list[np.ndarray] = []

    def add(
        self,
        path: str,
        who: str | None = None,
        *,
        batch: str = "one",
        file: str | None = None,
        face: int = 0,
        quality: Quality = GOOD,
        look: object = None,
    ) -> int:
        """A photo at `path`, which shows `who`. file: its content. look: chips of one look have the same hash."""
        who = who or path.removeprefix("_strangers/").split("/")[0]
        content = sha(file or f"{batch}/{path}")
        random = np.random.default_rng(int(sha(look or (content, face))[:8], 16))
        self.faces.append(FaceRow(batch, path, face, content, random.bytes(32), quality))
        direction = np.random.default_rng(int(sha(who)[:8], 16)).normal(size=32)
        self.rows.append(direction + 2 + 0.4 * random.normal(size=32))
        return len(self.faces) - 1

    def cast(self, people: int = 6, each: int = 8, batch: str = "one") -> "Photos":
        for person in range(people):
            for number in range(each):
                self.add(f"p{person}/{number}.jpg", batch=batch)
        return self

    def rows_of(self, known: Known | None = None, batches: Sequence[str] = ("one", "two", "three")) -> list[DatasetRow]:
        embeddings = np.array(self.rows, np.float32)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        return assemble(self.faces, embeddings, batches, CURATION, SPLIT, known)

    def decided(self, *decisions: tuple[int, Decision]) -> Known:
        faces = self.faces
        return Known(decisions={(faces[i].photo_sha256, faces[i].face): decision for i, decision in decisions})

    def heard(self, *labels: tuple[int, Said], at: Sequence[str] = ()) -> Known:
        """Labels of faces, given one after the other, or `at` those times."""
        said, first = {}, {}
        for turn, (i, one) in enumerate(labels):
            sha256 = self.faces[i].photo_sha256
            said[sha256, self.faces[i].face] = one
            told = FirstSaid(at[turn] if at else f"{turn:06}", frozenset({one.person} - {""}))
            first[sha256] = min(first.get(sha256, told), told, key=lambda told: told.at)
        return Known(said=said, first=first)


def test_every_face_has_its_row_and_good_ones_are_kept() -> None:
    photos = Photos().cast()
    photos.add("_strangers/eve/1.jpg")
    photos.add("lost.jpg")
    rows = photos.rows_of()
    assert [(row.batch, row.photo, row.face) for row in rows] == [(f.batch, f.photo, f.face) for f in photos.faces]
    assert all(row.kept and not row.reason and row.split in SIDES and row.score > 0.5 for row in rows[:-2])
    assert rows[-2].kept and rows[-2].stranger and rows[-2].split is None and rows[-2].score is None
    assert not rows[-1].kept and rows[-1].reason.startswith("unlabelled")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"eye_distance": 11.0}, "too small"),
        ({"sharpness": 0.1}, "too blurred"),
        ({"brightness": 20.0}, "too dark"),
        ({"brightness": 240.0}, "too bright"),
        ({"contrast": 5.0}, "too flat"),
        ({"yaw": -75.0}, "turned away"),
    ],
)
def test_poor_faces_are_left_out_also_of_strangers_unless_somebody_keeps_them(
    change: dict[str, float], reason: str
) -> None:
    photos = Photos().cast()
    poor = [photos.add(path, quality=replace(GOOD, **change)) for path in ("p0/poor.jpg", "_strangers/eve/poor.jpg")]
    rows = photos.rows_of()
    assert [rows[i].reason.split(":")[0] for i in poor] == [reason] * 2
    assert sum(row.kept for row in rows) == 48
    assert rows[poor[0]].score is not None
    kept = photos.rows_of(photos.decided(*((i, Decision("keep")) for i in poor)))
    assert all(kept[i].kept and not kept[i].reason for i in poor)


def test_a_wrong_label_is_left_out_or_kept_or_put_right() -> None:
    photos = Photos().cast()
    wrong = photos.add("p0/wrong.jpg", "p1")
    assert photos.rows_of()[wrong].reason.startswith("may be somebody else: closer to p1")
    kept = photos.rows_of(photos.decided((wrong, Decision("keep"))))[wrong]
    assert (kept.person, kept.kept, kept.doubt) == ("p0", True, "")
    moved = photos.rows_of(photos.decided((wrong, Decision("it is", "p1"))))[wrong]
    assert (moved.person, moved.kept, moved.reason) == ("p1", True, "") and moved.score > 0.5
    out = photos.rows_of(photos.decided((0, Decision("leave out"))))[0]
    assert (out.kept, out.reason) == (False, "left out by review")


def test_a_decision_names_the_face_in_a_photo_of_several_and_who_a_stranger_is() -> None:
    photos = Photos().cast()
    group = [photos.add("p0/group.jpg", who, face=face, file="g") for face, who in enumerate(("x", "y"))]
    assert not any(photos.rows_of()[i].kept for i in group)
    rows = photos.rows_of(photos.decided((group[1], Decision("keep"))))
    assert [(rows[i].kept, rows[i].person) for i in group] == [(False, None), (True, "p0")]
    stranger, unlabelled = photos.add("_strangers/eve/1.jpg", "p2"), photos.add("lost.jpg", "p3")
    rows = photos.rows_of(photos.decided((stranger, Decision("it is", "p2")), (unlabelled, Decision("it is", "p3"))))
    assert [(rows[i].kept, rows[i].person, rows[i].stranger) for i in (stranger, unlabelled)] == [
        (True, "p2", False),
        (True, "p3", False),
    ]
    assert all(rows[i].split in SIDES for i in (stranger, unlabelled))


def test_the_same_file_counts_once_and_under_two_names_for_whom_it_shows() -> None:
    photos = Photos().cast()
    again = photos.add("p0/again.jpg", file="one/p0/0.jpg")
    other = photos.add("p1/copied.jpg", "p0", file="one/p0/1.jpg")
    rows = photos.rows_of()
    assert rows[again].reason == "the same file again" and rows[0].kept
    assert not rows[other].kept and rows[1].kept
    assert rows[again].random_split in SIDES, "who splits by photo has this one too"
    assert rows[again].group == rows[0].group and rows[other].group == rows[1].group


@pytest.mark.parametrize("found_by", ["hash", "likeness"])
def test_a_near_duplicate_under_two_names_that_cannot_be_told_is_nobodys(found_by: str) -> None:
    photos = Photos().cast()
    look = "the same" if found_by == "hash" else None
    a, b = (photos.add(f"p{person}/twin.jpg", "somebody between", look=look) for person in (0, 1))
    # Neither name fits better; a decision that keeps both from being taken for somebody else is not needed.
    for i, person in ((a, "p0"), (b, "p1")):
        half = np.random.default_rng(int(sha("p0")[:8], 16)).normal(size=32)
        half += np.random.default_rng(int(sha("p1")[:8], 16)).normal(size=32)
        photos.rows[i] = half / 2 + 2
        assert photos.faces[i].photo.startswith(person)
    known = Known(alike=np.array([[a, b]], np.int64)) if found_by == "likeness" else Known()
    rows = photos.rows_of(known)
    assert [rows[i].reason for i in (a, b)] == ["the same photo under two names: p0 and p1"] * 2
    assert rows[a].group == rows[b].group
    settled = photos.decided((a, Decision("keep")))
    rows = photos.rows_of(replace(known, decisions=settled.decisions))
    assert [rows[i].kept for i in (a, b)] == [True, False]


def test_photos_of_one_source_stay_on_one_side() -> None:
    photos = Photos().cast(4, 30)
    shoot = {("one", f"p{person}/{number}.jpg"): "a shoot" for person in (0, 1) for number in range(20)}
    rows = photos.rows_of(Known(sources=shoot))
    assert len({row.split for row in rows if (row.batch, row.photo) in shoot}) == 1
    assert len({row.group for row in rows if (row.batch, row.photo) in shoot}) == 1
    photos.cast(4, 5, "two")
    later = {**shoot, ("two", "p0/0.jpg"): "a shoot"}
    after = photos.rows_of(Known(sources=later))
    assert [row.split for row in after[:120]] == [row.split for row in rows]
    assert len({row.split for row in after if (row.batch, row.photo) in later}) == 1


def test_the_random_split_looks_at_paths_alone() -> None:
    photos = Photos().cast(6, 100)
    rows = photos.rows_of()
    sides = [row.random_split for row in rows]
    assert set(sides) == SIDES
    assert abs(sides.count("test") / len(sides) - SPLIT.test) < 0.04
    assert abs(sides.count("val") / len(sides) - SPLIT.val) < 0.04
    assert sides != [row.split for row in rows]
    poor = photos.add("p0/poor.jpg", quality=replace(GOOD, sharpness=0.0))
    stranger = photos.add("_strangers/eve/1.jpg")
    rows = photos.rows_of()
    assert [row.random_split for row in rows[:-2]] == sides
    assert rows[poor].random_split is None and rows[stranger].random_split is None


def test_what_a_version_has_seen_counts_as_if_it_were_here() -> None:
    photos = Photos().cast(6, 20)
    seen = photos.rows_of()
    new = Photos()
    for person in range(5):
        for number in range(6):
            new.add(f"p{person}/{number}.jpg", batch="two")
    again = new.add("p0/again.jpg", file="one/p0/3.jpg", batch="two")
    other = new.add("p1/0 of p0.jpg", "p0", file="one/p0/4.jpg", batch="two")
    copy = new.add("p2/copy.jpg", look=(seen[40].photo_sha256, 0), batch="two")
    rows = new.rows_of(Known(seen=seen), ["two"])
    assert rows[again].reason == "the same file again"
    assert not rows[other].kept
    assert (rows[copy].group, rows[copy].split) == (seen[40].group, seen[40].split)
    both = Photos()
    both.faces, both.rows = photos.faces + new.faces, photos.rows + new.rows
    assert [row.split for row in both.rows_of()[120:] if row.kept] == [row.split for row in rows if row.kept]


def test_too_few_people_are_an_error_that_says_why() -> None:
    photos = Photos()
    for number in range(4):
        photos.add(f"ann/{number}.jpg")
        photos.add(f"bob/{number}.jpg", quality=replace(GOOD, sharpness=0.0))
    with pytest.raises(DataError, match=r"those of 1 people are usable(.|\n)*4 × too blurred"):
        photos.rows_of()


def test_labels_stand_against_the_folder_and_decisions_against_labels() -> None:
    photos = Photos().cast()
    group = [photos.add("p0/group.jpg", who, face=face, file="g") for face, who in enumerate(("p0", "p1", "eve", "x"))]
    loose = photos.add("loose.jpg", "p2")
    known = photos.heard(
        *zip(group, (Said(), Said("p1"), Said(stranger=True), Said(problem="labellers disagree: p0, p1")), strict=True),
        (loose, Said("p2")),
    )
    rows = photos.rows_of(known)
    assert [(rows[i].person, rows[i].stranger, rows[i].kept, rows[i].reason) for i in (*group, loose)] == [
        (None, False, False, "another face in the photo"),
        ("p1", False, True, ""),
        ("p0/group.jpg, face 2", True, True, ""),
        (None, False, False, "labellers disagree: p0, p1"),
        ("p2", False, True, ""),
    ]
    assert rows[loose].split in SIDES and rows[group[1]].split in SIDES and rows[group[2]].split is None
    decided = photos.decided((group[0], Decision("it is", "p0")), (group[1], Decision("leave out")), (group[3], KEEP))
    rows = photos.rows_of(replace(known, decisions=decided.decisions))
    assert [(rows[i].person, rows[i].kept) for i in group] == [
        ("p0", True),
        (None, False),
        ("p0/group.jpg, face 2", True),
        ("p0", True),  # kept under the only name that is left, the folder's
    ]


def test_labels_are_judged_as_folders_are() -> None:
    photos = Photos().cast()
    wrong, poor = photos.add("a.jpg", "p1"), photos.add("b.jpg", "p0", quality=replace(GOOD, sharpness=0.0))
    rows = photos.rows_of(photos.heard((wrong, Said("p0")), (poor, Said("p0"))))
    assert rows[wrong].reason.startswith("may be somebody else: closer to p1") and rows[wrong].person == "p0"
    assert rows[poor].reason.startswith("too blurred")


def test_a_cluster_names_one_face_and_the_folder_says_nothing_of_the_others() -> None:
    photos = Photos().cast()
    two = [photos.add("p0/two.jpg", who, face=face, file="two") for face, who in enumerate(("p0", "p1"))]
    rows = photos.rows_of(photos.heard((two[0], Said("p0"))))
    assert [(rows[i].person, rows[i].reason) for i in two] == [("p0", ""), (None, "another face in the photo")]


def test_a_pile_without_folders_is_divided_by_person() -> None:
    photos = Photos()
    pile = [(photos.add(f"{n}.jpg", f"p{n % 6}"), f"p{n % 6}") for n in range(60)]
    with pytest.raises(DataError, match=r"60 × unlabelled(.|\n)*next: label them: castline label push --batch one"):
        photos.rows_of()
    known = photos.heard(*((i, Said(person)) for i, person in pile))
    rows = photos.rows_of(known)
    for person in {person for _, person in pile}:
        sides = [row.split for row in rows if row.person == person]
        assert (sides.count("train"), sides.count("val"), sides.count("test")) == (7, 1, 2)
    few = photos.rows_of(photos.heard(*((i, Said(person)) for i, person in pile[:12])))
    assert [few[i].split for i, _ in pile[:12]] == [rows[i].split for i, _ in pile[:12]] == ["train"] * 6 + ["test"] * 6
    assert few[-1].reason.startswith("unlabelled") and not few[-1].kept


def test_what_a_version_has_seen_of_a_pile_counts_for_the_split() -> None:
    photos = Photos()
    pile = [(photos.add(f"{n}.jpg", f"p{n % 6}"), Said(f"p{n % 6}")) for n in range(60)]
    seen = photos.rows_of(photos.heard(*pile))
    new = Photos()
    more = [(new.add(f"new {n}.jpg", f"p{n % 6}", batch="two"), Said(f"p{n % 6}")) for n in range(12)]
    rows = new.rows_of(replace(new.heard(*more), seen=seen), ["two"])
    both = Photos()
    both.faces, both.rows = photos.faces + new.faces, photos.rows + new.rows
    full = both.rows_of(both.heard(*pile, *((i + 60, said) for i, said in more)))
    assert [row.split for row in full[60:]] == [row.split for row in rows]


def test_copies_of_a_strangers_photo_are_no_two_names() -> None:
    photos = Photos().cast()
    crowd = [photos.add(f"crowd {n}.jpg", "eve", look="a moment") for n in range(2)]
    rows = photos.rows_of(photos.heard(*((i, Said(stranger=True)) for i in crowd)))
    assert all(rows[i].kept and rows[i].stranger for i in crowd)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[Photos, Known, int]:
    """Up to three batches of photos: some wrong labels, poor ones, copies of files and looks, alike pairs, sources;
    some without a folder, of which most are labelled.
    """
    photos = Photos()
    sources = {}
    labels: list[tuple[int, Said]] = []
    for batch in ("one", "two", "three"):
        for number in range(draw(st.integers(4, 14))):
            person = draw(st.sampled_from("abcd"))
            folder, said = draw(st.sampled_from([(f"{person}/", None)] * 4 + [("", Said(person))] * 2 + [("", None)]))
            path = f"{folder}{number}.jpg"
            face = photos.add(
                path,
                draw(st.sampled_from([person] * 6 + ["a", "stranger"])),
                batch=batch,
                file=draw(st.sampled_from([None] * 4 + ["file 1", "file 2"])),
                quality=draw(st.sampled_from([GOOD] * 6 + [replace(GOOD, sharpness=0.0)])),
                look=draw(st.sampled_from([None] * 4 + ["look 1", "look 2"])),
            )
            labels += [(face, said)] if said else []
            source = draw(st.sampled_from([None] * 4 + ["film 1", "film 2"]))
            if source:
                sources[batch, path] = source
    index = st.integers(0, len(photos.faces) - 1)
    alike = np.array(draw(st.lists(st.tuples(index, index), max_size=8)), np.int64).reshape(-1, 2)
    last = sum(face.batch != "three" for face in photos.faces)
    moments = draw(st.lists(st.sampled_from("123456789"), min_size=len(labels), max_size=len(labels)))
    heard = photos.heard(*labels, at=moments)
    return photos, replace(heard, alike=alike[alike[:, 0] != alike[:, 1]], sources=sources), last


@given(deliveries())
@settings(max_examples=120)
def test_no_group_crosses_the_split_and_a_new_batch_moves_nothing(delivered: tuple[Photos, Known, int]) -> None:
    photos, known, last = delivered
    try:
        after = photos.rows_of(known)
    except DataError:
        return
    groups: dict[str, set[str]] = {}
    together: dict[object, set[str]] = {}
    for row in after:
        if row.split:
            groups.setdefault(row.group, set()).add(row.split)
            together.setdefault(row.photo_sha256, set()).add(row.split)
            together.setdefault(row.chip_hash, set()).add(row.split)
            if (row.batch, row.photo) in known.sources:
                together.setdefault(("source", known.sources[row.batch, row.photo]), set()).add(row.split)
    assert all(len(sides) == 1 for sides in (*groups.values(), *together.values()))
    for a, b in known.alike:
        assert not (after[a].split and after[b].split) or after[a].split == after[b].split

    old = Photos()
    old.faces, old.rows = photos.faces[:last], photos.rows[:last]
    try:
        before = old.rows_of(replace(known, alike=known.alike[(known.alike < last).all(1)]))
    except DataError:
        return
    for one, two in zip(before, after, strict=False):
        assert one.group == two.group
        # What is known of a person grows, so a face may be left out or taken back; it never changes sides.
        assert one.split == two.split or None in (one.split, two.split)
        assert one.random_split == two.random_split or None in (one.random_split, two.random_split)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()), min_size=6, max_size=40), st.data()
)
@settings(max_examples=40)
def test_what_is_labelled_later_moves_nothing(pile: list[tuple[str, int, bool]], data: st.DataObject) -> None:
    """pile: of each photo whom it shows, a moment that it shares with others, and whether it lies in a folder."""
    photos = Photos()
    labels = []
    for number, (person, look, in_folder) in enumerate(pile):
        i = photos.add(
            f"{person}/{number}.jpg" if in_folder else f"{number}.jpg",
            person,
            look=look or None if look < 3 else number,
        )
        labels += [] if in_folder else [(i, Said(person))]
    moments = [str(data.draw(st.integers(0, 9))) for _ in labels]
    then = data.draw(st.sampled_from("0123456789"))
    earlier = [(label, moment) for label, moment in zip(labels, moments, strict=True) if moment <= then]
    try:
        before = photos.rows_of(photos.heard(*(label for label, _ in earlier), at=[moment for _, moment in earlier]))
        after = photos.rows_of(photos.heard(*labels, at=moments))
    except DataError:
        return
    for one, two in zip(before, after, strict=True):
        assert one.split == two.split or None in (one.split, two.split)

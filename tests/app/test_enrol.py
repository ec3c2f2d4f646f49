"""People added for one visit: they are named, strangers are not, and those whom the model knows are none the worse."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sample_faces import sample_chips
from sample_recognizer import sample_recognizer

from castline.app.enrol import cast_of
from castline.app.models import WORKSPACE, Model, open_model
from castline.app.session import Enrolled
from castline.errors import BundleError, ConfigError
from castline.runtime import Cast
from castline.scoring import Scorer


def enrolled(model: Model, name: str, raw: NDArray[np.float32]) -> Enrolled:
    return Enrolled(name, model.key, raw, (), ())


def model_of(cast: Cast, folder: Path) -> Model:
    """As far as enrolling looks at one; without a memory."""
    return Model("v1.0.0", folder, "float32", None, cast, "key")  # type: ignore[arg-type]


def test_a_newcomer_is_named_and_strangers_stay_unknown(sample: Path, tmp_path: Path) -> None:
    recognizer = sample_recognizer(sample)
    chips: dict[str, list[bytes]] = {}
    for chip, name in zip(*sample_chips(sample, 4), strict=True):
        if len(chips) < 6 or name in chips:
            chips.setdefault(name, []).append(chip)

    def raw(name: str, *numbers: int) -> NDArray[np.float32]:
        opened = [Image.open(io.BytesIO(chips[name][number])) for number in numbers]
        return np.stack([recognizer.embed_chip(image) for image in opened])

    *known, newcomer, stranger, another = chips
    every = recognizer.cast.scorer
    assert every.people[:3] == tuple(known) and every.gallery is not None
    scorer = replace(
        every, people=tuple(known), weight=every.weight[:3], bias=every.bias[:3], gallery=every.gallery[:3]
    )
    model = model_of(Cast(scorer, threshold=0.54), tmp_path)
    assert not any(model.cast.name(face).known for face in raw(newcomer, 0, 3))

    cast = cast_of(model, [enrolled(model, newcomer, raw(newcomer, 0, 1, 2))])
    assert cast.people == (*known, newcomer)
    for name in cast.people:
        assert cast.name(raw(name, 3)[0]).shown == name
    assert {cast.name(face).shown for name in (stranger, another) for face in raw(name, 0, 2)} == {"unknown"}


def heads() -> st.SearchStrategy[tuple[Scorer, int]]:
    """Heads of any kind, metric and size, and a seed."""

    def made(people: int, size: int, hidden: int, normalised: bool, metric: str, seed: int) -> tuple[Scorer, int]:
        rng = np.random.default_rng(seed)

        def some(*shape: int) -> NDArray[np.float32]:
            return rng.normal(size=shape).astype(np.float32)

        return Scorer(
            tuple(f"p{i}" for i in range(people)), {"kind": "prototype"} if normalised else {}, some(size),
            np.abs(some(1)) + 1, some(people, hidden or size), some(people), some(hidden, size) if hidden else None,
            some(hidden) if hidden else None, some(people, size), normalised, metric,
        ), seed  # fmt: skip

    return st.builds(
        made, st.integers(1, 5), st.integers(2, 6), st.sampled_from([0, 3]), st.booleans(),
        st.sampled_from(["cosine", "euclidean"]), st.integers(0, 1000),
    )  # fmt: skip


@given(heads(), st.lists(st.integers(1, 4), min_size=1, max_size=3))
@hypothesis_settings(max_examples=25)
def test_enrolling_changes_nothing_of_how_alike_a_face_and_the_known_are(
    head: tuple[Scorer, int], counts: list[int]
) -> None:
    scorer, seed = head
    model = replace(model_of(Cast(scorer, 0.7, 0.5), Path("nowhere")), key=f"{seed} {scorer}")
    rng = np.random.default_rng(seed + 1)
    raw = [rng.normal(size=(count, scorer.mean.size)).astype(np.float32) for count in counts]
    cast = cast_of(model, [enrolled(model, f"n{i}", some) for i, some in enumerate(raw)])
    known, face = len(scorer.people), rng.normal(size=scorer.mean.size).astype(np.float32)
    assert cast.people[:known] == scorer.people
    assert (cast.temperature, cast.threshold, cast.by) == (0.7, 0.5, "similarity")
    np.testing.assert_allclose(cast.similarities(face)[:known], model.cast.similarities(face), atol=1e-6)
    np.testing.assert_allclose(cast.scorer.logits(face[None])[:, :known], scorer.logits(face[None]), atol=1e-4)
    own = cast.similarities(raw[0][0])
    if counts[0] == 1:  # a gallery of one face is that face
        assert own[known] == pytest.approx(1, abs=2e-3)
    assert np.isfinite(cast.name(face).scores).all()


def test_the_same_people_give_the_same_cast(model_folder: Path) -> None:
    model = open_model(WORKSPACE, model_folder)
    raw = np.random.default_rng(0).normal(size=(2, model.cast.scorer.mean.size)).astype(np.float32)
    cast = cast_of(model, [enrolled(model, "nora", raw)])
    assert cast_of(model, [enrolled(model, "nora", raw.copy())]) is cast
    assert cast_of(model, [enrolled(model, "nora", raw + 1)]) is not cast
    assert cast_of(model, [enrolled(model, "nora", raw[:1]), enrolled(model, "nora", raw[1:])]) is cast
    assert cast_of(model, []) is model.cast


def test_people_of_another_model_are_passed_over(model_folder: Path) -> None:
    model = open_model(WORKSPACE, model_folder)
    other = Enrolled("nora", "another model's key", np.zeros((1, 3), np.float32), (), ())
    assert cast_of(model, [other]) is model.cast


def test_whom_the_model_knows_cannot_be_enrolled(model_folder: Path) -> None:
    model = open_model(WORKSPACE, model_folder)
    raw = np.ones((1, model.cast.scorer.mean.size), np.float32)
    with pytest.raises(ConfigError, match="knows"):
        cast_of(model, [enrolled(model, model.cast.people[0], raw)])


def test_a_head_without_a_gallery_takes_nobody(model_folder: Path) -> None:
    model = open_model(WORKSPACE, model_folder)
    blind = replace(model, cast=replace(model.cast, scorer=replace(model.cast.scorer, gallery=None)), key="blind")
    with pytest.raises(BundleError, match="gallery"):
        cast_of(blind, [enrolled(blind, "nora", np.ones((1, blind.cast.scorer.mean.size), np.float32))])

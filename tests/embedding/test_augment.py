"""Augmentation: what changes a face, what decides how, and what it refuses."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from sample_faces import sample_chips

from castline.embedding.augment import augment
from castline.embedding.augment_settings import AugmentationSettings
from castline.embedding.base_settings import BaseModelSettings
from castline.embedding.crops import Crops
from castline.errors import ConfigError
from castline.files import params

CONF = Path(__file__).parents[2] / "conf"


def named(name: str) -> AugmentationSettings:
    values = yaml.safe_load((CONF / "augmentation" / f"{name}.yaml").read_text())
    return params.typed(values, AugmentationSettings, "augmentation")


@pytest.fixture(scope="module")
def face(sample: Path) -> NDArray[np.uint8]:
    values = yaml.safe_load((CONF / "base_model" / "dlib_face_resnet.yaml").read_text())
    settings = params.typed(values, BaseModelSettings, "base_model")
    return Crops(sample_chips(sample, each=1)[0], settings)[0]


@pytest.mark.parametrize("name", ["light", "strong"])
def test_numbers_decide_the_picture_and_nothing_else(name: str, face: NDArray[np.uint8]) -> None:
    settings = named(name)
    numbers = [(1, epoch, index) for epoch in range(3) for index in range(8)]
    first = [augment(face, settings, *those) for those in numbers]
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda those: augment(face, settings, *those), reversed(numbers)))
    for one, other in zip(first, reversed(again), strict=True):
        assert np.array_equal(one, other)
        assert one.shape == face.shape and one.dtype == np.uint8
    assert len({picture.tobytes() for picture in first}) == len(numbers)


def test_none_leaves_a_face_as_it_is(face: NDArray[np.uint8]) -> None:
    assert augment(face, named("none"), 1, 2, 3) is face


def test_one_change_does_not_bring_another(face: NDArray[np.uint8]) -> None:
    """Each is drawn for itself: with one seed for all steps, the mirrored faces would be the grey ones."""
    settings = AugmentationSettings(flip=0.5, gray=0.5)
    seen = set()
    for index in range(40):
        picture = augment(face, settings, index)
        grey = bool((picture == picture[..., :1]).all())
        plain = augment(face, AugmentationSettings(gray=1.0), 0) if grey else face
        seen.add((grey, not np.array_equal(picture, plain)))
    assert seen == {(grey, mirrored) for grey in (False, True) for mirrored in (False, True)}


@pytest.mark.parametrize(
    "change",
    [
        {"flip": 1.0}, {"shift": 0.1}, {"scale": 0.2}, {"rotate": 20.0}, {"brightness": 0.3}, {"contrast": 0.3},
        {"jpeg": 20}, {"blur": 1.0}, {"noise": 1.0}, {"gray": 1.0}, {"dropout": 1.0},
    ],
)  # fmt: skip
def test_every_knob_turns_something_but_keeps_the_face(change: dict[str, float], face: NDArray[np.uint8]) -> None:
    picture = augment(face, AugmentationSettings(**change), 7)  # type: ignore[arg-type]
    assert not np.array_equal(picture, face)
    upright = picture[:, ::-1] if "flip" in change else picture
    assert np.corrcoef(upright.ravel(), face.ravel())[0, 1] > 0.5


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"flip": 1.5}, "augmentation.flip is 1.5, allowed: 0 to 1"),
        ({"rotate": 180.0}, "augmentation.rotate is 180.0, allowed: 0 to 30"),
        ({"shift": -0.1}, "augmentation.shift"),
        ({"jpeg": 0}, "augmentation.jpeg"),
        ({"views": 0}, "augmentation.views is 0"),
        ({"views": 4}, "all would be alike"),
    ],
)
def test_settings_that_do_not_fit_are_named(change: dict[str, float], complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        replace(AugmentationSettings(), **change)  # type: ignore[arg-type]
    assert complaint in str(refused.value)


def test_it_does_not_ask_for_newer_versions() -> None:
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"

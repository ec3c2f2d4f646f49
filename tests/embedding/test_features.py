"""Features: what a frozen base model makes of chips, row by row the same whatever else is there."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from sample_faces import sample_chips

from castline.embedding import base_models
from castline.embedding.base_models import BaseModel, BaseModelSettings
from castline.embedding.base_settings import ONNX
from castline.embedding.crops import Crops, decode
from castline.embedding.features import embed
from castline.embedding.onnx import export_base
from castline.embedding.onnx_model import OnnxModel
from castline.errors import CastlineError, DataError
from castline.files import params

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def cast(sample: Path) -> tuple[list[bytes], list[str]]:
    return sample_chips(sample, each=6)


@pytest.fixture(scope="module", params=["dlib_face_resnet", "efficientnet_lite0"])
def built(request: pytest.FixtureRequest) -> tuple[BaseModel, BaseModelSettings]:
    values = yaml.safe_load((CONF / "base_model" / f"{request.param}.yaml").read_text())
    settings = params.typed(values, BaseModelSettings, "base_model")
    return base_models.build(settings, "pretrained", seed=0), settings


@pytest.fixture(scope="module")
def base(
    built: tuple[BaseModel, BaseModelSettings], tmp_path_factory: pytest.TempPathFactory
) -> tuple[OnnxModel, BaseModelSettings]:
    folder = tmp_path_factory.mktemp("base")
    export_base(built[0], built[1].input_size, folder)
    return OnnxModel(folder / ONNX), built[1]


@pytest.fixture(scope="module")
def rows(base: tuple[OnnxModel, BaseModelSettings], cast: tuple[list[bytes], list[str]]) -> NDArray[np.float32]:
    return embed(*base, cast[0])


def test_they_tell_the_cast_apart(
    base: tuple[OnnxModel, BaseModelSettings], cast: tuple[list[bytes], list[str]], rows: NDArray[np.float32]
) -> None:
    """The nearest other face is of the same person: of 60 faces of 10 people, chance would say so of 8 %."""
    centred = rows - rows.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    likeness = unit @ unit.T - 3 * np.eye(len(unit))
    names = np.array(cast[1])
    reached = {"dlib_face_resnet": 0.75, "efficientnet_lite0": 0.4}[base[1].name]
    assert (names[likeness.argmax(1)] == names).mean() > reached


def test_a_row_does_not_depend_on_the_others(
    base: tuple[OnnxModel, BaseModelSettings], cast: tuple[list[bytes], list[str]], rows: NDArray[np.float32]
) -> None:
    chips = cast[0]
    assert rows.shape == (60, base[1].embedding_size) and rows.dtype == np.float32
    for part in (slice(0, 1), slice(3, 20), slice(59, 60), slice(0, 32)):
        assert np.array_equal(embed(*base, chips[part]), rows[part]), part


def test_they_are_the_models_own(
    built: tuple[BaseModel, BaseModelSettings], cast: tuple[list[bytes], list[str]], rows: NDArray[np.float32]
) -> None:
    model, settings = built
    image = decode(cast[0][7], settings)
    assert image.shape == (settings.input_size, settings.input_size, 3) and image.dtype == np.uint8
    with torch.inference_mode():
        alone = model(torch.tensor(image).permute(2, 0, 1)[None].float())[0].numpy()
    np.testing.assert_allclose(rows[7], alone, rtol=1e-3, atol=1e-4 * np.abs(alone).max())


def test_an_onnx_file_that_is_not_the_model_is_not_used(tmp_path: Path) -> None:
    class Fickle(torch.nn.Module):
        """Another network each time it is asked."""

        calls = 0

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return image.mean((2, 3)) * (-1) ** self.calls

    with pytest.raises(CastlineError, match="makes other embeddings than in PyTorch"):
        export_base(Fickle(), 8, tmp_path)


def test_no_chips_give_no_rows(base: tuple[OnnxModel, BaseModelSettings]) -> None:
    assert embed(*base, []).shape == (0, base[1].embedding_size)


@pytest.mark.parametrize("chip", [b"", b"<html></html>"])
def test_a_chip_that_is_none_is_said(base: tuple[OnnxModel, BaseModelSettings], chip: bytes) -> None:
    with pytest.raises(DataError, match="a chip cannot be decoded"):
        embed(*base, [chip])


def test_a_chip_cut_short_is_said(
    base: tuple[OnnxModel, BaseModelSettings], cast: tuple[list[bytes], list[str]]
) -> None:
    with pytest.raises(DataError, match="a chip cannot be decoded"):
        embed(*base, [cast[0][0], cast[0][1][:2000]])


@pytest.mark.parametrize("threads", ["1", "3"])
def test_rows_do_not_depend_on_the_number_of_threads(
    base: tuple[OnnxModel, BaseModelSettings],
    cast: tuple[list[bytes], list[str]],
    rows: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
    threads: str,
) -> None:
    monkeypatch.setenv("CASTLINE_THREADS", threads)
    assert np.array_equal(embed(*base, cast[0][:34]), rows[:34])


def test_crops_are_decoded_one_by_one(
    base: tuple[OnnxModel, BaseModelSettings], cast: tuple[list[bytes], list[str]]
) -> None:
    crops = Crops([*cast[0][:3], b"no picture"], base[1])
    assert len(crops) == 4 and len(crops[1:]) == 3
    assert np.array_equal(crops[1:][0], decode(cast[0][1], base[1]))
    with pytest.raises(DataError):
        crops[3]

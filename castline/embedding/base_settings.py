"""What a base model's entry in conf/base_model/ says. Light to import: composing params.yaml needs no torch."""

import re
from dataclasses import dataclass, field
from typing import Any

from castline.errors import ConfigError

__all__ = ["ONNX", "BaseModelSettings", "FeatureSettings", "LicenceSettings"]

ONNX = "model.onnx"  # the base model for ONNX Runtime, beside base.safetensors and base.json

_CHOICES: dict[str, tuple[str, ...]] = {
    "source": ("packaged", "timm", "hf_hub", "file"),
    "template": ("dlib", "arcface", "head"),
    "commercial_ok": ("yes", "no", "unknown"),
    "pool": ("", "flatten"),
    "metric": ("cosine", "euclidean"),
}
_NEEDED = {"packaged": ("package", "file", "sha256"), "timm": (), "hf_hub": ("repo", "file"), "file": ("sha256",)}
_NOT_OPTIONS = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}


@dataclass(frozen=True)
class BaseModelSettings:
    """The `base_model` section of params.yaml: which network, whose weights, and what it wants to see.

    name: for tables and model cards.
    source: where the weights come from. packaged, an installed Python package; timm, what timm itself fetches for the
    architecture; hf_hub, a file of a repository on the hub; file, one on disk or behind a URL.
    architecture: dlib_face_resnet, mobilefacenet, edgeface_*, or a timm name. options: what timm is told beside it.
    input_size: side of the square input, pixels.
    mean, std: three numbers, RGB, in units of 0..255; the network sees (image - mean) / std.
    template: how the input is cut from a chip, a key of castline.faces.align.TEMPLATES.
    embedding_size: numbers in an embedding; 0, as many as the network gives.
    licence: of the weights, SPDX or words. commercial_ok: yes, no or unknown.
    package: import name of the package (packaged). repo, revision: on the hub (hf_hub).
    file: below the package, in the repository, or a path on disk (file). url: fetched if there is no `file` (file).
    sha256: of the file, hex; on the hub it may be left out.
    metric: by which it was trained to compare two faces: cosine or euclidean; it tells the cast from strangers.
    tuned: set by training: the weights were tuned on faces of the cast.
    pool: nothing, the network's own way from feature maps to an embedding; or flatten, all numbers of the maps.

    Raises: ConfigError for a value that is not allowed.
    """

    name: str
    source: str
    architecture: str
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    template: str
    embedding_size: int
    licence: str
    commercial_ok: str
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    package: str = ""
    file: str = ""
    sha256: str = ""
    url: str = ""
    repo: str = ""
    revision: str = "main"
    pool: str = ""
    metric: str = "cosine"
    tuned: bool = False

    def __post_init__(self) -> None:
        for key, allowed in _CHOICES.items():
            if getattr(self, key) not in allowed:
                names = ", ".join(name or "''" for name in allowed)
                raise ConfigError(f"base_model.{key}={getattr(self, key)}, allowed are {names}")
        for key in ("mean", "std"):
            numbers = tuple(float(number) for number in getattr(self, key))  # YAML and JSON give lists
            if len(numbers) != 3 or (key == "std" and min(numbers) <= 0):
                raise ConfigError(f"base_model.{key}={list(numbers)}, wanted are three numbers, std above 0")
            object.__setattr__(self, key, numbers)
        if self.input_size < 1:
            raise ConfigError(f"base_model.input_size={self.input_size}, wanted is 1 or more")
        if self.embedding_size < 0:
            raise ConfigError(f"base_model.embedding_size={self.embedding_size}, wanted is 0 or more")
        self._check_network()
        self._check_source()

    def _check_network(self) -> None:
        """A network is created from its name without looking anywhere else, for a file on disk or on the hub."""
        if not re.fullmatch(r"\w+(\.\w+)?", self.architecture):
            raise ConfigError(
                f"base_model.architecture={self.architecture}, wanted is a name; repositories go to `repo`"
            )
        if found := _NOT_OPTIONS & self.options.keys():
            raise ConfigError(f"base_model.options.{min(found)} is not to be set: source says where weights are from")

    def _check_source(self) -> None:
        """An entry says all that its source needs, and nothing that would be passed over."""
        for key in _NEEDED[self.source]:
            if not getattr(self, key):
                raise ConfigError(f"base_model.{key} is empty, but source={self.source} needs it")
        if self.source == "file" and not (self.file or self.url):
            raise ConfigError("base_model.file and base_model.url are empty, but source=file needs one of them")
        if self.url and not self.url.startswith(("https://", "http://")):
            raise ConfigError(f"base_model.url={self.url}, wanted is https:// or http://; a path goes into `file`")
        if self.sha256 and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ConfigError(f"base_model.sha256={self.sha256}, wanted are 64 hex digits in lower case")
        if self.source == "timm" and self.sha256:
            raise ConfigError(
                "base_model.sha256 says nothing with source=timm, which chooses the file itself",
                "to pin it: source=hf_hub with repo, revision, file and sha256",
            )


@dataclass(frozen=True)
class LicenceSettings:
    """The `licence` section of params.yaml.

    require_commercial: refuse weights whose licence forbids commercial use, or leaves it open.
    """

    require_commercial: bool = False


@dataclass(frozen=True)
class FeatureSettings:
    """The `features` section of params.yaml, which composing fills in.

    folder: of build/, has the features that heads are trained on. embeddings, the reference model's, if the base model
    is the same network; or features, computed for it.
    batches: those that they are computed of; none in the first case.

    Raises: ConfigError for a value that is not allowed.
    """

    folder: str
    batches: list[str]

    def __post_init__(self) -> None:
        if self.folder not in ("embeddings", "features"):
            raise ConfigError(f"features.folder={self.folder}, allowed are embeddings, features")

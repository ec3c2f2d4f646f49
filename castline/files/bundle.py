"""A released model on disk: what is in the folder, and what is known of it.

models/recognizer/
    bundle.json          people, preprocessing, files with their measurements, provenance
    model.tflite         image → raw embedding (float32); model_fp16.tflite, model_int8.tflite the same, smaller
    model.onnx           image → raw embedding
    head.safetensors     raw embedding → embedding, scores: castline.scoring
    detector.tflite      where the faces are
    base.safetensors, base.json   the base model in PyTorch, to train on from
    memory.parquet       what is remembered of the faces; it stays with the team
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from castline.errors import BundleError
from castline.files.weights import sha256_of

__all__ = ["FOLDS", "FORMAT", "HEAD", "MEMORY", "Bundle", "BundledFile", "checked", "read_bundle", "write_bundle"]

FORMAT = 3
HEAD = "head.safetensors"
MEMORY = "memory.parquet"
FOLDS = "folds"  # beside the head in build/model: heads that do not know some of the people
_NAME = "bundle.json"


@dataclass(frozen=True)
class BundledFile:
    """One exported base model and what was measured of it, the head behind it, on the test split.

    file: name in the bundle's folder. sha256: hex. top1: share of test faces named right. agreement: share that it
    names as the model does, that is by features. cosine: the lowest between its embedding of a test face and the
    feature. latency_ms: median for one face on one thread of the machine that is named in the bundle. temperature: what
    makes its scores probabilities. threshold: below it a face is unknown; None where there was too little to fit it to.
    tpir: share of test faces that are named right and not unknown, with that threshold; None without one.
    """

    file: str
    sha256: str
    bytes: int
    top1: float
    agreement: float
    cosine: float
    latency_ms: float
    temperature: float = 1.0
    threshold: float | None = None
    tpir: float | None = None


@dataclass(frozen=True)
class Bundle:
    """What bundle.json says.

    people: names in the order of the scores. input_size, template: what is cut from a chip. head_sha256: of
    head.safetensors. unknown: by what a face is held against a file's threshold (by: similarity or confidence), the
    rate (fpir) of strangers that was to be named at most, and why there is no threshold (refusal), or "". detector,
    photos: the settings that the training photos were read with, so that new photos are
    read alike. provenance: base model and licence, data, commit, versions, machine.
    """

    people: tuple[str, ...]
    input_size: int
    template: str
    files: Mapping[str, BundledFile]
    head_sha256: str
    detector: Mapping[str, Any]
    photos: Mapping[str, Any]
    unknown: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write bundle.json."""
    text = json.dumps(asdict(bundle), indent=2, ensure_ascii=False)
    (folder / _NAME).write_text(text + "\n", encoding="utf-8")


def read_bundle(folder: Path) -> Bundle:
    """Read bundle.json and see that it can be used.

    Raises: BundleError saying what is wrong with the folder.
    """
    path = folder / _NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{path}: no bundle here", "dvc repro makes one in models/recognizer") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: {error}", "dvc checkout models/recognizer restores it") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else None
        raise BundleError(f"{path}: format {found}, this version of Castline reads {FORMAT}", "dvc repro export")
    try:
        files = {name: BundledFile(**file) for name, file in values["files"].items()}
        return Bundle(**{**values, "people": tuple(values["people"]), "files": files})
    except (AttributeError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: not as Castline writes it ({error})", "dvc repro export") from error


def checked(folder: Path, name: str, sha256: str) -> Path:
    """The path of a bundle's file, once it holds the bytes that bundle.json speaks of.

    Raises: BundleError when it is absent, was changed, or lies elsewhere.
    """
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise BundleError(f"{path}: listed in bundle.json, but not there", "dvc checkout models/recognizer")
    if sha256_of(path) != sha256:
        raise BundleError(f"{path}: not the file that bundle.json speaks of", "dvc checkout models/recognizer")
    return path

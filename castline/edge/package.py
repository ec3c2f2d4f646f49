"""A bundle packed for devices: one zip with one model file and what it needs, the same bytes for the same bundle."""

import hashlib
import shutil
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from castline.bundle import HEAD, Bundle, checked, read_bundle, write_bundle
from castline.edge.golden import write_golden
from castline.edge.manifest import MANIFEST, Manifest, Packed
from castline.errors import BundleError

__all__ = ["pack_release"]

_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can state


def pack_release(bundle: Path, target: Path, format: str, version: str) -> Path:
    """Write `target`/recognizer-VERSION.zip of the bundle in a folder, and say where it is.

    format: float32, float16 or int8. version: as castline.edge.manifest has it.

    Raises: BundleError when the bundle has no such file or was changed; ReleaseError when the version is not one;
    DataError when no face is found in the golden picture.
    """
    whole = read_bundle(bundle)
    if format not in whole.files or not whole.files[format].file.endswith(".tflite"):
        raise BundleError(f"{bundle}: there is no {format} file for devices", f"it has: {', '.join(whole.files)}")
    if not whole.detector.get("file"):
        raise BundleError(f"{bundle}: its detector {whole.detector.get('name')} has no file that can travel")
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
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"recognizer-{version}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in [(MANIFEST, manifest.json_bytes()), *contents.items()]:  # the manifest first
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

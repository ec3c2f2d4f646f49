"""Releases to try devices with: a base model of no use, made in a moment, behind real faces, detector and head."""

import hashlib
import io
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as tflite
from flatbuffers import Builder
from numpy.typing import NDArray
from PIL import Image
from sample_faces import sample_chips

from castline.edge.manifest import MANIFEST, Manifest, Packed
from castline.faces.align import crop
from castline.faces.detectors import detector_file
from castline.faces.settings import DetectorSettings
from castline.files.bundle import HEAD, Bundle, BundledFile, write_bundle
from castline.photos.settings import PhotoSettings
from castline.runtime.tflite import TFLiteModel
from castline.scoring import Scorer

_SIDE, _STEP, _FILTERS = 48, 12, 8
_SIZE = (_SIDE // _STEP) ** 2 * _FILTERS


def tiny_bundle(folder: Path, sample: Path, seed: int, people: int = 4, spare: int = 0) -> Path:
    """A bundle with a float32 file that knows some of the sample's cast by random filters over their faces.

    Another seed gives another model and another order of the people. spare: bytes that its model file has more.
    """
    folder.mkdir(parents=True)
    model = folder / "model.tflite"
    model.write_bytes(_tflite(seed) + bytes(spare))
    run = TFLiteModel(model)
    chips, names = sample_chips(sample, each=3)
    rows = [run(crop(Image.open(io.BytesIO(chip)), "dlib", _SIDE)) for chip in chips]
    raw = np.stack(rows) - np.mean(rows, 0)
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    cast = [str(name) for name in np.random.default_rng(seed).permutation(sorted(set(names)))[:people]]
    gallery = np.stack([raw[[name == person for name in names]].mean(0) for person in cast])
    scorer = Scorer(
        tuple(cast), {}, np.mean(rows, 0), np.ones(1, np.float32), 8 * gallery, np.zeros(people, np.float32),
        gallery=gallery + np.mean(rows, 0), normalised=True,
    )  # fmt: skip
    scorer.write(folder / HEAD)
    detector = detector_file(DetectorSettings())
    assert detector is not None
    shutil.copyfile(detector, folder / "detector.tflite")
    settings = asdict(DetectorSettings()) | {"file": "detector.tflite", "sha256": _sha256(folder / "detector.tflite")}
    measured = {"top1": 0.5, "agreement": 1.0, "cosine": 1.0, "latency_ms": 1.0, "threshold": 0.92}
    file = BundledFile(model.name, _sha256(model), model.stat().st_size, **measured)
    photos = asdict(PhotoSettings())
    unknown = {"by": "similarity"}
    write_bundle(
        Bundle(tuple(cast), _SIDE, "dlib", {"float32": file}, _sha256(folder / HEAD), settings, photos, unknown), folder
    )
    return folder


def rezip(path: Path, target: Path, changes: Mapping[str, bytes | None]) -> Path:
    """The same zip with other files in it, its manifest true of them. None: without that file."""
    files = contents_of(path)
    before = Manifest.parse(files.pop(MANIFEST))
    contents = {name: data for name, data in (files | changes).items() if data is not None}
    return write_zip(target, with_manifest(contents, before.version, before.model))


def fake_release(folder: Path, version: str, **contents: bytes) -> Path:
    """A release for what does not look into it: a few bytes in two files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"{name}.bin": data for name, data in ({"model": version.encode(), "head": b"1"} | contents).items()}
    return write_zip(folder / f"{version}.zip", with_manifest(files, version))


def with_manifest(contents: Mapping[str, bytes], version: str, model: str = "float32", **more: str) -> dict[str, bytes]:
    """The contents of a zip, and first of all a manifest that is true of them."""
    packed = {name: Packed(hashlib.sha256(data).hexdigest(), len(data)) for name, data in contents.items()}
    return {MANIFEST: Manifest(version, model, packed, **more).json_bytes()} | dict(contents)


def write_zip(target: Path, contents: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return target


def contents_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _tflite(seed: int) -> bytes:
    """image (1, 48, 48, 3) float32 → random filters over patches → embedding (1, 128)."""
    patches = (1, _SIDE // _STEP, _SIDE // _STEP, _FILTERS)
    filters = np.random.default_rng(seed).normal(0, 1 / 255, (_FILTERS, _STEP, _STEP, 3)).astype(np.float32)
    wanted: list[tuple[str, tuple[int, ...], NDArray[np.generic] | None]] = [
        ("image", (1, _SIDE, _SIDE, 3), None),
        ("filters", filters.shape, filters),
        ("bias", (_FILTERS,), np.zeros(_FILTERS, np.float32)),
        ("patches", patches, None),
        ("shape", (2,), np.array([1, _SIZE], np.int32)),
        ("embedding", (1, _SIZE), None),
    ]
    model, graph = tflite.ModelT(), tflite.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [tflite.BufferT()]
    graph.tensors, graph.inputs, graph.outputs = [], [0], [5]
    for name, shape, values in wanted:
        tensor, buffer = tflite.TensorT(), tflite.BufferT()
        tensor.name, tensor.shape, tensor.buffer = name, list(shape), 0
        tensor.type = tflite.TensorType.INT32 if name == "shape" else tflite.TensorType.FLOAT32
        if values is not None:
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
    conv, reshape = tflite.Conv2DOptionsT(), tflite.ReshapeOptionsT()
    conv.padding, conv.strideW, conv.strideH = tflite.Padding.VALID, _STEP, _STEP
    conv.dilationWFactor = conv.dilationHFactor = 1
    reshape.newShape = [1, _SIZE]
    graph.operators, model.operatorCodes = [], []
    options = tflite.BuiltinOptions
    for code, inputs, outputs, kind, values in (
        (tflite.BuiltinOperator.CONV_2D, [0, 1, 2], [3], options.Conv2DOptions, conv),
        (tflite.BuiltinOperator.RESHAPE, [3, 4], [5], options.ReshapeOptions, reshape),
    ):
        operator, opcode = tflite.OperatorT(), tflite.OperatorCodeT()
        opcode.builtinCode = opcode.deprecatedBuiltinCode = code
        opcode.version = 1
        operator.opcodeIndex, operator.inputs, operator.outputs = len(model.operatorCodes), inputs, outputs
        operator.builtinOptionsType, operator.builtinOptions = kind, values
        graph.operators.append(operator)
        model.operatorCodes.append(opcode)
    signature = tflite.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [_named("image", 0)], [_named("embedding", 5)]
    model.signatureDefs = [signature]
    builder = Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _named(name: str, index: int) -> "tflite.TensorMapT":
    made = tflite.TensorMapT()
    made.name, made.tensorIndex = name, index
    return made

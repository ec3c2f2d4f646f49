"""The model in; the bundle out: files for other runtimes, each let in only if it names the test faces as well."""

import platform
import shutil
import subprocess
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

import castline
from castline import params, tables
from castline.bundle import Bundle, BundledFile, write_bundle
from castline.errors import exits_cleanly
from castline.export.gate import FileReport, check, measure, table
from castline.export.onnx import OnnxModel
from castline.export.settings import ExportSettings
from castline.export.tflite import Exported, export
from castline.faces.detection import DetectorSettings
from castline.faces.detectors import detector_file
from castline.metrics import write_metrics
from castline.photos.batches import DataSettings
from castline.photos.decode import PhotoSettings
from castline.runtime.tflite import TFLiteModel
from castline.training import model
from castline.training.examples import Part, read_examples
from castline.training.features import Crops
from castline.weights import sha256_of

BUILD, BUNDLE = Path("build"), Path("models/recognizer")


@exits_cleanly
def main() -> None:
    settings = params.read("export", ExportSettings)
    batches = params.read("data", DataSettings).batches
    torch.set_num_threads(1)  # a head is small: threads would wait for each other
    trained, description = model.load(BUILD / "model")
    examples = read_examples(BUILD, batches)
    test, train = examples.part("test"), examples.part("train")
    chips = tables.read_many([BUILD / "faces" / f"{batch}.parquet" for batch in batches], ["chip"]).column("chip")

    def crops(part: Part) -> Crops:
        return Crops(chips.take(part.rows).to_pylist(), description.base)

    BUNDLE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUNDLE.parent) as name:
        folder = Path(name, BUNDLE.name)
        # Spread over the training faces, which stand person by person.
        spread = np.linspace(0, len(train) - 1, min(settings.calibration, len(train))).astype(int)
        faces = crops(train)
        exported = export(trained, np.stack([faces[i] for i in spread]), folder, list(settings.allowance))

        with torch.inference_mode():
            embeddings, scores = (output.numpy() for output in trained.finish(torch.from_numpy(test.features)))
        reports = {
            name: measure(opened(folder, files), crops(test), test.people, embeddings, scores)
            for name, files in exported.items()
        }
        kept = check(reports, settings)
        print(table(reports, settings))

        files = {name: described(folder, exported[name], reports[name]) for name in kept}
        for left_out in exported.keys() - set(kept):
            (folder / exported[left_out].file).unlink()
        if not any(file.head for file in files.values()):
            (folder / "head.tflite").unlink(missing_ok=True)
        for file in ("model.safetensors", "model.json"):
            shutil.copyfile(BUILD / "model" / file, folder / file)
        bundle = Bundle(
            people=description.people,
            input_size=description.base.input_size,
            template=description.base.template,
            files=files,
            detector=bundled_detector(folder),
            photos=asdict(params.read("photos", PhotoSettings)),
            provenance=provenance(description, test),
        )
        write_bundle(bundle, folder)
        shutil.rmtree(BUNDLE, ignore_errors=True)
        folder.replace(BUNDLE)
    measured = {name: {**vars(reports[name]), "bytes": file.bytes} for name, file in files.items()}
    write_metrics(Path("reports/export.json"), {name: stable(values) for name, values in measured.items()})


def opened(folder: Path, files: Exported) -> OnnxModel | TFLiteModel:
    """The file in the runtime that its users run it with, on one thread."""
    if files.file.endswith(".onnx"):
        return OnnxModel(folder / files.file)
    return TFLiteModel(folder / files.file, folder / files.head if files.head else None)


def described(folder: Path, files: Exported, report: FileReport) -> BundledFile:
    return BundledFile(
        file=files.file,
        head=files.head,
        sha256=sha256_of(folder / files.file),
        head_sha256=sha256_of(folder / files.head) if files.head else "",
        bytes=(folder / files.file).stat().st_size,
        top1=round(report.top1, 6),
        agreement=round(report.agreement, 6),
        cosine=round(report.cosine, 6),
        latency_ms=round(report.latency_ms, 3),
    )


def stable(values: dict[str, Any]) -> dict[str, Any]:
    """What of a report is the same on the next run: all but the latency, to six digits."""
    return {key: round(value, 6) for key, value in values.items() if key != "latency_ms"}


def bundled_detector(folder: Path) -> dict[str, Any]:
    """The detector's settings, its weight file taken along."""
    settings = params.read("detector", DetectorSettings)
    weights = detector_file(settings)
    if weights is None:
        return asdict(settings)
    target = folder / f"detector{weights.suffix}"
    shutil.copyfile(weights, target)
    return {**asdict(settings), "file": target.name, "sha256": sha256_of(target)}


def provenance(description: model.ModelDescription, test: Part) -> dict[str, Any]:
    """Where the model comes from, and on what its files were measured."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "base_model": asdict(description.base),
        "head": asdict(description.head),
        "dataset_sha256": sha256_of(BUILD / "dataset.parquet"),
        "git_commit": commit or None,
        "params": OmegaConf.to_container(OmegaConf.load("params.yaml")),
        "test_faces": len(test),
        "castline": castline.__version__,
        "versions": {name: version(name) for name in ("torch", "timm", "ai-edge-litert", "onnxruntime")},
        "machine": f"{platform.machine()} {platform.system()}, one thread",
    }


if __name__ == "__main__":
    main()

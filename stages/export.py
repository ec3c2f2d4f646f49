"""The model in; the bundle out: each file is let in only if it does on the test faces as PyTorch does."""

from castline.stage import stage

import json
import shutil
import subprocess
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import castline
from castline.evaluation.identification import Identification
from castline.evaluation.settings import OpenSetSettings
from castline.export.gate import FileReport, check, measure, table
from castline.export.settings import ExportSettings
from castline.faces.detectors import detector_file
from castline.faces.settings import DetectorSettings
from castline.files import params, tables
from castline.files.bundle import FOLDS, HEAD, MEMORY, Bundle, BundledFile, write_bundle
from castline.files.metrics import write_metrics
from castline.files.weights import sha256_of
from castline.photos.settings import PhotoSettings
from castline.scoring import Scorer
from castline.tracking.spool import tracked
from castline.training.memory import probed

BUILD, MODEL, CONVERTED = Path("build"), Path("build/model"), Path("build/converted")
BUNDLE = Path("models/recognizer")
AROUND = ("tracking", "orchestrator")  # sections that say who is told and where it runs: no part of what is made


@stage
@tracked("export", "reports/export.json")
def main() -> None:
    settings = params.read("export", ExportSettings)
    said = json.loads((CONVERTED / "converted.json").read_text(encoding="utf-8"))
    files = BUILD / "base" if said["taken_over"] else CONVERTED
    scorer = Scorer.read(MODEL / HEAD)
    memory = probed(tables.read(MODEL / MEMORY), tables.read(CONVERTED / "probes.parquet"), said["taken_over"])
    base = json.loads((MODEL / "base/base.json").read_text(encoding="utf-8"))
    unknown = params.read("open_set", OpenSetSettings)
    folds = [Scorer.read(path) for path in sorted((MODEL / FOLDS).glob("*.safetensors"))]

    reports = {}
    for name in said["files"]:
        by_file, by_pytorch = (
            Identification.of(memory, scorer, unknown, folds, not base["tuned"], column, among=name)
            for column in (name, "feature")
        )
        reports[name] = measure(by_file, by_pytorch, said["latency_ms"].get(name, 0.0))
    kept = check(reports, settings)
    print(table(reports, settings))
    for refusal in sorted({report.refusal for report in reports.values() if report.refusal}):
        print(f"no threshold, so everybody is named: {refusal}")

    BUNDLE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUNDLE.parent) as name:
        folder = Path(name, BUNDLE.name)
        folder.mkdir()
        for source in (MODEL / "base/base.safetensors", MODEL / "base/base.json", MODEL / HEAD):
            shutil.copyfile(source, folder / source.name)
        for format in kept:
            shutil.copyfile(files / said["files"][format], folder / said["files"][format])
        tables.write(folder / MEMORY, memory.schema, memory)
        bundle = Bundle(
            people=scorer.people,
            input_size=base["input_size"],
            template=base["template"],
            files={name: described(folder / said["files"][name], reports[name]) for name in kept},
            head_sha256=sha256_of(folder / HEAD),
            detector=bundled_detector(folder),
            photos=asdict(params.read("photos", PhotoSettings)),
            unknown={
                "by": unknown.by,
                "fpir": unknown.fpir,
                "refusal": next((report.refusal for report in reports.values()), ""),
            },
            provenance=provenance(base, scorer, max(report.faces for report in reports.values()), said),
        )
        write_bundle(bundle, folder)
        shutil.rmtree(BUNDLE, ignore_errors=True)
        folder.replace(BUNDLE)
    measured = {name: {**vars(reports[name]), "bytes": file.bytes} for name, file in bundle.files.items()}
    write_metrics(Path("reports/export.json"), {name: stable(values) for name, values in measured.items()})


def described(file: Path, report: FileReport) -> BundledFile:
    return BundledFile(
        file=file.name,
        sha256=sha256_of(file),
        bytes=file.stat().st_size,
        top1=round(report.top1, 6),
        agreement=round(report.agreement, 6),
        cosine=round(report.cosine, 6),
        latency_ms=round(report.latency_ms, 3),
        temperature=report.temperature,
        threshold=report.threshold,
        tpir=None if report.tpir is None else round(report.tpir, 6),
    )


def stable(values: dict[str, Any]) -> dict[str, Any]:
    """What of a report is the same on the next run, as far as it is known: all but the latency, to six digits."""
    return {
        key: round(value, 6) if isinstance(value, float) else value
        for key, value in values.items()
        if key != "latency_ms" and value not in (None, "")
    }


def bundled_detector(folder: Path) -> dict[str, Any]:
    """The detector's settings, its weight file taken along."""
    settings = params.read("detector", DetectorSettings)
    weights = detector_file(settings)
    if weights is None:
        return asdict(settings)
    target = folder / f"detector{weights.suffix}"
    shutil.copyfile(weights, target)
    return {**asdict(settings), "file": target.name, "sha256": sha256_of(target)}


def provenance(base: dict[str, Any], scorer: Scorer, test_faces: int, said: dict[str, Any]) -> dict[str, Any]:
    """Where the model comes from, and on what its files were measured."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "base_model": base,
        "head": dict(scorer.settings),
        "dataset_sha256": sha256_of(BUILD / "dataset.parquet"),
        "git_commit": commit or None,
        "params": {name: values for name, values in params.load().items() if name not in AROUND},
        "test_faces": test_faces,
        "int8": said["int8"],
        "castline": castline.__version__,
        "versions": {name: version(name) for name in ("torch", "timm", "ai-edge-litert", "onnxruntime")},
        "machine": said["machine"],
    }


if __name__ == "__main__":
    main()

"""Ways to eight bits: how much of a base model each keeps, how large and how quick it is.

    python benchmarks/int8.py PHOTOS                             # a folder of photos for each person
    python benchmarks/int8.py PHOTOS --base mobilenetv2 efficientnet_lite0

Ranges are taken from every tenth photo, and embeddings compared with PyTorch's on others: the mean cosine, their
common part taken off. Prints a table and appends to a CSV beside this file.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from record import command_line, record

from castline import machine
from castline.embedding.base_models import build
from castline.embedding.base_settings import ONNX, BaseModelSettings
from castline.embedding.crops import Crops
from castline.embedding.features import embed
from castline.embedding.onnx import export_base
from castline.embedding.onnx_model import OnnxModel
from castline.export.run import likeness, opened, run
from castline.export.settings import INT8_WAYS
from castline.export.tflite import export
from castline.faces.extract import extract
from castline.faces.settings import DetectorSettings
from castline.files import params
from castline.photos.batches import walk
from castline.photos.settings import PhotoSettings

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--base", nargs="+", default=["dlib_face_resnet", "efficientnet_lite0", "mobilenetv2"])
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "int8.csv", help="rows are appended")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        compare(options, Path(work))


def compare(options: argparse.Namespace, work: Path) -> None:
    command = command_line(options.photos)
    print(f"$ {command}\n\n{'base model':<20}{'way':<20}{'cosine':>8}{'MB':>7}{'ms':>7}{'made in s':>11}")
    chips = faces(options.photos)
    rows: list[tuple[str, str, str, object]] = []
    for name in options.base:
        values = OmegaConf.to_container(OmegaConf.load(ROOT / f"conf/base_model/{name}.yaml"))
        settings = params.typed(values, BaseModelSettings, "base_model")
        made = Path(work, name)
        made.mkdir()
        export_base(build(settings, "pretrained", 0), settings.input_size, made)
        reference = embed(OnnxModel(made / ONNX), settings, chips[1::2])
        calibration, probes = Crops(chips[::2], settings), Crops(chips[1::2], settings)
        for way in INT8_WAYS:
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                images = np.stack([calibration[i] for i in range(len(calibration))])
                file = Path(folder, export(made / ONNX, images, Path(folder), ["int8"], way)["int8"])
                seconds = time.perf_counter() - start
                raw, milliseconds = run(opened(file), [probes[i] for i in range(len(probes))])
                found = {"cosine": likeness(raw, reference), "megabytes": file.stat().st_size / 1e6}
            found |= {"ms": milliseconds, "seconds": seconds}
            print(f"{name:<20}{way:<20}{found['cosine']:>8.4f}{found['megabytes']:>7.1f}", end="")
            print(f"{milliseconds:>7.1f}{seconds:>11.1f}", flush=True)
            rows += [("int8", f"{name} {way}", measure, round(value, 4)) for measure, value in found.items()]
    record(options.csv, command, rows)


def faces(photos: Path) -> list[bytes]:
    """The best face of every fifth photo."""
    entries = [entry for entry in walk(photos) if not entry.problem][::5]
    detector = params.typed(OmegaConf.to_container(OmegaConf.load(ROOT / "conf/detector/blazeface.yaml")),
                            DetectorSettings, "detector")  # fmt: skip
    found = extract(entries, PhotoSettings(), detector, machine.workers())
    return [photo.faces[0]["chip"] for photo in found if photo.faces]


if __name__ == "__main__":
    main()

"""The base model in; files for other runtimes out, and what each of them makes of the test faces."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from castline import params, tables
from castline.bundle import read_bundle
from castline.embedding.base_settings import BaseModelSettings
from castline.embedding.crops import Crops
from castline.embedding.feature_tables import fingerprint
from castline.errors import exits_cleanly
from castline.export.run import opened, run
from castline.export.settings import ExportSettings
from castline.photos.batches import DataSettings

BUILD, CONVERTED = Path("build"), Path("build/converted")


@exits_cleanly
def main() -> None:
    settings = params.read("export", ExportSettings)
    batches = params.read("data", DataSettings).read
    base = BaseModelSettings(**json.loads((BUILD / "model/base/base.json").read_text(encoding="utf-8")))
    rows = tables.read(BUILD / "dataset.parquet", ["batch", "photo", "face", "kept", "split"])
    chips = tables.read_many([BUILD / "faces" / f"{batch}.parquet" for batch in batches], ["chip"]).column("chip")

    def crops(split: str) -> tuple[list[int], Crops]:
        chosen = [i for i, row in enumerate(rows.to_pylist()) if row["kept"] and row["split"] == split]
        return chosen, Crops(chips.take(pa.array(chosen, pa.int64())).to_pylist(), base)

    with tempfile.TemporaryDirectory(dir=BUILD) as name:
        folder = Path(name, CONVERTED.name)
        folder.mkdir()
        files = taken_over(folder, list(settings.allowance))
        how = "taken over" if files else "converted"
        if not files:
            files = converted(crops("train")[1], settings, folder)
        test, faces = crops("test")
        columns = {key: rows.column(key).take(pa.array(test, pa.int64())) for key in ("batch", "photo", "face")}
        latencies = {}
        for format, file in files.items():
            raw = np.zeros((0, base.embedding_size), np.float32)
            if test:
                raw, latencies[format] = run(opened(folder / file), faces)
            columns[format] = pa.FixedSizeListArray.from_arrays(pa.array(raw.ravel()), base.embedding_size)
        schema = tables.probes_schema(base.embedding_size, list(files))
        tables.write(folder / "probes.parquet", schema, columns)
        said = {"files": files, "latency_ms": latencies, "taken_over": how == "taken over"}
        (folder / "converted.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(CONVERTED, ignore_errors=True)
        folder.replace(CONVERTED)
    print(f"{', '.join(files)}: {how}, run on {len(test)} test faces")


def taken_over(folder: Path, formats: list[str]) -> dict[str, str]:
    """The files of the version that training started from, if its base model is still the one in use."""
    start = BUILD / "base"
    if not (start / "bundle.json").is_file() or fingerprint(start) != fingerprint(BUILD / "model/base"):
        return {}
    known = read_bundle(start).files
    if not set(formats) <= known.keys():
        return {}
    for format in formats:
        shutil.copyfile(start / known[format].file, folder / known[format].file)
    return {format: known[format].file for format in formats}


def converted(faces: Crops, settings: ExportSettings, folder: Path) -> dict[str, str]:
    import torch

    from castline.embedding import base_models
    from castline.export.tflite import export

    torch.set_num_threads(1)
    # Spread over the training faces, which stand person by person.
    spread = np.linspace(0, len(faces) - 1, min(settings.calibration, len(faces))).astype(int)
    base, _ = base_models.load(BUILD / "model/base")
    return export(base, np.stack([faces[i] for i in spread]), folder, list(settings.allowance))


if __name__ == "__main__":
    main()

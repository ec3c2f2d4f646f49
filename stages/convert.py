"""The base model in; files for other runtimes out, and what each of them makes of the faces that it is measured on."""

from castline.stage import stage

import json
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from castline.embedding.base_settings import ONNX, BaseModelSettings
from castline.embedding.crops import Crops
from castline.embedding.feature_tables import fingerprint
from castline.export.run import likeness, opened, run
from castline.export.settings import ExportSettings
from castline.files import params, tables
from castline.files.bundle import MEMORY, read_bundle
from castline.photos.batches import DataSettings
from castline.training.memory import to_probe

BUILD, BASE, CONVERTED = Path("build"), Path("build/base"), Path("build/converted")
KEY = ["batch", "photo", "face"]
TIMED = 20


@stage
def main() -> None:
    settings = params.read("export", ExportSettings)
    batches = params.read("data", DataSettings).read
    base = BaseModelSettings(**json.loads((BUILD / "model/base/base.json").read_text(encoding="utf-8")))
    memory = tables.read(BUILD / "model" / MEMORY)
    rows = memory.take(pa.array(to_probe(memory, batches, settings.probes), pa.int64()))
    probes = crops(rows, batches, base)

    with tempfile.TemporaryDirectory(dir=BUILD) as name:
        folder = Path(name, CONVERTED.name)
        folder.mkdir()
        said = taken_over(settings) or converted(folder, settings, calibrating(batches, base), rows, probes)
        files = BASE if said["taken_over"] else folder
        columns, latencies = {key: rows.column(key) for key in KEY}, {}
        for format, file in said["files"].items():
            raw = tables.matrix(rows, "feature").reshape(len(rows), base.embedding_size)
            if len(rows) and format != "onnx":
                raw, latencies[format] = run(opened(files / file), probes)
            elif len(rows) and not said["taken_over"]:  # features were made with it: it is only timed
                _, latencies[format] = run(opened(files / file), probes[:TIMED])
            columns[format] = pa.FixedSizeListArray.from_arrays(pa.array(raw.ravel()), base.embedding_size)
        schema = tables.probes_schema(base.embedding_size, list(said["files"]))
        tables.write(folder / "probes.parquet", schema, columns)
        # What a version says of its files holds where they are taken over: how long they take, and on what machine.
        machine = f"{platform.machine()} {platform.system()}, one thread"
        text = json.dumps({"latency_ms": latencies, "machine": machine, **said}, indent=2)
        (folder / "converted.json").write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(CONVERTED, ignore_errors=True)
        folder.replace(CONVERTED)
    how = "taken over" if said["taken_over"] else "converted"
    print(f"{', '.join(said['files'])}: {how}, run on {len(rows)} faces")


def crops(rows: pa.Table, batches: list[str], base: BaseModelSettings) -> Crops:
    """What the base model sees of the faces that `rows` name."""
    faces = tables.read_many([BUILD / "faces" / f"{batch}.parquet" for batch in batches], [*KEY, "chip"])
    place = {tuple(row.values()): i for i, row in enumerate(faces.select(KEY).to_pylist())}
    chosen = [place[tuple(row.values())] for row in rows.select(KEY).to_pylist()]
    return Crops(faces.column("chip").take(pa.array(chosen, pa.int64())).to_pylist(), base)


def calibrating(batches: list[str], base: BaseModelSettings) -> Crops:
    """The training faces."""
    rows = tables.read(BUILD / "dataset.parquet", [*KEY, "kept", "split"])
    train = [i for i, row in enumerate(rows.to_pylist()) if row["kept"] and row["split"] == "train"]
    return crops(rows.take(pa.array(train, pa.int64())), batches, base)


def taken_over(settings: ExportSettings) -> dict[str, Any]:
    """The files of the version that training started from, in its folder, if its base model is still the one in use."""
    if not (BASE / "bundle.json").is_file() or fingerprint(BASE) != fingerprint(BUILD / "model/base"):
        return {}
    bundle = read_bundle(BASE)
    if not settings.allowance.keys() <= bundle.files.keys():
        return {}
    files = {format: bundle.files[format] for format in settings.allowance}
    return {
        "files": {format: file.file for format, file in files.items()},
        "latency_ms": {format: file.latency_ms for format, file in files.items()},
        "machine": bundle.provenance.get("machine"),
        "int8": bundle.provenance.get("int8"),
        "taken_over": True,
    }


def converted(folder: Path, settings: ExportSettings, train: Crops, rows: pa.Table, probes: Crops) -> dict[str, Any]:
    """Files made anew; the int8 file the first way that is good enough, else the best one."""
    from castline.export.tflite import export

    base = BUILD / "model/base" / ONNX
    # Spread over the training faces, which stand person by person.
    spread = np.linspace(0, len(train) - 1, min(settings.calibration, len(train))).astype(int)
    images = np.stack([train[i] for i in spread])
    reference = tables.matrix(rows, "feature")
    watched = np.flatnonzero([split == "val" for split in rows.column("split").to_pylist()])

    def alike(file: str) -> float:
        """To PyTorch, on validation faces: test faces are not chosen by."""
        raw, _ = run(opened(folder / file), [probes[i] for i in watched])
        return round(likeness(raw, reference[watched]), 4)

    first, *others = settings.int8
    files = export(base, images, folder, list(settings.allowance), first)
    if "int8" not in files or not len(watched):
        return {"files": files, "int8": {"way": first}, "taken_over": False}
    tried = {first: alike(files["int8"])}
    for way in others:
        if max(tried.values()) >= settings.int8_cosine:
            break
        export(base, images, folder, ["int8"], way)
        tried[way] = alike(files["int8"])
    best = max(tried, key=tried.__getitem__)
    if best != list(tried)[-1]:
        export(base, images, folder, ["int8"], best)
    return {"files": files, "int8": {"way": best, "cosines": tried}, "taken_over": False}


if __name__ == "__main__":
    main()

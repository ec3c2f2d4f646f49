"""How well an embedding tells people apart: accuracy over the pairs of LFW's development test (View 1).

    python benchmarks/lfw.py FOLDER                # FOLDER/photos/PERSON/PERSON_0001.jpg, FOLDER/pairsDevTest.txt
    python benchmarks/lfw.py FOLDER --base-model efficientnet_lite0 --detector yunet

The threshold is chosen on one half of the pairs and scored on the other, both ways. Photos without a face count as
errors. The file format is LFW's: http://vis-www.cs.umass.edu/lfw/README.txt
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from record import record
from tqdm import tqdm

from castline import machine
from castline.embedding.base_models import build
from castline.embedding.base_settings import ONNX, BaseModelSettings
from castline.embedding.features import embed
from castline.embedding.onnx import export_base
from castline.embedding.onnx_model import OnnxModel
from castline.evaluation.measures import verification_roc
from castline.faces.extract import extract
from castline.faces.settings import DetectorSettings
from castline.files import params
from castline.photos.batches import Entry
from castline.photos.settings import PhotoSettings

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base-model", default="dlib_face_resnet", help="an entry of conf/base_model")
    parser.add_argument("--detector", default="blazeface", help="an entry of conf/detector")
    parser.add_argument("--detector-file", default="", help="weight file of a detector that no package carries")
    options = parser.parse_args()
    base = choice("base_model", options.base_model, BaseModelSettings)
    values = OmegaConf.load(ROOT / f"conf/detector/{options.detector}.yaml")
    if options.detector_file:
        values.file = options.detector_file
    detector = params.typed(OmegaConf.to_container(values), DetectorSettings, "detector")

    pairs, absent = read_pairs(options.folder)
    names = sorted({name for a, b, _ in pairs for name in (a, b)})
    entries = [Entry(name, options.folder / "photos" / name) for name in names]
    chips = {}
    results = extract(entries, PhotoSettings(), detector, machine.workers())
    for name, found in zip(names, tqdm(results, "faces", len(names), unit="photo", disable=None), strict=True):
        if found.faces:
            # LFW's photos are centred on the person they are named for.
            row = min(found.faces, key=lambda face: np.hypot(*(centre(face["box"]) - half(face))))
            chips[name] = row["chip"]
    with tempfile.TemporaryDirectory() as folder:
        export_base(build(base, "pretrained", 0), base.input_size, Path(folder))
        raw = embed(OnnxModel(Path(folder, ONNX)), base, list(chips.values()))
    place = {name: i for i, name in enumerate(chips)}

    distance, same, missed = [], [], 0
    for a, b, is_same in pairs:
        if a in place and b in place:
            distance.append(np.linalg.norm(raw[place[a]] - raw[place[b]]))
            same.append(is_same)
        else:
            missed += 1
    accuracy = two_fold(np.array(distance), np.array(same), missed)
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    people = {person: i for i, person in enumerate(sorted({name.split("/")[0] for name in place}))}
    roc = verification_roc(np.array([people[name.split("/")[0]] for name in place]), unit)
    print(
        f"{options.base_model} with {options.detector}: {len(names)} photos, {len(names) - len(chips)} without a face"
    )
    print(f"{len(pairs)} pairs ({absent} more name a photo that is not there), {missed} with a photo without a face")
    print(f"accuracy {accuracy:.4f}; AUC over all pairs of photos {roc.auc:.4f}")
    chosen = f"--base-model {options.base_model} --detector {options.detector}"
    command = f"python benchmarks/lfw.py {options.folder.name} {chosen}"
    rows = [("accuracy", round(accuracy, 4)), ("auc", round(roc.auc, 4)), ("pairs", len(pairs)), ("missed", missed)]
    record(ROOT / "benchmarks" / "lfw.csv", command, [("lfw", options.base_model, *row) for row in rows])


def choice(group: str, name: str, settings: type) -> object:
    values = OmegaConf.to_container(OmegaConf.load(ROOT / f"conf/{group}/{name}.yaml"))
    return params.typed(values, settings, group)


def centre(box: np.ndarray) -> np.ndarray:
    return (np.asarray(box)[:2] + np.asarray(box)[2:]) / 2


def half(face: dict) -> np.ndarray:
    return np.array([face["photo_width"], face["photo_height"]]) / 2


def read_pairs(folder: Path) -> tuple[list[tuple[str, str, bool]], int]:
    """Pairs of photos and whether they show one person; and how many name a photo that is not in the folder."""
    found = []
    for line in (folder / "pairsDevTest.txt").read_text().splitlines()[1:]:
        match line.split():
            case [person, first, second]:
                found.append((photo(person, first), photo(person, second), True))
            case [one, first, other, second]:
                found.append((photo(one, first), photo(other, second), False))
    there = [pair for pair in found if all((folder / "photos" / name).is_file() for name in pair[:2])]
    return there, len(found) - len(there)


def photo(person: str, number: str) -> str:
    return f"{person}/{person}_{int(number):04}.jpg"


def two_fold(distance: np.ndarray, same: np.ndarray, missed: int) -> float:
    """Accuracy with the threshold of each half applied to the other; pairs that could not be compared are wrong."""
    fold, right = np.arange(len(same)) % 2, 0
    for held_out in (0, 1):
        train, test = fold != held_out, fold == held_out
        order = np.sort(distance[train])
        cuts = np.concatenate([[0], (order[1:] + order[:-1]) / 2])
        accuracies = [((distance[train] < cut) == same[train]).mean() for cut in cuts]
        cut = cuts[int(np.argmax(accuracies))]
        right += int(((distance[test] < cut) == same[test]).sum())
    return right / (len(same) + missed)


if __name__ == "__main__":
    main()

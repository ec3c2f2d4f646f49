"""The dataset and features in; a model that names its people out, its memory, and the curves of how it got there."""

from castline.stage import stage

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from castline.embedding.augment_settings import AugmentationSettings
from castline.embedding.base_settings import ONNX, FeatureSettings
from castline.embedding.feature_tables import check_made_by
from castline.embedding.onnx_model import OnnxModel
from castline.errors import ConfigError
from castline.files import params, tables
from castline.files.bundle import FOLDS, HEAD, MEMORY
from castline.photos.batches import DataSettings
from castline.scoring import Scorer
from castline.tracking.spool import tracked
from castline.training import memory
from castline.training.examples import Examples, Part, read_examples
from castline.training.fit import Fitted, fit_head, write_curves
from castline.training.folds import folds, on_random_split, without
from castline.training.gallery import with_gallery
from castline.training.heads import Head, head_of, new_head
from castline.training.incremental import extended, joined
from castline.training.settings import HeadSettings, TrainerSettings, TrainingSettings

BASE, MODEL = Path("build/base"), Path("build/model")


@stage
@tracked("train", "reports/curves.csv")
def main() -> None:
    settings = params.read("training", TrainingSettings)
    head_settings = params.read("head", HeadSettings)
    batches = params.read("data", DataSettings).read
    tables_of = Path("build", params.read("features", FeatureSettings).folder)
    features = [tables_of / f"{batch}.parquet" for batch in batches]
    examples = read_examples(Path("build/dataset.parquet"), features)
    check_made_by(BASE, features)

    if settings.mode == "incremental":
        known = tables.read(BASE / MEMORY)
        before = Scorer.read(BASE / HEAD)
        examples, head, train, val = taken_up(examples, before, known, head_settings)
    else:
        known = before = None
        train, val = examples.part("train"), examples.part("val")
        head = new_head(head_settings, train, len(examples.people), settings.seed)
    if settings.tune == "head":
        fitted = fit_head(head, train, val, settings)
        MODEL.joinpath("base").mkdir(parents=True, exist_ok=True)
        for file in ("base.safetensors", "base.json", ONNX):
            shutil.copyfile(BASE / file, MODEL / "base" / file)
    else:
        fitted, examples = tuned(head, examples, batches, settings)
    parts = [examples.part(split, plain=True) for split in ("train", "val", "test")]
    counts = memory.trained_on(known) if known is not None else {}
    metric = json.loads((MODEL / "base/base.json").read_text(encoding="utf-8"))["metric"]
    with_gallery(head.scorer(examples.people), parts[0], metric, before, counts).write(MODEL / HEAD)

    remembered = memory.memory_of(
        tables.read(Path("build/dataset.parquet")), parts[0], [*parts[1:], examples.strangers()], settings.exemplars
    )
    if known is not None:
        remembered = memory.join(known, remembered)
    tables.write(MODEL / MEMORY, remembered.schema, remembered)

    (MODEL / FOLDS).mkdir(parents=True, exist_ok=True)
    if settings.tune == "head":
        shorter = replace(settings, epochs=fitted.best + 1)
        for number, fold in enumerate(folds(examples.people, settings.folds)):
            scorer = without(fold, examples.people, head_settings, train, val, shorter)
            scorer.write(MODEL / FOLDS / f"{number}.safetensors")
        if settings.folds and settings.mode == "full":
            found = on_random_split(examples, head_settings, shorter)
            (MODEL / FOLDS / "random_split.json").write_text(json.dumps(found) + "\n", encoding="utf-8")

    runs = {named(head_settings): fitted}
    for dropout in settings.beside:
        beside = replace(head_settings, dropout=dropout)
        other = new_head(beside, train, len(examples.people), settings.seed)
        runs[named(beside)] = fit_head(other, train, val, settings)
    write_curves(Path("reports/curves.csv"), runs)
    summary(examples, train, val, fitted, settings.base_pace)


def taken_up(
    examples: Examples, scorer: Scorer, known: "tables.pa.Table", settings: HeadSettings
) -> tuple[Examples, Head, Part, Part]:
    """The version's head with the new people in it, and the faces to go on with: new ones, and those it remembers."""
    if HeadSettings(**scorer.settings) != settings:
        raise ConfigError(
            f"head is {settings}, but the version to go on from has {HeadSettings(**scorer.settings)}",
            "choose the same head, or train anew: -S training=full",
        )
    newcomers = sorted(set(examples.people) - set(scorer.people))
    examples = replace(examples, people=(*scorer.people, *newcomers))
    remembered, new = memory.part_of(known, "train", examples.people), examples.part("train")
    longer = extended(scorer, newcomers, remembered, new, memory.trained_on(known))
    train = joined(remembered, new)
    val = joined(memory.part_of(known, "val", examples.people), examples.part("val"))
    print(f"{len(scorer.people)} people known by {len(remembered)} remembered faces, {len(newcomers)} new ones")
    return examples, head_of(longer), train, val


def tuned(head: Head, examples: Examples, batches: list[str], settings: TrainingSettings) -> tuple[Fitted, Examples]:
    """More than the head, tuned on the faces themselves; the examples with the features that they then have."""
    from castline.embedding import base_models
    from castline.embedding.features import embed
    from castline.embedding.onnx import export_base
    from castline.training.finetune import Faces, fine_tune

    base, base_settings = base_models.load(BASE)
    chips = tables.read_many([Path(f"build/faces/{batch}.parquet") for batch in batches], ["chip"]).column("chip")
    parts = {split: examples.part(split, plain=True) for split in ("train", "val", "test")}
    parts["strangers"] = examples.strangers()
    faces = {split: Faces(chips.take(part.rows).to_pylist(), part.people) for split, part in parts.items()}
    trainer = params.read("trainer", TrainerSettings)
    augmentation = params.read("augmentation", AugmentationSettings)
    checkpoints = Path("build/checkpoints")
    if settings.start != "scratch":
        # First the head alone, on the features that are there: a base model that follows the gradients of a head that
        # knows nothing yet unlearns (Kumar et al., Fine-tuning can distort pretrained features, 2022).
        alone = TrainingSettings(seed=settings.seed, balanced=settings.balanced)
        fit_head(head, examples.part("train"), examples.part("val"), alone)
    fitted = fine_tune(
        base, head, faces["train"], faces["val"], base_settings, settings, trainer, augmentation, checkpoints
    )
    base_settings = replace(base_settings, tuned=True)
    base_models.save(base, base_settings, MODEL / "base")
    export_base(base, base_settings.input_size, MODEL / "base")
    model = OnnxModel(MODEL / "base" / ONNX)
    features = np.zeros((len(examples.dataset), base_settings.embedding_size), np.float32)
    for split, part in parts.items():
        features[part.rows] = embed(model, base_settings, faces[split].chips, title=f"features, {split}")
    return fitted, replace(examples, features=features, views=None)


def named(head: HeadSettings) -> str:
    return f"dropout={head.dropout:g}" if head.kind == "softmax" else head.kind


def summary(examples: Examples, train: Part, val: Part, fitted: Fitted, pace: float) -> None:
    best = fitted.history[fitted.best]
    epoch = int(best["epoch"]) + 1
    print(f"{len(train)} faces of {len(examples.people)} people, {len(val)} to stop by")
    print(
        (f"kept epoch {epoch}" if epoch else "kept what it started from, better than any")
        + f" of {int(fitted.history[-1]['epoch']) + 1}: "
        + ", ".join(f"{name} {value:.4f}" for name, value in sorted(best.items()) if name != "epoch")
    )
    if not epoch:
        print(f"next: other steps of the base model, training.base_pace is {pace:g}: docs/training.md")


if __name__ == "__main__":
    main()

"""The dataset's features in; a model that names its people out, and the curves of how it got there."""

from pathlib import Path

import torch

from castline import params
from castline.errors import exits_cleanly
from castline.photos.batches import DataSettings
from castline.training import base_models, model
from castline.training.examples import read_examples
from castline.training.fit import fit_head, write_curves
from castline.training.heads import build_head
from castline.training.settings import HeadSettings, TrainerSettings, TrainingSettings


@exits_cleanly
def main() -> None:
    settings = params.read("training", TrainingSettings)
    head_settings = params.read("head", HeadSettings)
    torch.set_num_threads(1)  # a head is small: threads would wait for each other

    examples = read_examples(Path("build"), params.read("data", DataSettings).batches)
    train, val = examples.part("train"), examples.part("val")
    base, base_settings = base_models.load(Path("build/base"))
    torch.manual_seed(settings.seed)
    head = build_head(head_settings, base_settings.embedding_size, len(examples.people))
    head.fit_input(torch.from_numpy(train.features))

    fitted = fit_head(head, train, val, settings, params.read("trainer", TrainerSettings))
    write_curves(Path("reports/curves.csv"), fitted)
    description = model.ModelDescription(base_settings, head_settings, examples.people)
    model.save(Path("build/model"), model.FaceModel(base, head), description)

    best = fitted.history[fitted.best_epoch]
    print(f"{len(train)} faces of {len(examples.people)} people, {len(val)} to stop by")
    print(
        f"kept epoch {fitted.best_epoch + 1} of {len(fitted.history)}: "
        + ", ".join(f"{name} {value:.4f}" for name, value in best.items() if name != "epoch")
    )


if __name__ == "__main__":
    main()

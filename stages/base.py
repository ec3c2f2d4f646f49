"""A base model, resolved in one place: which network, whose weights, licensed how.

python stages/base.py reference    what curation judges faces by  → build/reference
python stages/base.py base         where training starts          → build/base
"""

import sys
from pathlib import Path

from castline import params
from castline.errors import exits_cleanly
from castline.training.base_models import build, save
from castline.training.base_settings import BaseModelSettings
from castline.training.settings import TrainingSettings


@exits_cleanly
def main(role: str) -> None:
    start, seed = "pretrained", 0
    if role == "base":
        training = params.read("training", TrainingSettings)
        start, seed = training.start, training.seed
    settings = params.read("reference_model" if role == "reference" else "base_model", BaseModelSettings)
    save(build(settings, start, seed), settings, Path("build", role))
    weights = f"{settings.licence}; commercial use: {settings.commercial_ok}" if start == "pretrained" else "random"
    print(f"{role}: {settings.name}, weights {weights}")


if __name__ == "__main__":
    main(sys.argv[1])

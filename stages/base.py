"""A base model, resolved in one place: which network, whose weights, licensed how.

python stages/base.py reference    what curation judges faces by  → build/reference
python stages/base.py base         where training starts          → build/base, build/seen.parquet
"""

import sys
from pathlib import Path

from castline import params, released, tables
from castline.bundle import read_bundle
from castline.errors import ConfigError, exits_cleanly
from castline.training.base_settings import BaseModelSettings
from castline.training.memory import seen_in
from castline.training.settings import TrainingSettings

BASE, SEEN = Path("build/base"), Path("build/seen.parquet")


@exits_cleanly
def main(role: str) -> None:
    if role == "reference":
        built(role, params.read("reference_model", BaseModelSettings), "pretrained", 0)
        return
    training = params.read("training", TrainingSettings)
    settings = params.read("base_model", BaseModelSettings)
    seen = tables.DATASET.empty_table()
    if training.version:
        released.fetch(training.start, BASE)
        name = read_bundle(BASE).provenance["base_model"]["name"]
        if name != settings.name:
            raise ConfigError(
                f"base_model is {settings.name}, but {training.start} has {name}", f"-S base_model={name}"
            )
        print(f"base: {name} as {training.start} has it")
        if training.mode == "incremental":
            seen = seen_in(BASE)
    else:
        built(role, settings, training.start, training.seed)
    tables.write(SEEN, seen.schema, seen)


def built(role: str, settings: BaseModelSettings, start: str, seed: int) -> None:
    from castline.training.base_models import build, save

    save(build(settings, start, seed), settings, Path("build", role))
    weights = f"{settings.licence}; commercial use: {settings.commercial_ok}" if start == "pretrained" else "random"
    print(f"{role}: {settings.name}, weights {weights}")


if __name__ == "__main__":
    main(sys.argv[1])

"""A base model, resolved in one place: which network, whose weights, licensed how.

python stages/base.py reference    what curation judges faces by  → build/reference
python stages/base.py base         where training starts          → build/base, build/seen.parquet
"""

from castline.stage import stage

import json
import sys
from pathlib import Path

from castline import released
from castline.embedding.base_settings import ONNX, BaseModelSettings, LicenceSettings
from castline.embedding.entries import check_licence
from castline.errors import ConfigError
from castline.files import params, tables
from castline.files.bundle import MEMORY, read_bundle
from castline.forgetting.register import ForgottenSettings, read_register
from castline.training.settings import TrainingSettings
from castline.training.unlearn import unlearn

BUILD = Path("build")


@stage
def main(role: str) -> None:
    section = "reference_model" if role == "reference" else "base_model"
    settings = params.read(section, BaseModelSettings)
    training = params.read("training", TrainingSettings) if role == "base" else TrainingSettings()
    if training.start == "scratch":
        print(f"{role}: {settings.name}, weights random")
    else:
        check_licence(section, settings, params.read("licence", LicenceSettings))
        print(f"{role}: {settings.name}, weights {settings.licence}; commercial use: {settings.commercial_ok}")
        if settings.commercial_ok == "no":
            print(f"warning: the licence of {settings.name} forbids commercial use, of what is trained from it too")
    if training.version:
        register = read_register()
        register.check(params.read("forgotten", ForgottenSettings))
        released.fetch(training.start, BUILD / role)
        people, faces = unlearn(BUILD / role, register)
        if people or faces:
            print(f"{training.start}: {people} people and {faces} faces are forgotten, and taken out of it")
            if json.loads((BUILD / role / "base.json").read_text(encoding="utf-8")).get("tuned"):
                print(
                    "warning: its base model was tuned on their faces too: -S training.start=pretrained starts without"
                )
        name = read_bundle(BUILD / role).provenance["base_model"]["name"]
        if name != settings.name:
            raise ConfigError(
                f"base_model is {settings.name}, but {training.start} has {name}", f"-S base_model={name}"
            )
        if not (BUILD / role / ONNX).exists():  # it was released without
            from castline.embedding.base_models import load
            from castline.embedding.onnx import export_base

            model, described = load(BUILD / role)
            export_base(model, described.input_size, BUILD / role)
    else:
        from castline.embedding.base_models import build, save
        from castline.embedding.onnx import export_base

        model = build(settings, training.start, training.seed)
        save(model, settings, BUILD / role)
        export_base(model, settings.input_size, BUILD / role)
    if role == "base":
        seen = tables.SEEN.empty_table()
        if training.mode == "incremental":  # what the version's dataset was, without its features
            seen = tables.read(BUILD / role / MEMORY, tables.SEEN.names)
        tables.write(BUILD / "seen.parquet", tables.SEEN, seen)


if __name__ == "__main__":
    main(sys.argv[1])

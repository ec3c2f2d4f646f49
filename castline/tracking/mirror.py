"""MLflow's registry, as git's tags have it: a version for each, an alias for each stage. Git is right, MLflow follows.

    recognizer          the TFLite file with all it needs: pictures in, named people out (castline.tracking.pictures)
    recognizer-onnx     the ONNX file: aligned faces in, raw embeddings out

A version in MLflow is one of git's by its tag `gto_tag`; its number there means nothing. Nothing is ever removed but
the alias of a stage that holds no version any more.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import castline
from castline import released
from castline.edge.package import program
from castline.errors import BundleError, CastlineError, DataError
from castline.files.bundle import HEAD, checked, read_bundle
from castline.text import short
from castline.tracking.deliver import facts_tags, log_facts
from castline.tracking.settings import TrackingSettings, chosen
from castline.tracking.store import Store, find_run, opened
from castline.versions.facts import facts_at
from castline.versions.git import read_blob
from castline.versions.tags import Registry, Version, read_registry, tag_of

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["alias_of", "check", "mirror", "tell"]

_CARD = "MODEL_CARD.md"


def tell() -> None:
    """After a release or a change of stages: bring MLflow up to date, if it is chosen.

    Whatever fails is said in a line, and `castline track sync` does it later.
    """
    settings = chosen()
    if settings.kind == "none":
        return
    try:
        for line in mirror(settings):
            print(f"MLflow: {line}")
    except Exception as error:  # of MLflow or its server: any
        said = error.what if isinstance(error, CastlineError) else f"{type(error).__name__}: {error}"
        print(f"MLflow: {' '.join(said.split())[:300]}; castline track sync does it later")


def mirror(settings: TrackingSettings, uri: str = "") -> list[str]:
    """Register the versions that MLflow lacks, newest last, and move its aliases; what was done, a line each.

    A version whose files are not to be had is left out.

    Raises: CastlineError when MLflow is away.
    """
    registry, done = read_registry(), []
    with opened(replace(settings, uri=uri or settings.uri)) as store:
        sides = _sides(store, settings.model)
        for version in reversed(registry.versions.values()):
            wanted = [side for side in sides if version.tag not in side.versions]
            if wanted:
                try:
                    done += _register(store, settings, version, wanted)
                except DataError as error:  # its files are gone, which is no reason to keep the others out
                    done.append(f"{version.name} is not registered: {error.what}")
        for side in _sides(store, settings.model):
            for stage in registry.stages:
                held, alias = registry.holds(stage), alias_of(stage)
                number = side.number(held)
                if number is not None and side.aliases.get(alias) != number:
                    store.client.set_registered_model_alias(side.name, alias, number)
                    done.append(f"{side.name}: @{alias} → {held}")
                elif held is None and alias in side.aliases:
                    store.client.delete_registered_model_alias(side.name, alias)
                    done.append(f"{side.name}: @{alias} removed, no version is in {stage}")
    return done


def check(settings: TrackingSettings) -> list[str]:
    """Where MLflow differs from git, a line each.

    Raises: CastlineError when MLflow is away.
    """
    registry = read_registry()
    with opened(settings) as store:
        return [line for side in _sides(store, settings.model) for line in _differences(registry, side)]


def _differences(registry: Registry, side: "_Side") -> Iterator[str]:
    for version in registry.versions.values():
        there = side.versions.get(version.tag)
        if there is None:
            yield f"{side.name}: {version.name} is missing"
            continue
        for key, value in _tags(version).items():
            if there.tags.get(key, "") != value:
                yield (
                    f"{side.name}: {version.name} has another {key} (version {there.version}: "
                    f"{short(str(there.tags.get(key, 'none')), 60)}, git: {value})"
                )
    known = {version.tag for version in registry.versions.values()}
    for other in side.others:
        tag = other.tags.get("gto_tag")
        if tag is None:
            yield f"{side.name}: version {other.version} is none of git's"
        elif tag in known:
            yield f"{side.name}: version {other.version} is {short(tag)} once more"
    for tag, there in side.versions.items():
        if tag not in known:
            yield f"{side.name}: version {there.version} is {short(tag)}, which git does not have, or has taken back"
    numbers = {str(there.version): tag for tag, there in side.versions.items()}
    stages = {alias_of(stage): stage for stage in registry.stages}
    for alias in sorted({*side.aliases, *stages}):
        held = registry.holds(stages[alias]) if alias in stages else None
        number = side.aliases.get(alias)
        has = numbers.get(number, f"version {number}").removeprefix(tag_of("")) if number else None
        if alias not in stages:
            yield f"{side.name}: @{alias} is no stage of git's; it is at {has}"
        elif held != has:
            yield f"{side.name}: @{alias} is at {has or 'no version'}, git has {held or 'none'} in {stages[alias]}"


@dataclass(frozen=True)
class _Side:
    """A registered model. versions: by the tag in git. others: without one, or of a tag that another has."""

    name: str
    fill: Callable[[Path, Path], None]
    versions: Mapping[str, "ModelVersion"]
    others: list["ModelVersion"]
    aliases: Mapping[str, str]

    def number(self, version: str | None) -> str | None:
        """MLflow's number of a version of git's; None where it has none."""
        there = self.versions.get(tag_of(version)) if version else None
        return str(there.version) if there else None


def _sides(store: Store, name: str) -> list[_Side]:
    from mlflow.exceptions import MlflowException

    sides = []
    for called, fill in ((name, _pictures), (f"{name}-onnx", _onnx)):
        versions: dict[str, ModelVersion] = {}
        others = []
        for found in sorted(_all(store, called), key=lambda one: int(one.version)):
            tag = found.tags.get("gto_tag")
            if tag is None or tag in versions:
                others.append(found)
            else:
                versions[tag] = found
        try:
            aliases = {key: str(at) for key, at in store.client.get_registered_model(called).aliases.items()}
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            aliases = {}
        sides.append(_Side(called, fill, versions, others, aliases))
    return sides


def _all(store: Store, name: str) -> Iterator["ModelVersion"]:
    token: str | None = ""
    while token is not None:
        page = store.client.search_model_versions(f"name = '{name}'", page_token=token or None)
        yield from page
        token = page.token or None


def _register(store: Store, settings: TrackingSettings, version: Version, sides: list[_Side]) -> list[str]:
    """Files first, then the version with its tags at once: one that is there is whole."""
    from mlflow.exceptions import MlflowException

    facts, time = facts_at(version.commit), version.date * 1000
    experiment, tags = store.experiment(settings.experiment), facts_tags(facts)
    run = find_run(store.client, experiment, "dvc.lock.train", tags.get("dvc.lock.train", "none"))
    run = run or store.run(experiment, f"version {version.tag}", version.tag, time)
    log_facts(store, run, facts, {**tags, "gto_tag": version.tag}, time)
    done = []
    with _bundle(version) as bundle, tempfile.TemporaryDirectory() as work:
        if card := read_blob(version.commit, _CARD):
            Path(work, _CARD).write_bytes(card)
            store.client.log_artifact(run.info.run_id, str(Path(work, _CARD)), f"models/{version.name}")
        for side in sides:
            made = Path(work, side.name)
            try:
                side.fill(bundle, made)
            except BundleError as error:
                done.append(f"{side.name}: {version.name} is not registered: {error.what}")
                continue
            place = f"models/{version.name}/{side.name}"
            store.client.log_artifacts(run.info.run_id, str(made), place)
            try:
                store.client.create_registered_model(side.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            store.client.create_model_version(
                side.name,
                f"{run.info.artifact_uri}/{place}",
                run.info.run_id,
                _tags(version),
                description=f"{version.name}, of commit {version.commit[:7]}",
                await_creation_for=0,
            )
            done.append(f"{side.name}: {version.name} registered")
    return done


def _tags(version: Version) -> dict[str, str]:
    md5 = facts_at(version.commit).bundle_md5 or ""
    return {"gto_tag": version.tag, "git_rev": version.commit, "dvc_md5": md5}


def alias_of(stage: str) -> str:
    """A stage's name as MLflow takes it for an alias: without a /, not like a number of a version, and not `latest`.

    One that had to be changed ends in a hash of what it was, so no two become one.

    >>> alias_of("prod"), alias_of("eu/prod"), alias_of("v1")
    ('prod', 'eu-prod-eff723', 'v1-3bfc26')
    """
    if "/" not in stage and not re.fullmatch(r"v\d+|latest", stage, re.IGNORECASE):
        return stage
    return f"{stage.replace('/', '-')}-{hashlib.sha256(stage.encode()).hexdigest()[:6]}"


@contextmanager
def _bundle(version: Version) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        released.fetch(version.tag, Path(folder, "bundle"))
        yield Path(folder, "bundle")


def _onnx(bundle: Path, made: Path) -> None:
    """The ONNX file as a model of MLflow's, with what goes in and comes out."""
    import onnx
    from mlflow import onnx as flavour

    whole = read_bundle(bundle)
    if "onnx" not in whole.files:
        raise BundleError("the bundle has no ONNX file")
    model = onnx.load(str(checked(bundle, whole.files["onnx"].file, whole.files["onnx"].sha256)))
    flavour.save_model(
        model, str(made), signature=_signature(model), pip_requirements=_pins("onnxruntime", "numpy"),
        save_as_external_data=False, onnx_execution_providers=["CPUExecutionProvider"],
    )  # fmt: skip


def _signature(model: Any) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs, outputs = (
        Schema(
            [
                TensorSpec(
                    np.dtype("float32"), (-1, *(d.dim_value for d in one.type.tensor_type.shape.dim[1:])), one.name
                )
                for one in ends
            ]
        )
        for ends in (model.graph.input, model.graph.output)
    )
    return ModelSignature(inputs, outputs)


def _pictures(bundle: Path, made: Path) -> None:
    """What a device gets of the bundle, and the code that runs it, as a model of MLflow's: code and data, no pickle."""
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    whole = read_bundle(bundle)
    file = next((whole.files[name] for name in ("float32", "float16", "int8") if name in whole.files), None)
    if file is None:
        raise BundleError("the bundle has no TFLite file")
    with tempfile.TemporaryDirectory() as work:
        taken, code = Path(work, "bundle"), Path(work, "castline")
        taken.mkdir()
        shutil.copyfile(bundle / "bundle.json", taken / "bundle.json")
        wanted = [(file.file, file.sha256), (HEAD, whole.head_sha256)]
        if whole.detector.get("file"):
            wanted.append((whole.detector["file"], whole.detector["sha256"]))
        for name, sha256 in wanted:
            shutil.copyfile(checked(bundle, name, sha256), taken / name)
        home = Path(castline.__file__).parent
        for path in program():
            target = code / path.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        pyfunc.save_model(
            str(made),
            python_model=str(Path(__file__).with_name("pictures.py")),
            artifacts={"bundle": str(taken)},
            code_paths=[str(code)],
            signature=ModelSignature(Schema([ColSpec(DataType.binary, "image")])),
            pip_requirements=_pins("ai-edge-litert", "numpy", "pillow"),
        )


def _pins(*packages: str) -> list[str]:
    return [f"{package}=={installed(package)}" for package in packages]

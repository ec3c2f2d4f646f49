"""What a training job is made of: stages to run, the objects of the DVC remote that they read, and a commit's code.

Sent are `train`, and of `features` those that would run again. Whatever comes before needs photos, or weights that this
machine has and a job has not, so it has to be up to date here. No photo is among what a job reads.
"""

import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from castline import project
from castline.cloud.sagemaker_settings import Work
from castline.embedding.augment_settings import AugmentationSettings
from castline.errors import ConfigError, DataError
from castline.files import params
from castline.photos.batches import DataSettings
from castline.sharing import object_path
from castline.training.settings import TrainerSettings, TrainingSettings
from castline.versions.git import check_root, git

__all__ = ["JOB", "MOVABLE", "RESULT", "Plan", "plan", "write_source"]

JOB, RESULT = "job.json", "result.json"  # what a job is told, and what it tells
MOVABLE = ("features", "train")
_PARAMS, _LOCK = Path("params.yaml"), Path("dvc.lock")
_CODE = ("castline", "stages", "dvc.yaml", ".dvcignore", "requirements.lock")
# The SDK writes hyper-parameters into a shell script, between single quotes that it does not escape.
_PLAIN_KEY, _PLAIN = (
    re.compile(r"[A-Za-z][\w-]{0,63}", re.ASCII),
    re.compile(r"[\w .,:;/@+=\[\]{}\"()-]{0,255}", re.ASCII),
)


@dataclass(frozen=True)
class Plan:
    """A job, before it is known where it is to run.

    commit: 40 hex digits. stages: in the order that they run in. params: the text of params.yaml. before: the SHA-256
    of it as it was before overrides. inputs: by path, the MD5 that DVC has of what stages read and do not make
    themselves. objects: names of the cache's objects that these consist of.
    """

    commit: str
    stages: tuple[str, ...]
    params: str
    before: str
    inputs: Mapping[str, str]
    objects: tuple[str, ...]
    work: Work
    trainer: TrainerSettings

    @property
    def key(self) -> str:
        """The same for jobs that do the same: 16 hex digits. Code apart: checkpoints know theirs."""
        return digest(json.dumps([self.stages, self.params, dict(self.inputs)], sort_keys=True).encode())[:16]

    def spec(self) -> dict[str, Any]:
        """What the job is told, as JSON has it."""
        told = ("commit", "stages", "params", "before", "inputs", "objects")
        return {name: value for name, value in asdict(self).items() if name in told}

    def hyperparameters(self) -> dict[str, str]:
        """Settings for SageMaker's console. params.yaml is what counts, so odd ones may be absent."""
        values = yaml.load(self.params, yaml.CSafeLoader)
        shown = {"base_model": {"name": values["base_model"]["name"]}}
        shown |= {section: values[section] for section in ("augmentation", "head", "trainer", "training")}
        flat = {
            f"{section}-{key}": value if isinstance(value, str) else json.dumps(value)
            for section, inner in shown.items()
            for key, value in inner.items()
        }
        return {key: text for key, text in flat.items() if _PLAIN_KEY.fullmatch(key) and _PLAIN.fullmatch(text)}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def plan(overrides: list[str]) -> Plan:
    """Look what there is to train with these overrides of Hydra's; params.yaml is as it was afterwards.

    Raises: ConfigError; DataError when something is not committed, not up to date, or not there.
    """
    project.check_in_project()
    check_root()
    changed = git("status", "--porcelain", "--untracked-files=no").splitlines()
    # Of code also what git does not know: DVC's hashes of folders would have it, and a job would not.
    changed += git("status", "--porcelain", "--untracked-files=all", "--", *_CODE).splitlines()
    if changed:
        raise DataError(f"not committed: {changed[0][3:]}; a job runs what a commit has", "git add, git commit -a")
    commit = git("rev-parse", "HEAD").strip()
    with _composed(overrides) as before:
        stages, inputs, objects = _needed()
        training = params.read("training", TrainingSettings)
        faces = sum(_rows(Path(f"build/faces/{batch}.parquet")) for batch in params.read("data", DataSettings).read)
        views = params.read("augmentation", AugmentationSettings).views if len(stages) > 1 else 0
        tuned = training.tune != "head"
        # A head is fitted once more for each fold, for the random split, and for each that is trained beside it.
        fits = 1 if tuned else 2 + training.folds + len(training.beside)
        work = Work(str(params.load()["base_model"]["name"]), faces, training.epochs * fits, tuned, views)
        return Plan(
            commit,
            tuple(stages),
            _PARAMS.read_text(encoding="utf-8"),
            before,
            inputs,
            tuple(sorted(objects)),
            work,
            params.read("trainer", TrainerSettings),
        )


def write_source(job: Plan, path: Path) -> None:
    """The source of a job, a .tar.gz: the commit's code, params.yaml, dvc.lock, job.json and requirements.txt.

    Raises: CastlineError when git has not all of it.
    """
    tracked = [name for name in _CODE if git("ls-files", "--", name)]
    if "requirements.lock" not in tracked:
        raise DataError("requirements.lock is not in git: a job installs its versions", "git add requirements.lock")
    archive = subprocess.run(
        ["git", "archive", "--format=tar", job.commit, "--", *tracked], capture_output=True, check=True
    ).stdout
    files = {
        "params.yaml": job.params.encode(),
        "dvc.lock": _LOCK.read_bytes(),
        JOB: json.dumps(job.spec(), indent=1).encode(),
        "requirements.txt": resources.files(__package__).joinpath("sagemaker-requirements.txt").read_bytes(),
    }
    with tarfile.open(fileobj=io.BytesIO(archive)) as code, tarfile.open(path, "w:gz") as source:
        for member in code:
            if member.isfile():
                source.addfile(member, code.extractfile(member))
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            source.addfile(member, io.BytesIO(data))


@contextmanager
def _composed(overrides: list[str]) -> Iterator[str]:
    """params.yaml with overrides, for a while; the SHA-256 of it without."""
    before = _PARAMS.read_bytes() if _PARAMS.is_file() else b""
    try:
        if overrides:
            project.compose(overrides)
        yield digest(before)
    finally:
        if overrides:
            _PARAMS.write_bytes(before)


def _needed() -> tuple[list[str], dict[str, str], set[str]]:
    """Which stages are to be sent, what they read by path and MD5, and the objects of that."""
    import networkx
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo, repo.lock:
            graph = repo.index.graph  # from each stage to those whose outputs it reads
            train = next((stage for stage in graph if stage.addressing == "train"), None)
            if train is None:
                raise ConfigError("dvc.yaml has no stage `train`")
            above = networkx.descendants(graph, train) | {train}
            stale = {stage for stage in above if _is_stale(stage)}
            stale |= {stage for stage in above if stale & networkx.descendants(graph, stage)}
            here = sorted(stage.addressing for stage in stale if stage.addressing.partition("@")[0] not in MOVABLE)
            if here:
                raise DataError(
                    f"not up to date: {', '.join(here[:5])}; a job can only train",
                    f"castline compose with the same settings, dvc repro {here[0]}, git commit -a, dvc push",
                )
            if train not in stale:
                raise DataError("train is up to date: there is nothing to train", "-S head.dropout=0.5, for example")
            order = [stage for stage in networkx.dfs_postorder_nodes(graph, train) if stage in stale]
            made = {out.fs_path for stage in order for out in stage.outs}
            cache = Path(repo.cache.local.path)
            inputs, objects = {}, set()
            reads = {dep.fs_path for stage in order for dep in stage.deps}
            for stage in above - stale:
                for out in stage.outs:
                    path = Path(out.fs_path)
                    if out.fs_path not in made and any(
                        path == Path(read) or Path(read) in path.parents or path in Path(read).parents for read in reads
                    ):
                        inputs[out.def_path] = out.hash_info.value
                        objects |= _objects(cache, out.def_path, out.hash_info.value)
            return [stage.addressing for stage in order], dict(sorted(inputs.items())), objects
    except DvcException as error:
        raise DataError(f"the project cannot be read: {error}", "dvc status") from error


def _is_stale(stage: Any) -> bool:
    """Whether it would run again, as far as can be told: of photos that are not on this machine it is not asked."""
    if any(not out.hash_info for out in stage.outs):
        return True
    for found in stage.status(check_updates=False).get(stage.addressing, []):
        if isinstance(found, str) or any(how != "deleted" for how in next(iter(found.values())).values()):
            return True
    return False


def _objects(cache: Path, path: str, oid: str) -> set[str]:
    """The object of an output; of a folder, its listing and what that lists."""
    place = object_path(cache, oid)
    if not place.is_file():
        raise DataError(f"{path} is not in DVC's cache here", f"dvc fetch {path}")
    if not oid.endswith(".dir"):
        return {oid}
    return {oid} | {str(entry["md5"]) for entry in json.loads(place.read_bytes())}


def _rows(table: Path) -> int:
    from pyarrow import parquet

    return int(parquet.read_metadata(table).num_rows) if table.is_file() else 0

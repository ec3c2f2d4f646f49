"""What a training job left, back into DVC as if it had been trained here.

It comes from outside: names in the archive, what entries and listings say, and every byte are looked at before anything
is put anywhere, and what does not fit the present project changes nothing in it.
"""

import io
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from castline import lock, project
from castline.cloud.aws import clients, said
from castline.cloud.sagemaker_plan import MOVABLE, RESULT, digest
from castline.errors import DataError
from castline.sharing import md5, object_path

__all__ = ["fetch", "take"]

_PARAMS, _LOCK = Path("params.yaml"), Path("dvc.lock")
_OBJECT = re.compile(r"objects/([0-9a-f]{2})/([0-9a-f]{30}(?:\.dir)?)")
_COMMIT, _OID = re.compile(r"[0-9a-f]{12}"), re.compile(r"[0-9a-f]{32}(\.dir)?")
_LARGEST = 16 << 30  # bytes unpacked; a model and its tables are a hundredth of it
_TOLD = 64 << 20  # bytes of result.json


def fetch(model: str, region: str) -> list[str]:
    """Take in what is at an S3 URI, a model.tar.gz; the stages that it is of.

    Raises: CastlineError; the project then is as it was.
    """
    bucket, _, key = model.removeprefix("s3://").partition("/")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tar.gz")
        with said(model):
            clients(region or None, "s3")[0]["s3"].download_file(bucket, key, str(path))
        return take(path)


def take(archive: Path) -> list[str]:
    """Take in what a job left in its model folder, packed; the stages that it is of.

    Raises: DataError when it is damaged, or not of this project as it is now; the project then is as it was.
    """
    project.check_in_project()
    with tempfile.TemporaryDirectory(prefix=".castline-job-", dir=".dvc") as folder:
        unpacked = Path(folder)
        _unpack(archive, unpacked)
        try:
            result = json.loads((unpacked / RESULT).read_bytes())
            commit, stages = str(result["commit"])[:12], [str(stage) for stage in result["stages"]]
            entries, params, before = result["entries"], str(result["params"]), str(result["before"])
            if not _COMMIT.fullmatch(commit):
                raise ValueError("no commit")
            if sorted(entries) != sorted(stages) or not all(stage.partition("@")[0] in MOVABLE for stage in stages):
                raise ValueError("stages that are not sent")
            outs = {stage: {str(out["path"]): str(out["md5"]) for out in entries[stage]["outs"]} for stage in stages}
            needed = {oid for of_stage in outs.values() for oid in of_stage.values()}
            for oid in list(needed):
                if oid.endswith(".dir"):
                    needed |= _listed(object_path(unpacked / "objects", _checked(oid)))
            missing = [oid for oid in needed if not object_path(unpacked / "objects", _checked(oid)).is_file()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"what the job left cannot be used: {error!r}", "send it again") from error
        if missing:
            raise DataError(f"{len(missing)} objects are missing in what the job left", "send it again")
        present = digest(_PARAMS.read_bytes()) if _PARAMS.is_file() else ""
        if present not in (before, digest(params.encode())):
            raise DataError(
                f"params.yaml is another than when the job was sent, from commit {commit}",
                f"git restore --source {commit} params.yaml, or: git switch --detach {commit}",
            )
        _settle(entries, outs, params, unpacked / "objects", needed, commit)
    return stages


def _unpack(archive: Path, target: Path) -> None:
    """Only what a job may leave, each object with the bytes that its name says."""
    total = 0
    try:
        with tarfile.open(archive, "r|gz") as members:
            for member in members:
                name = member.name.removeprefix("./")
                if member.isdir():
                    continue
                found, told = _OBJECT.fullmatch(name), name == RESULT
                if not member.isreg() or not (found or told) or (told and member.size > _TOLD):
                    raise DataError(
                        f"the job left {name!r}, which no job of ours leaves", "look at who may write there"
                    )
                total += member.size
                if total > _LARGEST:
                    raise DataError(f"the job left more than {_LARGEST >> 30} GB", "look at who may write there")
                path = object_path(target / "objects", found[1] + found[2]) if found else target / RESULT
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    shutil.copyfileobj(members.extractfile(member) or io.BytesIO(), file)
                if found and md5(path) != (found[1] + found[2]).removesuffix(".dir"):
                    raise DataError(f"{name} is not what its name says: it was damaged", "fetch it again")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"what the job left cannot be unpacked: {error}", "fetch it again") from error


def _checked(oid: str) -> str:
    if not _OID.fullmatch(oid):
        raise ValueError(f"{oid!r} is no object")
    return oid


def _listed(listing: Path) -> set[str]:
    """The objects of a folder. Raises: ValueError for a name that leads out of it."""
    found = set()
    for entry in json.loads(listing.read_bytes()):
        path = PurePosixPath(entry["relpath"])
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in str(path):
            raise ValueError(f"{entry['relpath']!r} in a folder")
        found.add(_checked(str(entry["md5"])))
    return found


def _settle(
    entries: lock.Entries,
    outs: Mapping[str, Mapping[str, str]],
    params: str,
    objects: Path,
    needed: set[str],
    commit: str,
) -> None:
    """Put it in its place, and see that DVC finds nothing to do; or put all back."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    saved: dict[Path, bytes | None] = {path: _bytes(path) for path in (_PARAMS, _LOCK)}
    moved: list[str] = []
    checked_out = False
    try:
        _PARAMS.write_text(params, encoding="utf-8")
        with Repo() as repo:
            stages = {stage.addressing: stage for stage in repo.index.stages if stage.addressing in outs}
            _check_fits(stages, entries, outs, commit)
            cache = Path(repo.cache.local.path)
            for oid in needed:
                _keep(object_path(objects, oid), object_path(cache, oid))
            for out in [out for stage in stages.values() for out in stage.outs]:
                path = Path(out.def_path)
                if out.use_cache:
                    moved.append(out.def_path)
                else:
                    saved[path] = _bytes(path)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(object_path(objects, outs[out.stage.addressing][out.def_path]), path)
        lock.merge([entries])
        with Repo() as repo:
            checked_out = True
            repo.checkout(targets=moved)
            with repo.lock:
                for stage in repo.index.stages:
                    if stage.addressing in outs:
                        if found := stage.status(check_updates=False).get(stage.addressing):
                            raise _unfit(commit, f"{stage.addressing}: {json.dumps(found)[:300]}")
                        repo.stage_cache.save(stage)  # its run, as if it had been here
    except BaseException as error:
        for path, data in saved.items():
            path.unlink(missing_ok=True) if data is None else path.write_bytes(data)
        if checked_out:
            _check_out_again(moved)
        if isinstance(error, DvcException):
            raise DataError(f"the model could not be put in its place: {error}", "dvc status; dvc checkout") from error
        raise


def _check_out_again(outs: list[str]) -> None:
    """As dvc.lock has them by now: what was there was in the cache, else DVC would not have touched it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with suppress(DvcException), Repo() as repo:
        repo.checkout(targets=outs, force=True)


def _check_fits(
    stages: Mapping[str, Any], entries: lock.Entries, outs: Mapping[str, Mapping[str, str]], commit: str
) -> None:
    """Whether the stages here are those that ran there, on the same code, settings and data."""
    made = {path for of_stage in outs.values() for path in of_stage}
    for name, entry in entries.items():
        stage = stages.get(name)
        if stage is None or stage.cmd != entry.get("cmd") or set(outs[name]) != {out.def_path for out in stage.outs}:
            raise _unfit(commit, f"stage {name} is another here")
        read = {str(dep["path"]): dep.get("md5") for dep in entry.get("deps", ())}
        for dep in stage.deps:
            if hasattr(dep, "read_params"):
                if dep.read_params() != entry.get("params", {}).get(dep.def_path):
                    raise _unfit(commit, f"the settings of {name} are others here")
            elif not any(path == dep.def_path or path.startswith(f"{dep.def_path}/") for path in made):
                here = dep.get_hash() if dep.exists else None
                if here is None or here.value != read.get(dep.def_path):
                    raise _unfit(commit, f"{dep.def_path} is another here")


def _unfit(commit: str, why: str) -> DataError:
    return DataError(
        f"the job was sent from commit {commit}, which the present state does not fit: {why}",
        f"git switch --detach {commit}, then fetch it again",
    )


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _keep(source: Path, target: Path) -> None:
    """An object into the cache, whole or not at all, write-protected as DVC has it there."""
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.castline")
    shutil.copyfile(source, unfinished)
    unfinished.chmod(0o444)
    unfinished.replace(target)

"""A training job, inside: `python -m castline.cloud.sagemaker_job`, in the folder that the source was unpacked into.

It lays the objects that came with it into a DVC cache of its own, has DVC check the inputs out and run the stages, and
leaves in SM_MODEL_DIR what the project takes back: result.json and objects/. State between epochs is written to
/opt/ml/checkpoints, which SageMaker copies to S3 while the job runs, and back before another like it begins.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from castline import lock
from castline.errors import CastlineError, DataError
from castline.sharing import md5, object_path

__all__ = ["main"]

CACHE, CHECKPOINTS = Path(".dvc/cache/files/md5"), Path("build/checkpoints")


class Stopped(Exception):
    """SageMaker has said that it takes the machine back: two minutes are left."""


def main() -> int:
    """The exit code; what went wrong is in /opt/ml/output/failure too, whose beginning SageMaker shows."""
    base = Path(os.environ["SM_MODEL_DIR"]).parent
    signal.signal(signal.SIGTERM, _stopped)
    try:
        _run(json.loads(Path("job.json").read_bytes()), base)
    except Stopped:
        for unfinished in (base / "checkpoints").glob("*.part"):
            unfinished.unlink()
        _failed(base, "stopped by SageMaker; a job like this goes on after the last epoch that was finished")
        return 128 + signal.SIGTERM
    except CastlineError as error:
        _failed(base, str(error))
        return 1
    return 0


def _run(job: dict[str, Any], base: Path) -> None:
    _lay_out(Path(os.environ["SM_CHANNEL_OBJECTS"]), set(job["objects"]))
    checkpoints = base / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    CHECKPOINTS.parent.mkdir(exist_ok=True)
    CHECKPOINTS.unlink(missing_ok=True)
    CHECKPOINTS.symlink_to(checkpoints, target_is_directory=True)
    Path(".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n")
    _dvc("checkout", *job["inputs"])
    for stage in job["stages"]:
        _dvc("repro", "--single-item", stage)
    _hand_over(job, Path(os.environ["SM_MODEL_DIR"]))


def _lay_out(channel: Path, wanted: set[str]) -> None:
    """Objects into DVC's cache, each by what is in it: how SageMaker names the files of a manifest does not matter."""
    names = {oid.removesuffix(".dir"): oid for oid in wanted}
    for path in sorted(channel.rglob("*")):
        if path.is_file() and (oid := names.pop(md5(path), None)):
            place = object_path(CACHE, oid)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
            place.chmod(0o444)
    if names:
        raise DataError(f"{len(names)} of {len(wanted)} objects did not come whole", "castline share check; dvc push")


def _dvc(*words: str) -> None:
    """A command of DVC's, in a session of its own, so that it can be stopped with all that it has started.

    Raises: CastlineError when it fails; Stopped.
    """
    environment = os.environ | {
        "PYTHONPATH": str(Path.cwd()),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "DVC_NO_ANALYTICS": "1",
    }
    print(f"dvc {' '.join(words[:6])}", flush=True)
    process = subprocess.Popen([sys.executable, "-m", "dvc", *words], env=environment, start_new_session=True)
    try:
        code = process.wait()
    except Stopped:
        os.killpg(process.pid, signal.SIGKILL)  # what it writes, it writes whole or not at all
        process.wait()
        raise
    if code:
        raise CastlineError(f"dvc {words[0]} ended with {code}; the job's log says why")


def _hand_over(job: dict[str, Any], target: Path) -> None:
    """What the project takes back: the entries of dvc.lock and the objects that these name."""
    entries = lock.entries(job["stages"])
    for entry in entries.values():
        for out in entry["outs"]:
            place = object_path(CACHE, out["md5"])
            _copy(place if place.is_file() else Path(out["path"]), out["md5"], target)
            if out["md5"].endswith(".dir"):
                for file in json.loads(place.read_bytes()):
                    _copy(object_path(CACHE, file["md5"]), file["md5"], target)
    told = {name: job[name] for name in ("commit", "params", "before", "stages")}
    target.joinpath("result.json").write_text(json.dumps(told | {"entries": entries}, indent=1), encoding="utf-8")


def _copy(path: Path, oid: str, target: Path) -> None:
    place = object_path(target / "objects", oid)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, place)


def _failed(base: Path, why: str) -> None:
    print(f"error: {why}", file=sys.stderr, flush=True)
    (base / "output").mkdir(exist_ok=True)
    (base / "output/failure").write_text(why[:1000], encoding="utf-8")


def _stopped(number: int, frame: FrameType | None) -> None:
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())

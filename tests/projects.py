"""Projects of their own for tests: what git would bring along, in a folder where stages may run."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from configobj import ConfigObj

ROOT = Path(__file__).parents[1]
PEOPLE = ("alma", "bruno", "chidi", "edda")
TREE = (
    "conf",
    "labels",
    "hydra_plugins",
    "stages",
    "castline",
    ".dvc",
    "dvc.yaml",
    "params.yaml",
    "data.dvc",
    ".gitignore",
    ".dvcignore",
)


def make_project(folder: Path) -> Path:
    """The project without its sample, as a git repository."""
    for name in TREE:
        copy(ROOT / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, made by the first process that asks for it; others wait. It is read by tests and never written."""
    done = folder.with_suffix(".done")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


def with_runs_of(ran: Path, folder: Path) -> Path:
    """The project in `folder` knows what stages made in the project `ran`: with the same inputs they do not run."""
    return shutil.copytree(ran / ".dvc/cache", folder / ".dvc/cache")


def copy(source: Path, target: Path) -> None:
    """What git would bring along: no caches, no temporary files."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        return
    for path in source.iterdir():
        if path.name not in ("__pycache__", "cache", "tmp", "config.local"):
            copy(path, target / path.name)


def lighter(folder: Path, formats: tuple[str, ...] = ("onnx",), **training: object) -> None:
    """Settings that cost less: only some files exported, of which nothing is asked; and others for training."""
    allowance = {name: {"top1": 100.0, "tpir": 100.0, "person": 100.0} for name in formats}
    changes = {"export/default": {"allowance": allowance}, "training/full": training}
    for name, settings in changes.items():
        file = folder / "conf" / f"{name}.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | settings))


def cast(folder: Path, people: tuple[str, ...], each: int, batch: str = "first") -> Path:
    """A few photos of a few people of the sample cast."""
    for person in people:
        for path in sorted((ROOT / "sample" / "photos" / batch / person).iterdir())[:each]:
            copy(path, folder / person / path.name)
    return folder


def odd_photos(folder: Path) -> Path:
    """Four people, a stranger, a file twice, and what is no photo."""
    cast(folder, PEOPLE, 10)
    copy(ROOT / "sample" / "photos" / "first" / "_strangers" / "mirela", folder / "_strangers" / "mirela")
    (folder / "alma" / "again.jpg").write_bytes((folder / "alma" / "alma_01.jpg").read_bytes())
    (folder / "bruno" / "page.jpg").write_text("<html>404</html>")
    (folder / "chidi" / "empty.jpg").touch()
    (folder / "lost.jpg").write_bytes((folder / "edda" / "edda_01.jpg").read_bytes())
    return folder


def configure(folder: Path, settings: Mapping[str, Mapping[str, str]]) -> None:
    """Settings of DVC by section, written where and as `dvc config` does, which starts a program for each of them."""
    config = ConfigObj(str(folder / ".dvc/config"))
    config.merge(settings)
    config.write()


def commit(folder: Path, message: str = "state") -> None:
    """All that is there, changed or not."""
    run(folder, "git", "add", "-A")
    somebody = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    run(folder, "git", *somebody, "commit", "-q", "--allow-empty", "-m", message)


def contents(path: Path) -> dict[str, bytes]:
    """Of a file, or of all files below a folder, by their paths there."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def environment() -> dict[str, str]:
    """Programs of this environment first on the PATH, as `make` has it."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run(folder: Path, *command: str, fails: bool = False) -> str:
    """What a command printed; it must succeed, or fail, as said."""
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=600)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def stages_run(said: str) -> list[str]:
    """Which stages ran, in order, by what DVC said."""
    return re.findall(r"Running stage '([^']+)'", said)

"""A version's bundle is brought as it was released: from the cache, or through DVC where that lacks some of it."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from castline import released
from castline.errors import ConfigError, DataError

START = "recognizer@v1.0.0"
FILES = {"bundle.json": b"{}", "head.safetensors": b"a head"}


def stored(cache: Path, data: bytes, kind: str = "") -> str:
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest() + kind
    path = cache / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return md5


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a version whose bundle DVC's cache has."""
    monkeypatch.chdir(tmp_path)
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run([*command], check=True)
    release(tmp_path, FILES)
    return tmp_path


def release(folder: Path, files: dict[str, bytes]) -> None:
    cache = folder / ".dvc/cache/files/md5"
    listed = [{"md5": stored(cache, data), "relpath": name} for name, data in sorted(files.items())]
    md5 = stored(cache, json.dumps(listed).encode(), ".dir")
    out = {"path": "models/recognizer", "hash": "md5", "md5": md5, "size": 8, "nfiles": len(files)}
    stage = {"cmd": "true", "outs": [out]}
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"export": stage}}))
    (folder / "dvc.yaml").write_text("stages: {export: {cmd: 'true', outs: [models/recognizer]}}\n")
    (folder / "params.yaml").write_text("data: {batches: [first, 2024]}\n")
    names = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for command in (["add", "-A"], ["commit", "-qm", "m"], ["tag", "-fam", "m", START]):
        subprocess.run(["git", *names, *command], cwd=folder, check=True, capture_output=True)


def brought(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_comes_from_the_cache_and_dvc_is_not_started(project: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from castline import released; "
        f"released.fetch({START!r}, Path('build/base')); print('dvc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert brought(project / "build/base") == FILES
    assert released.batches_of(START) == ["first", "2024"]


def test_it_comes_through_dvc_from_a_cache_elsewhere(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("shared") / "cache"
    (project / ".dvc/cache").rename(elsewhere)
    subprocess.run(["dvc", "config", "--local", "cache.dir", str(elsewhere)], check=True)
    released.fetch(START, project / "build/base")
    assert brought(project / "build/base") == FILES


def test_a_damaged_object_is_not_taken(project: Path) -> None:
    md5 = hashlib.md5(FILES["head.safetensors"], usedforsecurity=False).hexdigest()
    path = project / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    path.chmod(0o644)
    path.write_bytes(b"another")
    assert not released._from_cache(START, project / "base")
    assert not (project / "base").exists()


def test_files_that_are_nowhere_are_said(project: Path) -> None:
    shutil.rmtree(project / ".dvc/cache")
    with pytest.raises(DataError, match="its files cannot be had"):
        released.fetch(START, project / "build/base")


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/b"])
def test_a_listing_cannot_name_a_file_elsewhere(project: Path, name: str) -> None:
    release(project, {**FILES, name: b"x"})
    assert not released._from_cache(START, project / "build-base")
    assert not (project / "build-base").exists() and not (project / "outside").exists()


@pytest.mark.parametrize("lock", ["", "[]", "stages: 3", "stages: {a: {outs: [{path: models/recognizer, md5: 7}]}}"])
def test_a_lock_that_says_nothing_is_left_to_dvc(project: Path, lock: str) -> None:
    (project / "dvc.lock").write_text(lock)
    names = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    subprocess.run(["git", *names, "commit", "-qam", "m"], check=True)
    subprocess.run(["git", *names, "tag", "-fam", "m", START], check=True, capture_output=True)
    assert not released._from_cache(START, project / "base")


def test_a_version_without_settings_says_so(project: Path) -> None:
    (project / "params.yaml").write_text("data: [")
    names = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    subprocess.run(["git", *names, "commit", "-qam", "m"], check=True)
    subprocess.run(["git", *names, "tag", "-fam", "m", START], check=True, capture_output=True)
    with pytest.raises(ConfigError, match=r"its params\.yaml cannot be read"):
        released.batches_of(START)


def tagged(folder: Path, version: str, tune: str, start: str, size: int = 150) -> None:
    """A version with these settings, and nothing else."""
    settings = {"base_model": {"input_size": size}, "training": {"tune": tune, "start": start}}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    names = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for command in (["commit", "-qam", "m", "--allow-empty"], ["tag", "-fam", "m", f"recognizer@{version}"]):
        subprocess.run(["git", *names, *command], cwd=folder, check=True, capture_output=True)


def test_a_base_model_is_the_published_one_as_long_as_no_version_tuned_it(project: Path) -> None:
    tagged(project, "v2.0.0", "head", "pretrained", size=112)
    tagged(project, "v2.1.0", "head", "recognizer@v2.0.0")
    assert released.untuned_base("recognizer@v2.1.0") == {"input_size": 112}, "where it comes from, not what was set"
    for version, tune, start in (
        ("v3.0.0", "last_block", "pretrained"),
        ("v3.1.0", "head", "recognizer@v3.0.0"),  # of one that was tuned
        ("v4.0.0", "head", "scratch"),
        ("v5.0.0", "head", "recognizer@v9.9.9"),  # of one that is not here
        ("v6.0.0", "head", "recognizer@v6.0.0"),  # a tag that was moved
    ):
        tagged(project, version, tune, start)
        assert released.untuned_base(f"recognizer@{version}") is None
    assert released.untuned_base("scratch") is None
    assert released.untuned_base(START) is None, "its settings do not say"

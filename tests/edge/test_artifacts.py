"""The program for devices, and the stage that packs it with a release: all that is needed, and nothing else."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import grimp
import pytest
import yaml
from omegaconf import OmegaConf
from projects import make_project, run

from castline.edge.package import REQUIREMENTS, environment, pack_program, pack_release, program
from castline.errors import BundleError
from castline.files.bundle import read_bundle, write_bundle

ROOT = Path(__file__).parents[2]
NOT_ON_A_DEVICE = ("boto3", "dvc", "omegaconf", "pyarrow", "safetensors", "tensorflow", "torch", "typer", "yaml")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, unpacked."""
    folder = tmp_path_factory.mktemp("device")
    with zipfile.ZipFile(pack_program(folder)) as archive:
        archive.extractall(folder / "program")
    return folder / "program"


def test_the_same_code_gives_the_same_program(tmp_path: Path) -> None:
    assert pack_program(tmp_path / "1").read_bytes() == pack_program(tmp_path / "2").read_bytes()


def test_a_detector_that_devices_cannot_run_is_refused(bundle: Path, tmp_path: Path) -> None:
    whole = read_bundle(bundle)
    copied = shutil.copytree(bundle, tmp_path / "copied")
    write_bundle(type(whole)(**{**vars(whole), "detector": {**whole.detector, "name": "yunet"}}), copied)
    with pytest.raises(BundleError, match="its detector is yunet, devices run blazeface"):
        pack_release(copied, tmp_path, "float32", "1.0.0")


def test_the_program_is_what_imports_lead_to() -> None:
    graph = grimp.build_graph("castline", cache_dir=None)
    begin = {name for name in graph.modules if name == "castline.edge" or name.startswith("castline.edge.")}
    begin -= {f"castline.edge.{name}" for name in ("package", "publish", "recipes")}
    wanted = set(begin)
    for name in begin:
        wanted |= graph.find_upstream_modules(name)
    found = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in program()}
    packages = {name.rpartition(".")[0] for name in wanted} | {"castline"}
    assert found == wanted | packages - {""}


def test_it_runs_without_the_pipeline(device: Path, new: Path) -> None:
    """Every module is imported, then a release tested, where nothing of the pipeline can be imported."""
    modules = [".".join(path.relative_to(device).with_suffix("").parts) for path in device.rglob("*.py")]
    code = (
        "import importlib, runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({NOT_ON_A_DEVICE}))\n"  # importing one raises ImportError
        f"for name in {modules}:\n"
        "    if not name.endswith('__'): importlib.import_module(name)\n"
        "from castline import edge; print(edge.__file__)\n"
        "from castline.edge.golden import self_test; from pathlib import Path; self_test(Path(sys.argv[1]))\n"
    )
    with zipfile.ZipFile(new) as archive:
        archive.extractall(device.parent / "release")
    environment = {**os.environ, "PYTHONPATH": str(device)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, device.parent / "release"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(device / "castline/edge/__init__.py")


def test_the_program_needs_what_is_locked(device: Path) -> None:
    locked = set(re.findall(r"^([\w.-]+==[\w.]+)", (ROOT / "requirements.lock").read_text(), re.M))
    for name in REQUIREMENTS:
        text = (device / name).read_text()
        assert "://" not in text
        pins = re.findall(r"^([\w.-]+==[\w.]+)(.*?)(?=^\w|\Z)", text, re.M | re.S)
        assert pins and all("--hash=sha256:" in rest for _, rest in pins)
        assert {pin for pin, _ in pins} - {"colorama==0.4.6"} <= locked  # which Windows alone wants
    needed = {line.partition("==")[0] for line in (device / REQUIREMENTS[0]).read_text().splitlines() if "==" in line}
    assert {"numpy", "pillow", "ai-edge-litert", "awsiotsdk"} <= needed
    assert not needed & set(NOT_ON_A_DEVICE)
    assert environment(REQUIREMENTS[:1]) != environment(REQUIREMENTS[:2])


def test_a_bundle_that_is_not_for_devices_stops_no_pipeline(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "models/recognizer")
    assert stage(tmp_path, format="int8") == {"refused.txt": b"models/recognizer: there is no int8 file for devices\n"}


def stage(project: Path, **settings: object) -> dict[str, bytes]:
    """What the stage makes of a bundle in a project that has nothing else."""
    values = OmegaConf.load(ROOT / "params.yaml").package
    values.update({"format": "float32", **settings})
    OmegaConf.save({"package": values}, project / "params.yaml")
    done = subprocess.run(
        [sys.executable, ROOT / "stages/package.py"], cwd=project, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    build = project / "build/edge"
    return {path.relative_to(build).as_posix(): path.read_bytes() for path in build.rglob("*") if path.is_file()}


def test_the_stage_packs_a_release_under_its_version_and_nothing_else(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "models/recognizer")
    first = stage(tmp_path, version="v1.2.0", bundle="of another bundle.dir")
    name = next(path for path in first if path.endswith(".zip") and "recognizer-" in path)
    found = re.fullmatch(
        r"artifacts/com\.example\.CastlineRecognizer/(0\.0\.0\+[0-9a-f]{8})/recognizer-(.+)\.zip", name
    )
    assert found and found[1] == found[2]
    assert stage(tmp_path) == first

    # As DVC itself has it of a folder.
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs import MemoryFileSystem, localfs

    bundle = str(tmp_path / "models/recognizer")
    _, _, made = build(HashFileDB(MemoryFileSystem(global_store=False), "/"), bundle, localfs, "md5", dry_run=True)
    assert made.hash_info is not None and made.hash_info.value is not None
    released = stage(tmp_path, version="v1.2.0", bundle=made.hash_info.value)
    component = "com.example.CastlineRecognizer"
    assert sorted(released) == [
        f"artifacts/{component}/1.2.0/castline-edge-0.1.0.zip",
        f"artifacts/{component}/1.2.0/recognizer-1.2.0.zip",
        f"recipes/classic/{component}-1.2.0.json",
        f"recipes/lite/{component}-1.2.0.json",
    ]


def test_composing_finds_the_last_release_and_its_bundle(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    for key, value in (("user.name", "t"), ("user.email", "t@localhost")):
        run(project, "git", "config", key, value)
    lock = {"schema": "2.0", "stages": {"export": {"outs": [{"path": "models/recognizer", "md5": "5f3a.dir"}]}}}
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))
    run(project, "git", "add", "-A")
    run(project, "git", "commit", "-qm", "a model")
    run(project, "castline", "compose")
    found = yaml.safe_load((project / "params.yaml").read_text())["package"]
    assert (found["version"], found["bundle"]) == ("", "")
    run(project, "git", "tag", "-a", "recognizer@v1.2.0", "-m", "a release")
    run(project, "castline", "compose")
    found = yaml.safe_load((project / "params.yaml").read_text())["package"]
    assert (found["version"], found["bundle"]) == ("v1.2.0", "5f3a.dir")

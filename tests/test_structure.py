"""The rules that hold the house up: which way imports run, what may be heavy, and what each stage depends on."""

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import grimp
import pytest
import yaml

from castline.edge.package import program

ROOT = Path(__file__).parents[1]
# No result depends on these: how a failure is said, how far it is, how many processors there are, how a stage starts,
# who is told of a run.
NEUTRAL = {
    "castline/bars.py",
    "castline/errors.py",
    "castline/machine.py",
    "castline/progress.py",
    "castline/stage.py",
    "castline/tracking/settings.py",
    "castline/tracking/spool.py",
}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("mypy",),
        ("lint-imports", "--no-cache"),
    ],
    ids=lambda command: " ".join(command),
)
def test_tools_are_content(command: tuple[str, ...]) -> None:
    done = run(str(Path(sys.executable).parent / command[0]), *command[1:])
    assert done.returncode == 0, done.stdout + done.stderr


@cache
def imported_by(module: str) -> set[str]:
    """Every module that a process has once it has imported this one."""
    done = run(sys.executable, "-c", f"import sys, {module}; print(*sys.modules, sep='\\n')")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines())


@pytest.mark.parametrize(
    "module",
    [
        "castline.files.bundle",
        "castline.cli",
        "castline.cloud.lambda_handler",
        "castline.edge.__main__",
        "castline.edge.package",
        "castline.edge.store",
        "castline.faces.detectors.blazeface",
        "castline.faces.detectors.haar",
        "castline.faces.detectors.mtcnn",
        "castline.faces.detectors.yunet",
        "castline.faces.extract",
        "castline.runtime",
        "castline.runtime.draw",
        "castline.runtime.tflite",
        "castline.runtime.video",
        "castline.schema",
        "castline.training.examples",
        "castline.training.fit",
        "castline.training.folds",
        "castline.training.heads",
        "castline.training.incremental",
    ],
)
def test_light_modules_stay_light(module: str) -> None:
    assert not imported_by(module) & {"torch", "tensorflow", "cv2", "onnx", "pytorch_lightning", "timm"}


def test_settings_are_composed_and_checked_without_what_takes_longer_to_import_than_that() -> None:
    assert not imported_by("castline.schema") & {"numpy", "PIL", "pyarrow", "onnxruntime"}


@pytest.mark.parametrize(
    "module",
    [
        "castline.runtime",
        "castline.cli",
        "castline.cloud.lambda_handler",
        "castline.edge.__main__",
        "castline.edge.golden",
        "castline.edge.store",
    ],
)
def test_a_device_needs_no_pipeline(module: str) -> None:
    """With the core dependencies alone, people can be named: no extra is imported."""
    extras = {"av", "pyarrow", "omegaconf", "dvc", "jinja2", "matplotlib", "safetensors", "tqdm", "yaml"}
    assert not imported_by(module) & extras


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("castline", cache_dir=None)


def file_of(module: str) -> str:
    path = Path(*module.split("."))
    return str(path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py"))


def code_of(script: Path) -> set[str]:
    """Every file of the library that a stage's script may run, imports inside functions included."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "castline":
            modules.add(node.module)
            modules |= {f"{node.module}.{alias.name}" for alias in node.names} & graph().modules
    for module in list(modules):
        modules |= graph().find_upstream_modules(module)
    # A package's own __init__ says what it is and imports nothing, unless it is a module of its own right.
    return {file_of(module) for module in modules if Path(ROOT, file_of(module)).name != "__init__.py"}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_code_it_runs_and_on_no_other(name: str) -> None:
    stage = STAGES[name].get("do", STAGES[name])
    script = next(word for word in stage["cmd"].split() if word.startswith("stages/"))
    assert script in stage["deps"]
    listed = {dep for dep in stage["deps"] if dep.startswith("castline")}
    needed = code_of(ROOT / script) - NEUTRAL
    if name == "package":  # it is made of code
        needed |= {path.relative_to(ROOT).as_posix() for path in program()}
    missing = {file for file in needed if not any(file == dep or file.startswith(f"{dep}/") for dep in listed)}
    idle = {dep for dep in listed if not any(file == dep or file.startswith(f"{dep}/") for file in needed)}
    assert not missing, f"{name} runs these, dvc.yaml does not list them: {sorted(missing)}"
    assert not idle, f"dvc.yaml lists these, {name} does not run them: {sorted(idle)}"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_params_it_reads(name: str) -> None:
    stage = STAGES[name].get("do", STAGES[name])
    words = stage["cmd"].split()
    script = ROOT / next(word for word in words if word.startswith("stages/"))
    read = {
        node.args[0].value
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "read"
        and isinstance(node.args[0], ast.Constant)
    }
    listed = {str(param).split(".")[0] for param in stage.get("params", [])}
    # `faces` looks at the list of batches only to refuse too little data, and the provenance that `export` writes is
    # no result; scripts that serve two stages name the sections of both.
    free = {
        "faces": {"data"},
        "embeddings": {"augmentation"},
        "reference": {"training", "base_model", "forgotten"},
        "base": {"reference_model"},
    }
    shared = {"base_model", "reference_model"}
    assert listed - shared <= read
    assert read - listed - shared <= free.get(name, set())


@pytest.mark.parametrize("script", sorted((ROOT / "stages").glob("*.py")), ids=lambda path: path.stem)
def test_no_stage_waits_for_what_it_may_not_need(script: Path) -> None:
    """PyTorch is for those that make or tune a base model, when they do; tqdm for terminals; pandas for none."""
    assert "\n@stage\n" in script.read_text()
    heavy = {"pandas", "torch", "tqdm"}
    code = f"import sys; sys.path[0] = 'stages'; import {script.stem}; print(*sorted({heavy} & set(sys.modules)))"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0 and done.stdout.strip() == "", done.stdout + done.stderr


@pytest.mark.parametrize("script", sorted((ROOT / "stages").glob("*.py")), ids=lambda path: path.stem)
def test_the_frame_of_a_stage_stands_before_all_that_may_import_numpy(script: Path) -> None:
    first = next(node for node in ast.parse(script.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom))
    assert ast.unparse(first) == "from castline.stage import stage"


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="where Linux lists a process's threads")
@pytest.mark.parametrize("threads", [None, "2"])
def test_a_stages_linear_algebra_has_one_thread_and_programs_that_it_starts_their_own(threads: str | None) -> None:
    names = ("OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    code = f"""
import os, castline.stage, numpy as np
np.ones((500, 500), np.float32) @ np.ones((500, 500), np.float32)
print(len(os.listdir("/proc/self/task")), *map(os.environ.get, {names}))
"""
    known = {name: value for name, value in os.environ.items() if name not in (*names, "OMP_NUM_THREADS")}
    environment = known | ({} if threads is None else dict.fromkeys(names, threads))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["1", str(threads), str(threads)], done.stdout + done.stderr


def test_tables_are_the_same_without_pandas(tmp_path: Path) -> None:
    code = """
import sys
from importlib.util import find_spec
from pathlib import Path
import numpy as np, pyarrow as pa
from castline import stage
from castline.files import tables
if sys.argv[2] == "without":
    stage.without_pandas()
    find_spec("pandas")  # as PyTorch does: it does not expect an error
numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
rows = [{"batch": "b", "photo": "p", "reason": None, "detail": ""}]
tables.write(Path(sys.argv[1], "rows"), tables.REJECTS, rows)
columns = {"a": pa.array([True, None]), "b": tables.sparse_column(numbers, np.array([True, False])), "c": ["x", None]}
table = pa.table(columns)
tables.write(Path(sys.argv[1], "columns"), table.schema, columns | {"c": np.array(["x", None], object)})
back = tables.read(Path(sys.argv[1], "columns"))
there = back.filter(back.column("a").is_valid())
print(tables.matrix(there, "b").tolist(), there.to_pylist(), back.take(pa.array([1])).to_pylist())
print(np.asarray(back.column("b").is_valid()).tolist(), back.column("a").to_numpy().tolist())
print(bool(sys.modules.get("pandas")), file=sys.stderr)
"""
    seen = []
    for way in ("with", "without"):
        folder = tmp_path / way
        folder.mkdir()
        done = run(sys.executable, "-c", code, str(folder), way)
        assert done.returncode == 0, done.stderr
        assert way == "with" or done.stderr.strip() == "False"
        seen.append((done.stdout, {path.name: path.read_bytes() for path in folder.iterdir()}))
    assert seen[0] == seen[1]


def test_names_of_stages_are_those_of_the_design() -> None:
    assert list(STAGES) == [
        "faces", "reference", "embeddings", "dataset", "base", "features", "train", "evaluate", "convert", "export",
        "package",
    ]  # fmt: skip


def test_help_is_quick_because_it_imports_little() -> None:
    assert not imported_by("castline.cli") & {"numpy", "PIL", "ai_edge_litert", "rich"}


def test_the_lock_names_exact_versions_and_no_host() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line[:1] not in ("", " ", "#")]
    assert lines
    assert all("==" in line and "://" not in line and not line.startswith("-") for line in lines)

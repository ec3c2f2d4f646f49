"""What tests share: the sample cast, and the photos that must not be committed, where they are at hand."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from projects import cast, lighter, make_project, odd_photos, once, run, with_runs_of

# A busy machine is no failure: nothing asserts how long something takes.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

ROOT = Path(__file__).parents[1]

# As many processes run tests as there are processors: threads and processes of each would fight for them.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "CASTLINE_THREADS", "CASTLINE_WORKERS"):
        os.environ.setdefault(name, "1")

# Modules that take longest start first: one that started last would run alone. The second asks for no project: those
# that several modules start from are made meanwhile, by the first.
LONGEST = (
    "test_pipeline", "test_export", "test_sweeps", "test_deliveries", "test_ways", "test_experiments", "test_forget",
    "test_sagemaker", "test_incremental", "test_mlflow_live", "test_fleet_run", "test_structure", "test_browser",
    "test_finetuning", "test_live", "test_finetune",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long modules, then others of which a test is marked slow, then the rest, each in the order of their names.

    pytest-xdist keeps this order with --no-loadscope-reorder (pyproject.toml); by itself it puts modules of many tests
    first, however little they take.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST) + (item.path not in slow)))


def pytest_sessionstart(session: pytest.Session) -> None:
    """A run of all tests installs what some of them need in environments of their own beside the others, if need be."""
    if session.config.args_source is pytest.Config.ArgsSource.TESTPATHS and "PYTEST_XDIST_WORKER" not in os.environ:
        code = (
            "from castline.cloud.sagemaker_send import SDK; from castline.label_studio.environment import database; "
            "from castline.tracking.environment import MLFLOW; database(); MLFLOW.made(); SDK.made()"
        )
        installing = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        session.config.add_cleanup(lambda: installing.poll() is None and os.killpg(installing.pid, signal.SIGTERM))


@pytest.fixture(scope="session")
def sample() -> Path:
    """The synthetic cast: photos/, scenes/, clip.mp4 and what is true of them as JSON."""
    return ROOT / "sample"


@pytest.fixture(scope="session")
def testdata() -> Path:
    """Photos of real people and odd files, for development only: see CASTLINE_TESTDATA in docs/testing.md."""
    folder = Path(os.environ.get("CASTLINE_TESTDATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: set CASTLINE_TESTDATA")
    return folder


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run of the tests, for what its processes share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def base_models(shared: Path) -> Path:
    """A project without photos whose base and reference model are there, which no photo changes. See `whole`."""

    def make(folder: Path) -> None:
        make_project(folder)
        (folder / "repro.log").write_text(run(folder, "dvc", "repro", "reference", "base"))

    return once(shared / "base_models", make)


@pytest.fixture(scope="session")
def three_people(shared: Path, base_models: Path) -> Path:
    """A project with six photos each of alma, bruno and chidi as batch one, up to its dataset."""

    def make(folder: Path) -> None:
        with_runs_of(base_models, make_project(folder))
        photos = cast(shared / "photos of three people", ("alma", "bruno", "chidi"), 6)
        run(folder, "castline", "data", "use", str(photos), "--batch", "one")
        run(folder, "dvc", "repro", "dataset")

    return once(shared / "three_people", make)


@pytest.fixture(scope="session")
def three_people_to_the_end(shared: Path, three_people: Path) -> Path:
    """The same project after the whole pipeline, with settings that cost less. To be copied, or for its runs."""

    def make(folder: Path) -> None:
        shutil.copytree(three_people, folder, symlinks=True)
        lighter(folder, epochs=5, folds=0)
        run(folder, "castline", "compose")
        run(folder, "dvc", "repro")

    return once(shared / "three_people_to_the_end", make)


@pytest.fixture(scope="session")
def whole(shared: Path, base_models: Path) -> Path:
    """A project of four people as batch one whose pipeline has run; repro.log is what was said. To be copied."""

    def make(folder: Path) -> None:
        shutil.copytree(base_models, folder)
        photos = odd_photos(shared / "photos of four people")
        run(folder, "castline", "data", "use", str(photos), "--batch", "one")
        with (folder / "repro.log").open("a") as log:
            log.write(run(folder, "dvc", "repro"))

    return once(shared / "whole", make)

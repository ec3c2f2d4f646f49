"""What tests share: the sample cast, and the photos that must not be committed, where they are at hand."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no failure: nothing asserts how long something takes.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

ROOT = Path(__file__).parents[1]

# As many processes run tests as there are processors: threads of each would fight for them.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Modules that take longest start first: one that started last would run alone.
LONGEST = (
    "test_pipeline", "test_sweeps", "test_ways", "test_versions", "test_experiments", "test_incremental",
    "test_forget", "test_structure", "test_finetuning", "test_live", "test_export", "test_finetune",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long modules, then others of which a test is marked slow, then the rest, each in the order of their names.

    pytest-xdist keeps this order with --no-loadscope-reorder (pyproject.toml); by itself it puts modules of many tests
    first, however little they take.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST) + (item.path not in slow)))


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

"""What tests share: the sample cast, and the photos that must not be committed, where they are at hand."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no failure: nothing asserts how long something takes.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

ROOT = Path(__file__).parents[1]


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

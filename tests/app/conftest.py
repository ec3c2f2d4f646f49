"""What the tests of the app share: a model of the sample's cast, made without training."""

from pathlib import Path

import pytest
from app_releases import make_versions
from edge_releases import tiny_bundle


@pytest.fixture(scope="session")
def model_folder(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that names four of the sample's cast, badly; without memory and tables."""
    return tiny_bundle(tmp_path_factory.mktemp("app") / "recognizer", sample, seed=1)


@pytest.fixture(scope="session")
def versions(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with released versions, not to be changed; see `make_versions`."""
    return make_versions(tmp_path_factory.mktemp("versions"), model_folder)

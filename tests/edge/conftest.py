"""What the tests of the edge share: two releases of the sample's cast, made once."""

from pathlib import Path

import pytest
from edge_releases import tiny_bundle

from castline.edge.package import pack_release


@pytest.fixture(scope="session")
def bundle(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that names four of the sample's cast, badly."""
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "one", sample, seed=1)


@pytest.fixture(scope="session")
def old(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """recognizer-1.0.0.zip, of `bundle`."""
    return pack_release(bundle, tmp_path_factory.mktemp("old"), "float32", "1.0.0")


@pytest.fixture(scope="session")
def new(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """recognizer-2.0.0.zip: another model, other people, in another order."""
    bundle = tiny_bundle(tmp_path_factory.mktemp("bundle") / "two", sample, seed=2)
    return pack_release(bundle, tmp_path_factory.mktemp("new"), "float32", "2.0.0")

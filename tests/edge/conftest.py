"""What the tests of the edge share: two releases of the sample's cast, made once."""

import shutil
from pathlib import Path

import pytest
from edge_releases import tiny_bundle
from edge_shop import Shop
from PIL import Image

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


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.jpg")
    return tmp_path / "a.jpg"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (32, 32)).save(folder / "000.jpg")
    for number in range(1, 40):
        shutil.copy2(folder / "000.jpg", folder / f"{number:03}.jpg")
    return folder


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)

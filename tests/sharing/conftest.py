"""One project whose pipeline has run, for every way of sharing it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from projects import commit


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No AWS settings of the machine; what DVC keeps outside the project goes to a folder of the test."""
    folder = tmp_path_factory.mktemp("machine")
    (folder / "config").touch()
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # how often botocore tries again: its waits are nothing to test
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(folder / "site"))


@dataclass(frozen=True)
class Shared:
    """A project that has run, as it is in git, and the photos that it learns from."""

    project: Path
    photos: Path


@pytest.fixture(scope="session")
def ran(three_people_to_the_end: Path, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """The whole pipeline, once for all tests here. Its cache is read by tests and never written."""
    folder = shutil.copytree(three_people_to_the_end, tmp_path_factory.mktemp("ran") / "project", symlinks=True)
    commit(folder)
    return Shared(folder, (folder / "data/one").resolve())

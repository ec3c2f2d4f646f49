"""Entries of dvc.lock, taken out and put in."""

import shutil
from pathlib import Path

import pytest
from dvc.utils.serialize import load_yaml
from projects import ROOT

from castline import lock
from castline.errors import DataError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copyfile(ROOT / "dvc.lock", tmp_path / "dvc.lock"))


def test_what_is_put_back_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    assert lock.merge([lock.entries(["train"], path), lock.entries(["base", "no such"], path)], path) == []
    assert path.read_bytes() == before


def test_an_entry_from_elsewhere_takes_its_stages_place(path: Path) -> None:
    before = load_yaml(path)
    train = lock.entries(["train"], path)["train"] | {"cmd": "python stages/train.py elsewhere"}
    assert lock.merge([{"train": train}, {"more": {"cmd": "true"}}], path) == ["train", "more"]
    after = load_yaml(path)
    assert list(after["stages"]) == [*before["stages"], "more"]
    assert after["stages"].pop("more") == {"cmd": "true"}
    assert after["stages"].pop("train") == train != before["stages"].pop("train")
    assert after == before


def test_it_is_written_as_dvc_writes_it(path: Path) -> None:
    before = path.read_text()
    entry = lock.entries(["export"], path)["export"]
    lock.merge([{"export": entry | {"cmd": "x"}}], path)
    lock.merge([{"export": entry}], path)
    assert path.read_text() == before


def test_one_stage_with_two_results_is_refused(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(DataError, match="train ran twice"):
        lock.merge([{"train": {"cmd": "a"}}, {"train": {"cmd": "b"}}], path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["stages: [1]", "stages:\n  a: 1\n", "[", "\x00"])
def test_a_file_that_is_none_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "dvc.lock").write_text(text)
    with pytest.raises(DataError, match=r"(?s)dvc\.lock cannot be read.*git checkout"):
        lock.entries(path=tmp_path / "dvc.lock")


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert lock.entries(path=tmp_path / "dvc.lock") == {}
    assert lock.merge([{"a": {"cmd": "true"}}], tmp_path / "dvc.lock") == ["a"]
    assert list(lock.entries(path=tmp_path / "dvc.lock")) == ["a"]

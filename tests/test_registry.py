"""`castline models`, and the rule on licences: what may not be used is refused before anything is fetched."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from projects import ROOT
from typer.testing import CliRunner

from castline import project, registry
from castline.cli import app
from castline.embedding.entries import read_entries
from castline.errors import ConfigError


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's conf/ and a cache of its own."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CASTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def add(folder: Path, name: str, **change: Any) -> None:
    values = yaml.safe_load((folder / "conf/base_model/dlib_face_resnet.yaml").read_text())
    (folder / f"conf/base_model/{name}.yaml").write_text(yaml.safe_dump({**values, "name": name, **change}))


def test_models_are_listed_with_what_one_chooses_by(copy: Path) -> None:
    printed = CliRunner().invoke(app, ["models"])
    assert printed.exit_code == 0
    title, *lines = printed.stdout.splitlines()
    assert title.split() == ["name", "source", "input", "embedding", "template", "licence", "commercial", "here"]
    assert [line.split()[0] for line in lines] == [entry.name for entry in read_entries()]
    (dlib,) = (line.split() for line in lines if line.startswith("dlib"))
    assert dlib == ["dlib_face_resnet", "packaged", "150", "128", "dlib", "CC0-1.0", "yes", "yes"]

    listed = {entry["name"]: entry for entry in json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)}
    assert listed["edgeface_xs"]["commercial"] == "no" and listed["mobilefacenet"]["here"] is False
    assert {name for name, entry in listed.items() if entry["source"] == "packaged" and entry["here"]} == {
        "dlib_face_resnet",
        "efficientnet_lite0",
        "mobilenetv2",
    }


def test_entries_of_others_are_printed_safely_and_faults_are_said(copy: Path) -> None:
    add(copy, "odd", licence="\x1b[2J\nfree\u202e")
    add(copy, "absent", package="no_such_package")
    lines = registry.as_table().splitlines()
    assert len(lines) == 1 + len(read_entries())
    assert not any(character in line for line in lines for character in "\x1b\u202e")
    assert next(line for line in lines if line.startswith("absent")).endswith("no")

    for text, complaint in (("name: [", "conf/base_model/z.yaml: "), ("name: z", "conf/base_model/z.yaml: base_model")):
        (copy / "conf/base_model/z.yaml").write_text(text)
        with pytest.raises(ConfigError) as refused:
            registry.as_table()
        assert complaint in str(refused.value)
    with pytest.raises(ConfigError, match="no Castline project here"):
        registry.as_table(copy / "nowhere")


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["base_model=edgeface_xs"], "base_model=edgeface_xs: the licence of its weights, CC-BY-NC-SA-4.0, forbids"),
        (["base_model=mobilenetv2"], "base_model=mobilenetv2: the licence of its weights, BSD-3-Clause, the package"),
        (["base_model@reference_model=arcface_vit_tiny"], "reference_model=arcface_vit_tiny: the licence"),
    ],
)
def test_weights_not_cleared_for_commerce_are_refused_when_composed(
    copy: Path, overrides: list[str], complaint: str
) -> None:
    add(copy, "broken", source="nowhere")
    with pytest.raises(ConfigError) as refused:
        project.compose(["licence.require_commercial=true", *overrides])
    assert complaint in refused.value.what
    allowed = refused.value.next.partition("allowed are ")[2].split(", ")
    assert {"dlib_face_resnet", "resnet50"} <= set(allowed)
    assert not {"edgeface_xs", "mobilenetv2", "broken"} & set(allowed)
    assert not Path("params.yaml").exists()

    project.compose(overrides)
    project.compose(["licence.require_commercial=true"])
    project.compose(["licence.require_commercial=true", "base_model=edgeface_xs", "training.start=scratch"])


def test_the_stage_says_what_a_licence_forbids_and_holds_the_rule(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = runpy.run_path(str(ROOT / "stages" / "base.py"))["main"]
    project.compose(['base_model.commercial_ok="no"', "base_model.licence=CC-BY-NC-4.0"])
    base("base")
    printed = capsys.readouterr().out
    assert "base: dlib_face_resnet, weights CC-BY-NC-4.0; commercial use: no" in printed
    assert "warning: the licence of dlib_face_resnet forbids commercial use" in printed

    written = Path("params.yaml").read_text()
    Path("params.yaml").write_text(written.replace("require_commercial: false", "require_commercial: true"))
    base("reference")
    with pytest.raises(SystemExit):
        base("base")
    assert "licence.require_commercial is true" in capsys.readouterr().err


def test_listing_models_imports_little() -> None:
    heavy = ("torch", "timm", "tensorflow", "cv2", "dvc", "hydra")
    code = (
        "import sys; from castline import registry, schema; registry.as_table(); "
        f"print(*(name for name in {heavy} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""

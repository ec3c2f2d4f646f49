import re
from pathlib import Path

import pytest
import yaml

from castline import params, project, schema
from castline.errors import ConfigError
from castline.faces.detection import DetectorSettings

ROOT = Path(__file__).parents[1]
GROUPS = sorted(
    f"{folder.name}={file.stem}"
    for folder in (ROOT / "conf").iterdir()
    if folder.is_dir()
    for file in folder.glob("*.yaml")
)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's conf/, where params.yaml may be written."""
    for folder in ("conf", "hydra_plugins"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_params_are_the_composition_of_conf(copy: Path) -> None:
    project.compose()
    assert (copy / "params.yaml").read_text() == (ROOT / "params.yaml").read_text(), "castline compose"


@pytest.mark.parametrize("override", GROUPS)
def test_every_choice_composes_and_fits_its_dataclass(copy: Path, override: str) -> None:
    if override == "training=incremental":  # its own test is tests/test_incremental.py
        with pytest.raises(ConfigError, match="goes on from a released version"):
            project.compose([override])
        return
    project.compose([override])
    schema.check(copy / "params.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("detector.min_score=much", "detector.min_score"),
        ("+detector.colour=blue", "detector.colour"),
        ("split.test=0.95", "split.test"),
        ("head.kind=magic", "head.kind=magic"),
        ("training.epochs=0", "training.epochs"),
        ("base_model=nothing", "conf/ cannot be composed"),
        ("+more.of=this", "unknown sections more"),
        ("+export.allowance.int4.top1=1", "unknown int4"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_written(copy: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        project.compose([override])
    assert "next:" in str(error.value)
    assert not (copy / "params.yaml").exists()


def test_sections_come_typed(copy: Path) -> None:
    project.compose()
    settings = params.read("detector", DetectorSettings)
    assert isinstance(settings, DetectorSettings)
    assert settings.name == "blazeface"


def test_a_missing_section_or_file_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no params\.yaml here"):
        params.read("detector", DetectorSettings, tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"photos": {}}))
    with pytest.raises(ConfigError, match="no section 'detector'"):
        params.read("detector", DetectorSettings, tmp_path / "params.yaml")

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from castline import project, schema
from castline.errors import CastlineError, ConfigError
from castline.evaluation.settings import ReportSettings
from castline.export.settings import Allowance, ExportSettings
from castline.faces.settings import DetectorSettings
from castline.files import params
from castline.versions.facts import SHAPING
from castline.versions.tags import last_version

ROOT = Path(__file__).parents[2]
GROUPS = sorted(
    f"{folder.name}={file.stem}"
    for folder in (ROOT / "conf").iterdir()
    if folder.is_dir() and folder.name != "orchestrator"  # no part of params.yaml: tests/fleet
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
    report = yaml.safe_load((ROOT / "params.yaml").read_text())["report"]  # depends on the tags that there are, too
    project.compose([f"report.{key}='{value}'" for key, value in report.items()])
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


def test_the_report_compares_with_the_last_release(copy: Path) -> None:
    """Composed: its name and its commit, which are all that the stage depends on."""

    def git(*command: str) -> str:
        names = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        done = subprocess.run(["git", *names, *command], cwd=copy, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def released(name: str) -> str:
        git("commit", "-q", "--allow-empty", "-m", name)
        git("tag", "-a", f"recognizer@{name}", "-m", name)
        return git("rev-parse", "HEAD")

    def composed(*overrides: str) -> tuple[str, str]:
        project.compose(overrides)
        report = params.read("report", ReportSettings)
        return report.since, report.commit

    def last() -> str | None:
        version = last_version()
        return version.name if version else None

    assert composed() == ("", ""), "not in a repository"
    git("init", "-q", "-b", "main")
    assert last() is None, "no commit"
    git("commit", "-q", "--allow-empty", "-m", "first")
    assert last() is None, "no version"
    first = released("v0.9.0")
    git("tag", "recognizer@v0.10.0")  # somebody's bookmark: GTO's are annotated
    assert last() == "v0.9.0"
    second = released("v0.10.1")
    assert composed() == ("v0.10.1", second), "the highest number"
    git("switch", "-qc", "side", first)
    assert last() == "v0.9.0", "v0.10.1 is not one that this commit comes after"
    assert composed("report.since=v0.10.1") == ("v0.10.1", second)
    assert composed("report.since=''") == ("", "")
    with pytest.raises(CastlineError, match=r"there is no version 'v7\.0\.0'"):
        project.compose(["report.since=v7.0.0"])
    git("switch", "-q", "main")
    git("tag", "-a", "recognizer@v0.10.1!", "-m", "taken back", second)
    assert last() == "v0.9.0"


def test_a_report_is_of_all_settings_that_shape_a_model(copy: Path) -> None:
    """It says which of them changed, so it is made anew for each, and for no other."""

    def of(*overrides: str) -> str:
        project.compose(overrides)
        return params.read("report", ReportSettings).of

    plain, values = of(), params.load()
    assert SHAPING and values.keys() >= set(SHAPING)
    changed = ["curation.min_lead=0.2", "split.salt=other", "detector=haar", "base_model=mobilenetv2", "head=cosine"]
    assert len({plain, *map(of, changed)}) == 1 + len(changed)
    others = ["export.probes=10", "package.video=true", "licence.require_commercial=true"]
    assert {*map(of, others)} == {plain}


@pytest.mark.parametrize("report", ["{since: v1.0.0}", "{commit: --help}", "{since: v1.0.0, commit: main}"])
def test_a_report_compares_with_a_commit_or_with_nothing(tmp_path: Path, report: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"report: {report}\n")
    with pytest.raises(ConfigError, match="wanted is the commit"):
        params.read("report", ReportSettings, path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_side": 1.5}, "detector.max_side: has to be a whole number, not 1.5"),
        ({"max_side": True}, "detector.max_side: has to be a whole number, not True"),
        ({"min_score": None}, "detector.min_score: has to be a number, not None"),
        ({"paddings": 0.5}, "detector.paddings: has to be a list, not 0.5"),
        ({"paddings": [0.5, "wide"]}, "detector.paddings[1]: has to be a number, not 'wide'"),
        ({"file": {"a": 1}}, "detector.file: has to be text, not {'a': 1}"),
        ({"name": "???"}, "detector.name: has to be text, not '???'"),
        ({"colour": 1}, "detector.colour: there is no such key (keys of detector: name, min_score"),
        ([1], "detector: has to be a mapping, not [1]"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_key(values: object, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        params.typed(values, DetectorSettings, "detector")
    assert refused.value.next


def test_values_are_taken_as_what_they_are_for() -> None:
    written = yaml.safe_load("{name: 2024, min_score: 1e-1, max_overlap: 1, max_side: '640', paddings: [0, 1.5]}")
    assert written["min_score"] == "1e-1", "YAML 1.1, as PyYAML reads it, takes this for text"
    settings = params.typed(written, DetectorSettings, "detector")
    assert settings == DetectorSettings("2024", 0.1, 1.0, (0.0, 1.5), 640)
    with pytest.raises(ConfigError, match=re.escape("base_model.name: has to be set")):
        params.typed({}, schema.SECTIONS["base_model"], "base_model")
    allowance = params.typed({"allowance": {"int8": {"top1": 1}}}, ExportSettings, "export").allowance
    assert allowance == {"int8": Allowance(top1=1.0)}


@pytest.mark.parametrize("text", ["- a list", "{", "a: [", "\0"])
def test_what_is_no_mapping_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="castline compose writes it anew"):
        params.load(path)

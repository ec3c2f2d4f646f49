"""What stages write down for a tracking server, and that they neither wait nor fail for it. No server is needed."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import mlflow_runs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from projects import ROOT, environment, run
from servers import closed_port

from castline.errors import CastlineError, ConfigError, DataError, MissingExtra
from castline.tracking import deliver as delivering
from castline.tracking import mirror as mirroring
from castline.tracking import spool, store
from castline.tracking.deliver import _name, _sizes, deliver, records
from castline.tracking.mirror import alias_of
from castline.tracking.settings import TrackingSettings, chosen
from castline.tracking.store import target
from castline.versions.tags import Version


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that tracks to where nobody listens."""
    mlflow_runs.make(tmp_path, closed_port())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_off_it_imports_nothing_and_leaves_nothing(folder: Path) -> None:
    (folder / "params.yaml").write_text("head: {kind: softmax}\n")  # as an older version has it
    code = "import sys, mlflow_runs; mlflow_runs.train(); print('mlflow' in sys.modules, 'requests' in sys.modules)"
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("False False\n", "")
    assert not Path(".castline").exists()
    assert chosen() == TrackingSettings()


def test_a_server_that_is_away_is_said_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mlflow_runs.train()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "is away (Connection refused); 1 to deliver, castline track sync does it later" in said
    (record,) = records(folder)
    assert record.over
    assert record.ended and record.ended["how"] == "FINISHED"
    assert (record.folder / "reports/curves.csv").read_bytes() == Path("reports/curves.csv").read_bytes()


def test_a_stage_that_fails_fails_as_it_would(folder: Path) -> None:
    @spool.tracked("train")
    def fails() -> None:
        raise ConfigError("too small")

    @spool.tracked("train")
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(ConfigError, match="too small"):
        fails()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [record.ended and record.ended["how"] for record in records(folder)] == ["FAILED", "KILLED"]


def test_a_spool_that_cannot_be_written_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(".castline").write_text("a file in its place")
    mlflow_runs.train()
    assert capsys.readouterr().err.startswith("tracking: ")


def test_a_server_that_never_answers_is_waited_for_no_longer_than_asked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mlflow_runs.make(folder, f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.1)
        mlflow_runs.train()
    assert "delivering takes its time and goes on" in capsys.readouterr().err
    assert len(records(folder)) == 1
    with (folder / ".castline/tracking/deliver.lock").open("w") as lock:  # its process ends by itself
        fcntl.flock(lock, fcntl.LOCK_EX)


def test_one_model_is_one_run_and_a_run_keeps_its_parameters(folder: Path) -> None:
    first = spool.run_key()
    values = yaml.safe_load(Path("params.yaml").read_text())
    for section in ("tracking", "report", "package"):
        Path("params.yaml").write_text(yaml.safe_dump({**values, section: {"other": 1}}))
        assert spool.run_key() == first, section
    for section in values.keys() - {"tracking"}:
        Path("params.yaml").write_text(yaml.safe_dump({**values, section: {"other": 1}}))
        assert spool.run_key() != first, section
    Path("params.yaml").write_text(yaml.safe_dump(values))
    Path("build/dataset.parquet").write_bytes(b"another")
    assert spool.run_key() != first


@pytest.mark.parametrize("copy", [".dvc/tmp/exps/standalone/tmpx", ".castline/fleet/task-0123456789ab"])
def test_records_outlive_the_copy_that_is_made_for_an_experiment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, copy: str
) -> None:
    copied = folder / copy
    mlflow_runs.make(copied, closed_port())
    monkeypatch.chdir(copied)
    monkeypatch.setenv("DVC_EXP_NAME", "bold-fish")
    mlflow_runs.evaluate()
    shutil.rmtree(copied)
    (record,) = records(folder)
    assert record.said["experiment"] == "bold-fish"
    assert record.facts.metrics["top1"] == 0.51


def test_torn_records_are_passed_over_and_those_of_killed_stages_are_not(folder: Path) -> None:
    mlflow_runs.train()
    (killed,) = records(folder)
    (killed.folder / "ended.json").unlink()
    with (killed.folder / "epochs.jsonl").open("a") as lives:
        fcntl.flock(lives, fcntl.LOCK_EX)
        assert not records(folder)[0].over, "the stage runs"
    assert records(folder)[0].over, "it was killed"
    torn = killed.folder.with_name("1-train-torn")
    torn.mkdir()
    (torn / "record.json").write_text('{"stage"')
    assert [record.folder for record in records(folder)] == [killed.folder]
    assert deliver(folder).left == 1


def test_a_stage_that_ends_while_others_are_delivered_has_ended(folder: Path) -> None:
    mlflow_runs.train()
    (made,) = records(folder)
    ended = made.folder / "ended.json"
    said = ended.read_bytes()
    ended.unlink()
    with (made.folder / "epochs.jsonl").open("a") as lives:
        fcntl.flock(lives, fcntl.LOCK_EX)
        (found,) = records(folder)
        assert not found.over and found.ended is None
        ended.write_bytes(said)
    assert found.over
    assert found.ended and found.ended["how"] == "FINISHED"


def test_of_two_who_look_at_a_killed_stage_each_sees_that_it_is_over(folder: Path) -> None:
    mlflow_runs.train()
    (killed,) = records(folder)
    (killed.folder / "ended.json").unlink()
    with (killed.folder / "epochs.jsonl").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert killed.over
    (killed.folder / "ended.json").touch()  # a machine that stopped
    assert killed.over and killed.ended is None
    shutil.rmtree(killed.folder)
    assert killed.over and killed.ended is None


def test_a_record_that_another_process_removes_ends_no_delivery(tmp_path: Path) -> None:
    for name in ("1-train-a", "2-train-b"):
        (tmp_path / spool.SPOOL / name).mkdir(parents=True)
    (tmp_path / spool.SPOOL / "1-train-a/epochs.jsonl").symlink_to("gone")
    there = tmp_path / spool.SPOOL / "2-train-b/epochs.jsonl"
    there.write_text("{}\n")
    assert _sizes(tmp_path) == {there: 3}


def test_the_report_stays_here_if_that_is_asked(folder: Path) -> None:
    mlflow_runs.make(folder, closed_port(), report=False)
    mlflow_runs.evaluate()
    (record,) = records(folder)
    assert sorted(path.name for path in (record.folder / "reports").iterdir()) == ["metrics.json"]


@pytest.mark.slow
def test_choosing_a_server_makes_nothing_stale_and_changes_no_output(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(whole, folder, symlinks=True)
    run(folder, "castline", "compose", "tracking=mlflow", f"tracking.uri={closed_port()}")
    assert run(folder, "dvc", "status").strip() == "Data and pipelines are up to date."
    outputs = [path for path in (folder / "build/model").rglob("*") if path.is_file()]
    outputs.append(folder / "reports/curves.csv")
    before = {path: path.read_bytes() for path in outputs}
    for path in outputs:
        path.unlink()
    variables = environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "stages/train.py"], cwd=folder, env=variables, capture_output=True, text=True, check=True
    )
    assert "is away" in done.stderr
    assert {path: path.read_bytes() for path in outputs} == before
    assert [record.said["stage"] for record in records(folder)] == ["train"]


@pytest.mark.parametrize("stage", ["train", "evaluate", "export"])
def test_these_stages_are_tracked_and_what_they_name_is_theirs_to_read_or_write(stage: str) -> None:
    script = (ROOT / "stages" / f"{stage}.py").read_text()
    assert f'@tracked("{stage}"' in script
    sections = [line for line in script.splitlines() if line.startswith("AROUND = ")]
    assert ("tracking" in "".join(sections)) == (stage == "export"), "the bundle says nothing of tracking"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "wandb"}, "allowed are none, mlflow"),
        ({"uri": "http://me:secret@host"}, "has a password in it"),
        ({"uri": "postgresql://me:secret@host/runs"}, "^tracking.uri has a password in it"),
        ({"uri": "http://me:sec/ret@host:5000"}, "^tracking.uri has a password in it"),
        ({"uri": "http://me:secret@host:port"}, "^tracking.uri has a password in it"),
        ({"uri": "file:./mlruns"}, "wanted is http"),
        ({"uri": "http://host:port"}, "wanted is http"),
        ({"uri": "sqlite:///"}, "wanted is http"),
        ({"experiment": ""}, "tracking.experiment="),
        ({"model": "a' OR name = 'b"}, "tracking.model="),
        ({"timeout": 0}, "tracking.timeout=0"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrackingSettings(**values)  # type: ignore[arg-type]


def test_where_runs_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert target(TrackingSettings()) == f"sqlite:///{folder}/.castline/tracking/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team:5000")
    assert target(TrackingSettings()) == "http://team:5000"
    assert target(TrackingSettings(uri="sqlite:///me@home.db")) == f"sqlite:///{folder}/me@home.db"
    assert target(TrackingSettings(uri="http://team:5000/@me")) == "http://team:5000/@me"
    assert target(TrackingSettings(uri="sqlite:///runs.db")) == f"sqlite:///{folder}/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI='databricks'"):
        target(TrackingSettings())


def test_a_server_whose_name_can_be_none_is_away() -> None:
    with pytest.raises(store.Away, match=r"http://team\.\.example is away"):
        store.probe("http://team..example", 1)
    with pytest.raises(store.Away, match="is away"):
        store.probe(f"http://{'a' * 64}:5000", 1)


def test_what_mlflow_has_to_say_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    monkeypatch.setattr(store, "probe", lambda *_: None)
    monkeypatch.setattr(store, "_client", lambda *_: None)
    settings = TrackingSettings("mlflow", "http://team:5000")
    said = r"^MLflow at http://team:5000: 401, not you\n  next: castline track status"
    with pytest.raises(CastlineError, match=said), store.opened(settings):
        raise MlflowException("401, not you\n<html>")
    with pytest.raises(ZeroDivisionError), store.opened(settings):
        raise ZeroDivisionError


def test_an_extra_that_is_missing_is_said_with_what_brings_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: TrackingSettings) -> None:
        raise MissingExtra("mlflow could not be imported", "pip install 'castline[mlflow]'")

    mlflow_runs.train()
    monkeypatch.setattr(delivering, "opened", missing)
    assert deliver(folder).line() == (
        "mlflow could not be imported (pip install 'castline[mlflow]'); 1 to deliver, castline track sync does it later"
    )


@given(
    st.lists(
        st.text(max_size=300) | st.from_regex(r"\.*[./: ]?[a-z]*", fullmatch=True), unique=True, min_size=2, max_size=2
    )
)
def test_keys_are_as_mlflow_takes_them_and_stay_apart(keys: list[str]) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name

    names = [_name(key) for key in keys]
    for name in names:
        _validate_metric_name(name)
        _validate_param_name(name)
        _validate_tag_name(name)
    assert names[0] != names[1]


def test_a_version_whose_files_are_gone_keeps_no_other_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def register(_: object, __: object, version: Version, ___: object) -> list[str]:
        if version.name == "v0.1.0":
            raise DataError("recognizer@v0.1.0: its files cannot be had")
        return [f"{version.name} registered"]

    versions = {name: Version(name, "0" * 40, 1) for name in ("v0.2.0", "v0.1.0")}
    side = mirroring._Side("m", lambda *_: None, {}, [], {})
    monkeypatch.setattr(mirroring, "read_registry", lambda: SimpleNamespace(versions=versions, stages=[]))
    monkeypatch.setattr(mirroring, "opened", lambda _: nullcontext())
    monkeypatch.setattr(mirroring, "_sides", lambda *_: [side])
    monkeypatch.setattr(mirroring, "_register", register)
    assert mirroring.mirror(TrackingSettings("mlflow")) == [
        "v0.1.0 is not registered: recognizer@v0.1.0: its files cannot be had",
        "v0.2.0 registered",
    ]


@given(st.from_regex(r"[a-zA-Z0-9](?:[a-zA-Z0-9-/_]*[a-zA-Z0-9])?", fullmatch=True))
def test_a_stage_is_an_alias_that_mlflow_takes(stage: str) -> None:
    from mlflow.utils.validation import _validate_model_alias_name

    _validate_model_alias_name(alias_of(stage))
    assert alias_of(stage) == stage or alias_of(stage).startswith(stage.replace("/", "-"))

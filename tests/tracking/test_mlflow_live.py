"""Runs and versions in the real MLflow: its server, started once as `castline track ui` starts it, and a database."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow_runs
import pytest
import yaml
from projects import ROOT, environment, run
from servers import closed_port

from castline import progress, released
from castline.tracking import mirror as mirroring
from castline.tracking import spool
from castline.tracking.deliver import deliver, records
from castline.tracking.mirror import check, mirror, tell
from castline.tracking.settings import TrackingSettings
from castline.tracking.store import ARTIFACTS, DATABASE, Store, opened
from castline.versions.tags import promote

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, of which there are many
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. Installed first if need be, once on a machine; that takes some minutes."""
    folder = tmp_path_factory.mktemp("mlflow") / "project"
    mlflow_runs.make(folder, "")
    code = "import sys; from castline.cli import main; sys.argv[0] = 'castline'; main()"
    port = closed_port().rpartition(":")[2]
    command = [sys.executable, "-P", "-c", code, "track", "ui", "--port", port]
    variables = {**environment(), "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": "http://elsewhere:1"}
    with subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found, "it did not start"
            assert (folder / DATABASE).is_file()
            log = (folder / ".castline/tracking/server.log").read_text()
            assert "huey" not in log.lower(), "no job runner"
            yield found[0]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    assert not (folder / ".castline/tracking/server.json").exists()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def spooling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages write down and start nobody who delivers, which the tests do themselves."""
    monkeypatch.setattr(spool, "_DELIVERER", (sys.executable, "-S", "-c", "input()"))


def runs(uri: str, experiment: str) -> tuple[Store, list[Any]]:
    with opened(TrackingSettings("mlflow", uri, experiment)) as there:
        return there, there.client.search_runs([there.experiment(experiment)])


def test_a_stage_tells_the_server_and_one_model_is_one_run(
    server: str, folder: Path, spooling: None, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow_runs.make(folder, server, experiment="one model")
    mlflow_runs.train()
    (record,) = records(folder)
    deliver(folder)
    mlflow_runs.evaluate()
    capsys.readouterr()
    done = deliver(folder)
    assert not records(folder)
    there, (found,) = runs(server, "one model")
    assert done.line() == f"{server}/#/experiments/{found.info.experiment_id}/runs/{found.info.run_id}"
    assert found.info.status == "FINISHED"
    assert found.data.params["training.seed"] == "1"
    assert len(next(value for key, value in found.data.params.items() if key.startswith("training.odd"))) == 6000
    assert (found.data.metrics["top1"], found.data.metrics["open.fpir"]) == (0.51, 0.01)
    assert found.data.tags["data_hash"] and found.data.tags["dvc.lock.dataset"] == "build/dataset.parquet d1"
    assert found.data.tags["dvc.lock.train"] == "build/model m1"
    assert found.data.tags["castline.run"] == record.said["run"]
    curve = there.client.get_metric_history(found.info.run_id, "val_loss")
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (2, 1.0), (3, 0.666667)]
    files = {item.path for item in there.client.list_artifacts(found.info.run_id, "reports")}
    assert files == {"reports/curves.csv", "reports/index.html", "reports/metrics.json"}


def _sweep(folder: Path, seeds: range, uri: str) -> None:
    folder.mkdir()
    os.chdir(folder)
    for seed in seeds:
        mlflow_runs.make(folder, uri, seed, epochs=30, experiment="sweep")
        mlflow_runs.train()
        mlflow_runs.evaluate()
        deliver(folder)


def test_four_processes_at_once_lose_nothing(server: str, folder: Path, spooling: None) -> None:
    import mlflow.tracking  # noqa: F401 (once, before the processes part)

    sweeps = [
        FORK.Process(target=_sweep, args=(folder / str(part), range(part * 2, part * 2 + 2), server))
        for part in range(4)
    ]
    for sweep in sweeps:
        sweep.start()
    for sweep in sweeps:
        sweep.join()
    assert [sweep.exitcode for sweep in sweeps] == [0] * 4
    assert not [record for part in range(4) for record in records(folder / str(part))]
    there, found = runs(server, "sweep")
    assert sorted(one.data.params["training.seed"] for one in found) == [str(seed) for seed in range(8)]
    for one in found:
        assert one.data.metrics["top1"] == 0.5 + int(one.data.params["training.seed"]) / 100
    points = there.client.get_metric_history(found[0].info.run_id, "train_loss")
    assert [point.step for point in points] == list(range(1, 31))


def _killed_after(calls: int, folder: Path) -> None:
    """Deliver, and be killed right before or after so many requests that write."""
    from mlflow.tracking import MlflowClient

    left = iter(range(calls))
    for name in ("create_run", "log_batch", "log_artifacts", "log_artifact", "set_terminated"):
        plain = getattr(MlflowClient, name)

        def counted(self: Any, *args: Any, plain: Any = plain, **kwargs: Any) -> Any:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(self, *args, **kwargs)

        setattr(MlflowClient, name, counted)
    deliver(folder)


def test_killed_anywhere_it_is_delivered_once(server: str, folder: Path, spooling: None) -> None:
    mlflow_runs.make(folder, server, experiment="killed")
    mlflow_runs.train()
    mlflow_runs.evaluate()
    codes = []
    for calls in range(1, 30):
        delivery = FORK.Process(target=_killed_after, args=(calls, folder))
        delivery.start()
        delivery.join()
        codes.append(delivery.exitcode)
        if delivery.exitcode == 0:
            break
    assert codes[-1] == 0 and codes.count(-signal.SIGKILL) == len(codes) - 1 >= 4
    there, (found,) = runs(server, "killed")
    for curve, steps in (("train_loss", [1, 2, 3]), ("top1", [0]), ("train_loss_dropout_0.5", [])):
        points = there.client.get_metric_history(found.info.run_id, curve)
        assert [point.step for point in points] == steps, curve
    assert not records(folder)


def test_a_resumed_training_continues_its_run_live(server: str, folder: Path, spooling: None) -> None:
    mlflow_runs.make(folder, server, experiment="resumed", epochs=4)

    def epochs(numbers: range) -> None:
        for number in numbers:
            progress.epoch({"epoch": float(number), "train_loss": 1 / (number + 1), "val_loss": 2 / (number + 1)})

    @spool.tracked("train", "reports/curves.csv")
    def trains_on() -> None:
        epochs(range(2, 4))
        deliver(folder)
        (found,) = runs(server, "resumed")[1]
        assert (found.info.run_id, found.info.status) == (first.info.run_id, "RUNNING")
        assert found.data.metrics["val_loss"] == 0.5, "while it trains"

    killed = FORK.Process(target=_trains_and_is_killed, args=(epochs,))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    deliver(folder)
    there, (first,) = runs(server, "resumed")
    assert first.info.status == "RUNNING"
    trains_on()
    deliver(folder)
    (found,) = runs(server, "resumed")[1]
    assert (found.info.run_id, found.info.status) == (first.info.run_id, "FINISHED")
    points = there.client.get_metric_history(found.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 0.5), (3, 0.333333), (4, 0.25)]


def _trains_and_is_killed(epochs: Any) -> None:
    @spool.tracked("train")
    def main() -> None:
        epochs(range(2))
        os.kill(os.getpid(), signal.SIGKILL)

    main()


def test_a_server_that_comes_back_gets_it_all(server: str, folder: Path, spooling: None) -> None:
    mlflow_runs.make(folder, closed_port(), experiment="away")
    mlflow_runs.train()
    assert deliver(folder).left == 1
    done = deliver(folder, uri=server)
    assert (done.left, len(done.runs), done.problem) == (0, 1, "")
    assert len(runs(server, "away")[1]) == 1


def test_a_database_is_made_once_and_shown_by_the_same_client(
    folder: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """Without a server, as a stage does it: by the process that it starts."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    source = next(Path(server_folder(server)).glob(str(DATABASE)))  # with its tables, which take seconds to be made
    (folder / DATABASE).parent.mkdir(parents=True)
    shutil.copyfile(source, folder / DATABASE)
    mlflow_runs.make(folder, "", experiment="of this project", timeout=120)
    mlflow_runs.train()
    assert not records(folder)
    there, (found,) = runs("", "of this project")
    assert found.info.artifact_uri.startswith((folder / ARTIFACTS).as_uri())
    assert there.page(found) == "castline track ui shows it"
    assert (folder / ARTIFACTS / found.info.run_id / "artifacts/reports/curves.csv").is_file()


def server_folder(server: str) -> str:
    """Where the server of these tests works."""
    port = server.rpartition(":")[2]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "server" in words and port in words:
            database = words[words.index("--backend-store-uri") + 1].removeprefix("sqlite:///")
            return str(Path(database).parents[2])
    raise AssertionError(server)


@pytest.fixture
def released_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with v0.1.0 and v0.2.0 in git; the bundle, the same for both, is small and not to be fetched."""
    bundle = folder.parent / "a bundle"
    monkeypatch.setattr(released, "fetch", lambda tag, target: shutil.copytree(bundle, target))
    monkeypatch.setattr(mirroring, "_onnx", _stands_in)
    monkeypatch.setattr(mirroring, "_pictures", _stands_in)
    bundle.mkdir(exist_ok=True)
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "config", "user.name", "t")
    run(folder, "git", "config", "user.email", "t@localhost")
    for number, seed in (("v0.1.0", 1), ("v0.2.0", 2)):
        mlflow_runs.make(folder, "", seed)
        lock = yaml.safe_load(Path("dvc.lock").read_text())
        lock["stages"]["export"] = {"outs": [{"path": "models/recognizer", "md5": f"{seed:032}.dir"}]}
        Path("dvc.lock").write_text(yaml.safe_dump(lock))
        run(folder, "git", "add", "-A")
        run(folder, "git", "commit", "-qm", number)
        run(folder, "git", "tag", "-a", f"recognizer@{number}", "-m", number)
    return folder


def _stands_in(bundle: Path, made: Path) -> None:
    made.mkdir()
    (made / "MLmodel").write_text("flavors: {}\n")


def test_git_is_right_and_the_registry_follows(server: str, released_here: Path, spooling: None) -> None:
    settings = TrackingSettings("mlflow", server, "registry", "cast of tests")
    name = settings.model
    mlflow_runs.make(released_here, server, 2, experiment="registry")
    mlflow_runs.evaluate()
    deliver(released_here)
    assert check(settings) == [
        f"{side}: {v} is missing" for side in (name, f"{name}-onnx") for v in ("v0.2.0", "v0.1.0")
    ]
    assert len(mirror(settings)) == 4
    assert mirror(settings) == check(settings) == []
    promote("v0.2.0", "eu/prod")
    assert [line for line in check(settings) if line.startswith(f"{name}:")] == [
        f"{name}: @{mirroring.alias_of('eu/prod')} is at no version, git has v0.2.0 in eu/prod"
    ]
    mirror(settings)
    assert check(settings) == []
    there, found = runs(server, "registry")
    client = there.client
    version = client.get_model_version_by_alias(name, mirroring.alias_of("eu/prod"))
    commit = run(released_here, "git", "rev-parse", "recognizer@v0.2.0^{commit}").strip()
    assert version.tags == {"gto_tag": "recognizer@v0.2.0", "git_rev": commit, "dvc_md5": f"{2:032}.dir"}
    trained = next(one for one in found if one.info.run_id == version.run_id)
    assert trained.data.params["training.seed"] == "2" and "castline.run" in trained.data.tags, "the run that made it"
    assert trained.data.tags["dvc.lock.export"] == f"models/recognizer {2:032}.dir"

    # What people do to it by hand, and to git.
    client.set_registered_model_alias(name, mirroring.alias_of("eu/prod"), "1")
    client.set_registered_model_alias(name, "mine", "1")
    client.set_model_version_tag(name, "1", "git_rev", "\x1b[31m0")
    client.create_model_version(name, f"{trained.info.artifact_uri}/models", trained.info.run_id)
    client.delete_model_version(f"{name}-onnx", "1")
    run(released_here, "git", "tag", "-d", "recognizer@v0.2.0")
    said = check(settings)
    assert not any("\x1b" in line for line in said)
    assert {line.partition(": ")[2] for line in said} == {
        f"v0.1.0 has another git_rev (version 1: \ufffd[31m0, git: {version_of('v0.1.0')})",
        "version 3 is none of git's",
        "version 2 is recognizer@v0.2.0, which git does not have, or has taken back",
        f"@{mirroring.alias_of('eu/prod')} is at v0.1.0, git has none in eu/prod",
        f"@{mirroring.alias_of('eu/prod')} is at v0.2.0, git has none in eu/prod",
        "@mine is no stage of git's; it is at v0.1.0",
        "v0.1.0 is missing",
    }
    mirror(settings)
    aliases = client.get_registered_model(name).aliases
    assert list(aliases) == ["mine"], "what is no stage of git's is nobody's to move"


def version_of(name: str) -> str:
    return run(Path.cwd(), "git", "rev-parse", f"recognizer@{name}^{{commit}}").strip()


def test_a_release_does_not_fail_for_a_server_that_is_away(
    released_here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow_runs.make(released_here, closed_port())
    tell()
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.endswith("is away (Connection refused); castline track sync does it later\n")


def test_a_version_names_people_in_pictures_and_nothing_in_it_is_pickled(
    sample: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models themselves, as MLflow saves and loads them."""
    # MLflow puts the code in a model before all other, and leaves it there, for processes that are spawned later too.
    monkeypatch.setattr(sys, "path", [*sys.path])
    import mlflow.onnx
    import mlflow.pyfunc
    import numpy as np
    import pandas as pd

    bundle = whole / "models/recognizer"
    mirroring._pictures(bundle, tmp_path / "pictures")
    mirroring._onnx(bundle, tmp_path / "onnx")
    suffixes = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".joblib"}
    kept = {path.name for path in (tmp_path / "pictures").rglob("*")}
    assert not kept & {"memory.parquet", "base.safetensors", "python_model.pkl"}
    alma = sorted((sample / "photos/second/alma").iterdir())[0].read_bytes()
    model = mlflow.pyfunc.load_model(str(tmp_path / "pictures"))
    people, nobody = model.predict(pd.DataFrame({"image": [alma, _meadow()]}))
    assert [person["name"] for person in people] == ["alma"] and nobody == []
    json.dumps(people)
    with pytest.raises(Exception, match="image"):
        model.predict(pd.DataFrame({"picture": [alma]}))
    onnx = mlflow.pyfunc.load_model(str(tmp_path / "onnx"))
    size = json.loads((bundle / "bundle.json").read_text())["input_size"]
    out = onnx.predict({"image": np.zeros((1, 3, size, size), np.float32)})
    assert out["embedding"].shape == (1, 128)
    with pytest.raises(Exception, match="image"):
        onnx.predict({"image": np.zeros((1, size, size, 3), np.float32)})


def _meadow() -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (64, 48), "green").save(out, "PNG")
    return out.getvalue()

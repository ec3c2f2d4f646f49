"""What surrounds a job on SageMaker, without AWS: settings, the estimate, the job's own steps, and hostile results."""

import hashlib
import io
import json
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any
from unittest import mock

import grimp
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from projects import ROOT, commit, run
from typer.testing import CliRunner

from castline.cli import app
from castline.cloud import sagemaker_job, sagemaker_sdk
from castline.cloud.sagemaker_fetch import take
from castline.cloud.sagemaker_plan import Plan, plan
from castline.cloud.sagemaker_send import send, wait
from castline.cloud.sagemaker_settings import Rates, SageMakerSettings, Work, estimate
from castline.errors import ConfigError, DataError
from castline.files.params import read
from castline.training.settings import TrainerSettings

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC's own, in this process

GOOD = SageMakerSettings("arn:aws:iam::123456789012:role/x", "image:1", "eu-central-1")
WORK = Work("small", faces=1000, epochs=10, tuned=True, views=0)
PARAMS = """base_model: {name: small}
augmentation: {name: "it's"}
head: {kind: softmax}
trainer: {accelerator: cpu}
training: {lr: 0.001, beside: [0.1]}
"""
JOB = Plan("0" * 40, ("train",), PARAMS, "", {"build/base": "0" * 32}, ("0" * 32,), WORK, TrainerSettings())


def test_the_settings_that_are_shipped_are_read() -> None:
    assert read("sagemaker", SageMakerSettings, ROOT / "conf/sagemaker.yaml").instance_type == "ml.m5.xlarge"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("role", "castline"),
        ("role", "arn:aws:iam::123456789012:role/x y"),
        ("image", "x;rm -rf /"),
        ("region", "Frankfurt"),
        ("instance_type", "m5.xlarge"),
        ("volume_gb", 0),
        ("max_hours", 1000.0),
        ("prices", {"ml.m5.xlarge": 1.0}),
    ],
)
def test_settings_that_aws_would_refuse_are_refused_here(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        replace(GOOD, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "processors", "gpu"),
    [("ml.m5.large", 2, False), ("ml.c5.xlarge", 4, False), ("ml.m5.4xlarge", 16, False), ("ml.g5.2xlarge", 8, True)],
)
def test_an_instance_types_name_says_what_it_has(kind: str, processors: int, gpu: bool) -> None:
    settings = replace(GOOD, instance_type=kind)
    assert (settings.processors, settings.has_gpu) == (processors, gpu)


def test_an_estimate_says_what_it_stands_on() -> None:
    settings = replace(GOOD, rates=Rates(setup=100, head=0.001, tuning={"small": 0.2, "large": 2.0}))
    found = estimate(WORK, settings, price=3.6, spot=True)
    assert found.seconds == pytest.approx(100 + 1000 * 10 * 0.2 / 4)
    assert found.dollars == pytest.approx(0.6)
    assert "1000 faces, 10 epochs at most" in found.words and "spot" in found.words
    unknown = estimate(replace(WORK, base_model="other"), settings, price=None, spot=False)
    assert unknown.seconds == pytest.approx(100 + 1000 * 10 * 2.0 / 4) and unknown.dollars is None
    assert "tuning of other not measured: as the slowest" in unknown.words and "no price is known" in unknown.lines()[0]
    for work in (WORK, replace(WORK, tuned=False), replace(WORK, views=1)):
        assert "not counted" in estimate(work, GOOD, None, spot=False).words
    priced = replace(settings, prices={"ml.m5.xlarge": 7.2}, prices_read="2026-11-22")
    assert estimate(WORK, priced, None, spot=False).dollars == pytest.approx(1.2)
    assert "read on 2026-11-22" in estimate(WORK, priced, None, spot=False).words
    head = estimate(replace(WORK, tuned=False), settings, None, spot=False)
    assert head.seconds == pytest.approx(100 + 1000 * 10 * 0.001), "a head has one thread"


PLAIN: dict[str, Any] = {"base_model": {"name": "small"}, "augmentation": {}, "trainer": {}, "training": {"lr": 0.1}}


@settings(max_examples=50)
@given(st.text(), st.text())
@example("²", "")
def test_no_hyper_parameter_ends_the_quotes_of_the_sdks_script(name: str, value: str) -> None:
    """The SDK writes `export SM_HP_NAME='value'`, as it is, into a script that is sourced."""
    values = PLAIN | {"head": {name: value, "kind": "softmax"}}
    shown = replace(JOB, params=yaml.safe_dump(values)).hyperparameters()
    assert "head-kind" in shown
    for key, text in shown.items():
        assert key.replace("-", "_").isidentifier() and not set(text) & set("'\n\\$`")


def test_hyper_parameters_are_text_and_odd_ones_are_left_out() -> None:
    shown = JOB.hyperparameters()
    assert shown["training-lr"] == "0.001" and shown["training-beside"] == "[0.1]"
    assert "augmentation-name" not in shown


@pytest.mark.parametrize(
    ("wanted", "count", "word"),
    [
        (replace(GOOD, role=""), 1, "sagemaker.role is not set"),
        (GOOD, 2, "training runs on one machine"),
        (replace(GOOD, instance_type="ml.g5.xlarge"), 1, "trainer=gpu"),
    ],
)
def test_what_cannot_be_sent_is_said_before_anything_is_asked(wanted: SageMakerSettings, count: int, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        send(JOB, wanted, None, count, spot=False, dry_run=True)


def test_a_remote_that_is_not_in_s3_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path, "dvc", "init", "-q", "--no-scm")
    with pytest.raises(ConfigError, match="reads plain objects in S3"):
        send(JOB, GOOD, None, 1, spot=False, dry_run=True)
    run(tmp_path, "dvc", "remote", "add", "-d", "own", "s3://team/castline")
    run(tmp_path, "dvc", "remote", "modify", "own", "endpointurl", "https://key:secret@store.example:9000")
    with pytest.raises(ConfigError, match=r"the DVC remote own is at store\.example: SageMaker reads S3 of AWS"):
        send(JOB, GOOD, None, 1, spot=False, dry_run=True)


def test_a_name_that_is_none_is_not_asked_for() -> None:
    with pytest.raises(ConfigError, match="no name of a training job"):
        wait("../x", "eu-central-1")


@pytest.mark.parametrize("accepted", [True, False])
def test_a_job_that_was_accepted_is_said_whatever_the_sdk_asks_afterwards(
    accepted: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A double of the SDK: it creates the job, and is not allowed to look at it."""

    class Trainer:
        def __init__(self, sagemaker_session: Any, **_: Any) -> None:
            self.boto = sagemaker_session.boto_session

        def train(self, **_: Any) -> None:
            told = {"TrainingJobArn": "arn:aws:sagemaker:eu-central-1:123456789012:training-job/one"}
            answer = (mock.Mock(status_code=200), told) if accepted else (mock.Mock(status_code=400), {"Error": {}})
            self.boto.events.register("before-call.sagemaker.CreateTrainingJob", lambda **_: answer)
            self.boto.client("sagemaker").create_training_job(
                TrainingJobName="one", RoleArn="arn:aws:iam::123456789012:role/train",
                OutputDataConfig={"S3OutputPath": "s3://bucket/out"},
                ResourceConfig={"VolumeSizeInGB": 1}, StoppingCondition={"MaxRuntimeInSeconds": 60},
            )  # fmt: skip
            raise RuntimeError("DescribeTrainingJob is denied")

    names = ("core.helper.session_helper", "core.shapes", "train", "train.configs")
    modules = {f"sagemaker.{name}": mock.MagicMock() for name in names}
    modules["sagemaker.train"].ModelTrainer = Trainer
    modules["sagemaker.core.helper.session_helper"].Session = mock.Mock
    absent = "role image name bucket prefix source command instance_type count volume_gb spot max_seconds output"
    job = dict.fromkeys(f"{absent} checkpoints hyperparameters dry_run".split(), "")
    told = json.dumps(job | {"region": "eu-central-1", "channels": {}})
    for name, value in {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_CONFIG_FILE": "/absent"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdin", io.StringIO(told))
    with mock.patch.dict("sys.modules", modules):
        sagemaker_sdk.main()
    answer = json.loads(capsys.readouterr().out)
    assert answer.keys() == ({"job", "request"} if accepted else {"error"})


def test_requirements_hold_all_that_the_sent_stages_import() -> None:
    """As far as imports say: pip has to bring nothing more into a container, and brings what the lock says."""
    listed = (ROOT / "castline/cloud/sagemaker-requirements.txt").read_text().splitlines()
    reached, todo = set[str](), {line for line in listed if line[:1].isalpha()}
    pins = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    assert {name.lower().replace("_", "-") for name in todo} <= pins
    while todo:
        name = todo.pop().lower().replace("_", "-")
        reached.add(name)
        parsed = [Requirement(text) for text in requires(name) or ()]
        met = [one.name for one in parsed if not one.marker or one.marker.evaluate({"extra": ""})]
        todo |= {one.lower().replace("_", "-") for one in met} - reached
    graph = grimp.build_graph("castline", include_external_packages=True, cache_dir=None)
    modules = {"castline.cloud.sagemaker_job"}
    for script in ("train", "features"):
        words = (ROOT / f"stages/{script}.py").read_text().replace("(", " ").split()
        modules |= {word for word in words if word in graph.modules and word.startswith("castline.")}
    modules |= {"castline.embedding.base_models", "castline.embedding.onnx", "castline.training.finetune"}
    found = {one for module in modules for one in graph.find_upstream_modules(module)} | modules
    outside = {one for module in found for one in graph.find_modules_directly_imported_by(module)}
    names = {one.partition(".")[0] for one in outside} - {"castline"} - set(sys.stdlib_module_names)
    distributions = packages_distributions()
    assert not {name for name in names if not {d.lower().replace("_", "-") for d in distributions[name]} & reached}


# The job's own steps


def test_a_job_takes_objects_by_what_is_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever files of a manifest are called in the container, and whatever else lies there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/deep/x").write_bytes(b"whole")
    (tmp_path / "in/other").write_bytes(b"other")
    oid = hashlib.md5(b"whole").hexdigest()
    sagemaker_job._lay_out(Path("in"), {f"{oid}.dir"})
    assert Path(f".dvc/cache/files/md5/{oid[:2]}/{oid[2:]}.dir").read_bytes() == b"whole"
    assert len([path for path in Path(".dvc").rglob("*") if path.is_file()]) == 1
    (tmp_path / "in/deep/x").write_bytes(b"damaged")
    with pytest.raises(DataError, match="1 of 1 objects did not come whole"):
        sagemaker_job._lay_out(Path("in"), {oid})


SMALL = """stages:
  train:
    cmd: python train.py
    deps: [data.txt, train.py]
    params: [head]
    outs: [build/model]
    plots: [reports/curves.csv: {cache: false}]
"""
SCRIPT = """
from pathlib import Path
for path in ("build/model/deep/b", "build/model/a", "reports/curves.csv"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(path + Path("data.txt").read_text())
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a stage `train` that takes no time, before it has run."""
    folder = tmp_path_factory.mktemp("small") / "project"
    for name, text in {
        "dvc.yaml": SMALL, "train.py": SCRIPT, "data.txt": "1", "params.yaml": "head: 1\nother: 1\n",
        "conf/config.yaml": "", "conf/data.yaml": "",
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    run(folder, "dvc", "init", "-q", "--no-scm")
    return folder


@pytest.fixture(scope="module")
def left(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a job that trained it with another setting left, as a folder."""
    there, model = tmp_path_factory.mktemp("there") / "project", tmp_path_factory.mktemp("model")
    shutil.copytree(small, there)
    (there / "params.yaml").write_text("head: 2\nother: 1\n")
    run(there, "dvc", "repro", "-q")
    job = {"commit": "c" * 40, "stages": ["train"], "params": "head: 2\nother: 1\n"}
    job["before"] = hashlib.sha256((small / "params.yaml").read_bytes()).hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(there)
        sagemaker_job._hand_over(job, model)
    return model


@pytest.fixture
def here(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shutil.copytree(small, tmp_path / "here")
    monkeypatch.chdir(folder)
    return folder


def packed(left: Path, path: Path, change: Callable[[Path], None] = lambda folder: None) -> Path:
    folder = path.with_suffix(".folder")
    shutil.copytree(left, folder)
    change(folder)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, ".")
    return path


def state(folder: Path) -> dict[str, bytes]:
    """All of a project but the cache, where an object more does no harm, and what DVC keeps for itself."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[:2] not in ((".dvc", "cache"), (".dvc", "tmp"))
    }


def test_what_a_job_left_comes_back_as_if_it_had_been_trained_here(here: Path, left: Path, tmp_path: Path) -> None:
    assert take(packed(left, tmp_path / "model.tar.gz")) == ["train"]
    assert (here / "build/model/deep/b").read_text() == "build/model/deep/b1"
    assert (here / "reports/curves.csv").read_text() == "reports/curves.csv1"
    assert "head: 2" in (here / "params.yaml").read_text()
    assert "up to date" in run(here, "dvc", "status")
    assert not list((here / ".dvc").glob(".castline-job-*"))
    assert take(packed(left, tmp_path / "again.tar.gz")) == ["train"], "twice is once"
    # The run-cache has it.
    shutil.rmtree(here / "build")
    (here / "dvc.lock").unlink()
    assert "Running stage" not in run(here, "dvc", "repro")


@pytest.mark.parametrize(
    ("file", "old", "new", "word"),
    [
        ("data.txt", "1", "2", "data.txt is another here"),
        ("train.py", "a", "b", "train.py is another here"),
        ("params.yaml", "head: 1", "head: 3", "params.yaml is another"),
        ("dvc.yaml", "[head]", "[head, other]", "settings of train"),
        ("dvc.yaml", "python train.py", "python train.py x", "stage train is another here"),
        ("dvc.yaml", "build/model", "build/models", "stage train is another here"),
        ("dvc.yaml", "  train:", "  tune:", "stage train is another here"),
    ],
)
def test_what_does_not_fit_the_project_changes_nothing(
    here: Path, left: Path, tmp_path: Path, file: str, old: str, new: str, word: str
) -> None:
    (here / file).write_text((here / file).read_text().replace(old, new))
    before = state(here)
    with pytest.raises(DataError, match=rf"(?s){word}.*c{{12}}"):
        take(packed(left, tmp_path / "model.tar.gz"))
    assert state(here) == before


def _result(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        result = json.loads((folder / "result.json").read_text())
        (folder / "result.json").write_text(json.dumps(result | values))

    return change


def _one_object(folder: Path, data: bytes | None) -> None:
    path = next(path for path in sorted(folder.glob("objects/*/*")) if path.suffix != ".dir")
    path.unlink() if data is None else path.write_bytes(data)


def _leading_out(folder: Path) -> None:
    """A listing, in order by its own name, that would be laid out beside the folder."""
    result = json.loads((folder / "result.json").read_text())
    listing = json.dumps([{"md5": hashlib.md5(b"x").hexdigest(), "relpath": "../../../escaped"}]).encode()
    for data, end in ((listing, ".dir"), (b"x", "")):
        oid = hashlib.md5(data).hexdigest() + end
        (folder / "objects" / oid[:2]).mkdir(exist_ok=True)
        (folder / "objects" / oid[:2] / oid[2:]).write_bytes(data)
    for out in result["entries"]["train"]["outs"]:
        if out["path"] == "build/model":
            out["md5"] = hashlib.md5(listing).hexdigest() + ".dir"
    (folder / "result.json").write_text(json.dumps(result))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda folder: (folder / "more").write_text(""), "no job of ours leaves"),
        (lambda folder: (folder / "result.json").unlink(), "cannot be used"),
        (lambda folder: (folder / "result.json").write_text("[]"), "cannot be used"),
        (lambda folder: (folder / "result.json").write_text("[" * 100_000), "cannot be used"),
        (lambda folder: _one_object(folder, b"other"), "not what its name says"),
        (lambda folder: _one_object(folder, None), "1 objects are missing"),
        (_leading_out, "cannot be used"),
        (_result(stages=["evaluate"], entries={"evaluate": {"outs": []}}), "cannot be used"),
        (_result(entries={"train": {"outs": [{"path": "/etc/x", "md5": "../../../x"}]}}), "cannot be used"),
        (_result(entries={"train": {}}), "cannot be used"),
        (_result(entries=None), "cannot be used"),
        (_result(commit="x; rm -rf ~"), "cannot be used"),
    ],
)
def test_what_no_job_would_leave_changes_nothing(
    here: Path, left: Path, tmp_path: Path, change: Callable[[Path], None], word: str
) -> None:
    before = state(here)
    with pytest.raises(DataError, match=word):
        take(packed(left, tmp_path / "model.tar.gz", change))
    assert state(here) == before and not (tmp_path / "escaped").exists()


def _no_hash(folder: Path) -> None:
    """As entries of DVC 2 are: their objects lie elsewhere in the cache, where there are none."""
    result = json.loads((folder / "result.json").read_text())
    for out in result["entries"]["train"]["outs"]:
        del out["hash"]
    (folder / "result.json").write_text(json.dumps(result))


def test_a_model_half_in_its_place_gives_way_to_what_was_there(here: Path, left: Path, tmp_path: Path) -> None:
    before = state(here)
    with mock.patch("dvc.stage.cache.StageCache.save", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        take(packed(left, tmp_path / "killed.tar.gz"))
    assert state(here) == before
    take(packed(left, tmp_path / "model.tar.gz"))
    before = state(here)
    with pytest.raises(DataError):
        take(packed(left, tmp_path / "old.tar.gz", _no_hash))
    assert state(here) == before


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@pytest.mark.parametrize(
    "member",
    [
        _member("../escaped"),
        _member("/tmp/escaped"),
        _member("objects/aa/../../../escaped"),
        _member("objects/aa/" + "b" * 30, tarfile.SYMTYPE, "/etc/passwd"),
        _member("result.json", tarfile.LNKTYPE, "/etc/passwd"),
        _member("result.json", tarfile.FIFOTYPE),
        _member("objects/aa/" + "b" * 30, tarfile.CHRTYPE),
        _member("objects/AA/" + "b" * 30),
        _member("a\nb"),
    ],
    ids=lambda member: repr(member.name),
)
def test_members_of_an_archive_lead_nowhere(here: Path, tmp_path: Path, member: tarfile.TarInfo) -> None:
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(member, io.BytesIO())
    before = state(here)
    with pytest.raises(DataError, match="no job of ours leaves"):
        take(path)
    assert state(here) == before and not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("data", [b"", b"no archive", b"\x1f\x8b\x08\x00"], ids=["empty", "text", "cut"])
def test_what_is_no_archive_is_said(here: Path, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.tar.gz").write_bytes(data)
    with pytest.raises(DataError, match=r"unpacked|cannot be used"):
        take(tmp_path / "model.tar.gz")


# What can be sent


def test_no_hours_are_not_the_settings_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(app, ["sagemaker", "train", "--max-hours", "0", "--dry-run"])
    assert isinstance(done.exception, ConfigError) and "max_hours is 0" in str(done.exception)


def test_code_that_git_does_not_know_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("conf/config.yaml", "castline/known.py", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "git", "add", "conf", "castline")
    run(tmp_path, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "t")
    (tmp_path / "castline/new.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"not committed: castline/new\.py"):
        plan([])


@pytest.fixture(scope="module")
def committed(three_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(three_people, tmp_path_factory.mktemp("committed") / "project", symlinks=True)
    commit(folder)
    return folder


@pytest.mark.slow
def test_only_training_is_sent_and_only_from_a_commit(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(committed)
    before = (committed / "params.yaml").read_bytes()
    tuned = plan(["training=last_block"])
    assert tuned.stages == ("train",) and "build/embeddings/one.parquet" in tuned.inputs
    assert tuned.work.tuned and tuned.work.faces == 18
    assert not any("data" in path.split("/") for path in tuned.inputs), "no photo"
    light = plan(["augmentation=light", "augmentation.views=2"])
    assert light.stages == ("features@one", "train") and "build/features/one.parquet" not in light.inputs
    assert {"build/embeddings/one.parquet", "build/base", "build/dataset.parquet"} <= light.inputs.keys()
    assert light.key != tuned.key and plan(["training=last_block"]).key == tuned.key
    with pytest.raises(DataError, match="not up to date: dataset; a job can only train"):
        plan(["split.test=0.3"])
    with pytest.raises(ConfigError):
        plan(["training.lr=fast"])
    assert (committed / "params.yaml").read_bytes() == before
    (committed / "labels/people.csv").write_text("name\n")
    with pytest.raises(DataError, match=r"not committed: labels/people.csv"):
        plan([])

"""The pipeline as a user runs it, on part of the sample cast."""

import csv
import json
import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import requests
import yaml
from edge_device import Device, index_unreachable, of_this_python
from notebook_run import shown_by
from projects import PEOPLE, ROOT, cast, contents, environment, make_project, run, stages_run

from castline.edge.recipes import PackageSettings
from castline.files import tables
from castline.labels.form import UNNAMED
from castline.runtime import Recognizer
from castline.runtime.video import Video

pytestmark = pytest.mark.slow


def answer(labeller: int, name: str) -> dict[str, object]:
    """What Label Studio has of a labeller who boxed most of a photo."""
    value = {"x": 10, "y": 10, "width": 80, "height": 80, "rotation": 0, "rectanglelabels": [name]}
    return {"completed_by": labeller, "result": [{"id": "r", "type": "rectanglelabels", "value": value}]}


@pytest.fixture(scope="module")
def project(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose pipeline has run, once for all tests here."""
    folder = tmp_path_factory.mktemp("pipeline") / "project"
    shutil.copytree(whole, folder, symlinks=True)
    stages = stages_run((folder / "repro.log").read_text())
    assert set(stages[:2]) == {"base", "reference"}, "before there were photos"
    assert stages[2:] == [
        "faces@one", "embeddings@one", "dataset", "train", "evaluate", "convert", "export", "package",
    ]  # fmt: skip
    return folder


def test_every_photo_is_accounted_for(project: Path) -> None:
    rejects = tables.read(project / "build/faces/one.rejects.parquet").to_pylist()
    assert {row["photo"]: row["reason"] for row in rejects} == {
        "bruno/page.jpg": "not_a_picture",
        "chidi/empty.jpg": "empty_file",
    }
    rows = tables.read(project / "build/dataset.parquet").to_pylist()
    faces = {row["photo"] for row in rows}
    batch = (project / "data/one").resolve()
    files = {path.relative_to(batch).as_posix() for path in batch.rglob("*.jpg")}
    assert faces | {row["photo"] for row in rejects} == files
    left_out = {row["photo"]: row["reason"] for row in rows if not row["kept"]}
    assert left_out == {
        "alma/alma_01.jpg": "the same file again",  # after again.jpg, by name
        "lost.jpg": "unlabelled: it lies in no person's folder",
    }
    assert {row["person"] for row in rows if row["stranger"]} == {"mirela"}


def test_the_split_is_stratified_and_near_duplicates_stay_together(project: Path) -> None:
    rows = tables.read(project / "build/dataset.parquet").to_pylist()
    for person in PEOPLE:
        sides = [row["split"] for row in rows if row["person"] == person and row["kept"]]
        assert (sides.count("test"), sides.count("val"), sides.count("train")) == (2, 1, 7)
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["group"], set()).add(row["split"])
    assert all(len(found - {None}) <= 1 for found in sides.values())


def test_metrics_tables_and_report_say_the_same(project: Path) -> None:
    metrics = json.loads((project / "reports/metrics.json").read_text())
    assert metrics["n_test"] == 8
    assert metrics["n_people"] == 4
    assert metrics["top1"] >= 0.75
    confusion = (project / "reports/confusion.csv").read_text().splitlines()[1:]
    right = sum(len(set(line.split(","))) == 1 for line in confusion)
    assert right / len(confusion) == pytest.approx(metrics["top1"], abs=1e-4)
    report = (project / "reports/index.html").read_text()
    assert all(person in report for person in PEOPLE)
    assert "CC0-1.0" in report
    assert "Left out: some of them" in report
    with (project / "reports/groups.csv").open() as file:
        groups = list(csv.DictReader(file))
    for by in ("face size", "blur", "brightness", "head turned"):
        assert sum(int(group["faces"]) for group in groups if group["by"] == by) == metrics["n_test"]
    shown = run(project, "dvc", "metrics", "show")
    assert "top1" in shown
    plots = run(project, "dvc", "plots", "show", "--json")
    assert all(name in plots for name in ("Loss", "Accuracy", "ROC", "Confusion", "Groups"))


def test_a_second_run_does_nothing(project: Path) -> None:
    output = run(project, "dvc", "repro")
    assert stages_run(output) == []
    assert "Data and pipelines are up to date." in output


def test_deleted_outputs_come_back_without_running_anything(project: Path) -> None:
    outputs = (
        "build/faces/one.parquet", "build/dataset.parquet", "build/model/base", "build/model/head.safetensors",
        "build/converted", "reports/index.html", "models/recognizer",
    )  # fmt: skip
    before = [contents(project / output) for output in outputs]
    for path in (project / output for output in outputs):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert stages_run(run(project, "dvc", "repro")) == []
    assert [contents(project / output) for output in outputs] == before


def test_the_model_names_faces_for_label_studio(project: Path) -> None:
    command = ["castline", "label", "backend", "--port", "0"]
    with subprocess.Popen(command, cwd=project, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            version, _, url = process.stdout.readline().strip().partition(" answers at ")
            images = [f"/data/local-files/?d=data/one/{photo}" for photo in ("lost.jpg", "bruno/bruno_02.jpg")]
            tasks = [{"id": 1, "data": {"image": image}} for image in images]
            answer = requests.post(f"{url}/predict", json={"tasks": tasks}, timeout=60).json()["results"]
            found = [result["result"][0]["value"]["rectanglelabels"] for result in answer]
            name = Recognizer(project / "models/recognizer").identify(project / "data/one/lost.jpg")[0].name
            assert found == [[name.nearest if name.known else UNNAMED], ["bruno"]]
            assert {result["model_version"] for result in answer} == {version}
        finally:
            process.terminate()
    assert process.returncode == 0


def test_another_head_reruns_no_face_no_feature_and_converts_nothing(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "project"
    shutil.copytree(project, elsewhere, symlinks=True)
    run(elsewhere, "castline", "compose", "head.dropout=0.5")
    assert stages_run(run(elsewhere, "dvc", "repro")) == ["train", "evaluate", "export", "package"]
    run(elsewhere, "castline", "compose")
    assert stages_run(run(elsewhere, "dvc", "repro")) == []  # from the run-cache


def test_decisions_and_labels_count_at_the_next_run_and_what_does_not_fit_is_said(
    project: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "project"
    shutil.copytree(project, elsewhere, symlinks=True)
    assert "faces to look at: build/review/review.html" in run(elsewhere, "castline", "review")
    before = {row["photo"]: row for row in tables.read(elsewhere / "build/dataset.parquet").to_pylist()}
    out, moved = before["alma/alma_02.jpg"], before["lost.jpg"]
    decisions = [
        {"sha256": out["photo_sha256"], "face": 0, "decision": "leave out"},
        {"sha256": moved["photo_sha256"], "face": 0, "decision": "it is", "person": "edda"},
        {"sha256": "0" * 64, "face": 0, "decision": "keep"},
    ]
    labels = elsewhere / "labels"
    (labels / "review.json").write_text(json.dumps({"decisions": decisions}))
    (labels / "sources.csv").write_text(
        "photo,source\none/bruno/bruno_01.jpg,a shoot\none/bruno/bruno_02.jpg,a shoot\n"
    )
    (labels / "batches").mkdir()
    task = {"data": {"photo": "one/chidi/chidi_02.jpg"}, "annotations": [answer(6, "chidi"), answer(7, "alma")]}
    (labels / "batches/one.json").write_text(json.dumps([task]))
    output = run(elsewhere, "dvc", "repro", "dataset")
    assert stages_run(output) == ["dataset"]
    assert "labellers disagree on 1 photos: castline label push --batch one --disagreements" in output
    assert json.loads((elsewhere / "reports/labels.json").read_text())["faces"]["disagreed"] == 1
    assert "labels/review.json: 1 of its entries fit no face that was found: 000000000000…" in output
    after = {row["photo"]: row for row in tables.read(elsewhere / "build/dataset.parquet").to_pylist()}
    assert after["alma/alma_02.jpg"]["reason"] == "left out by review"
    assert after["chidi/chidi_02.jpg"]["reason"] == "labellers disagree: alma, chidi"
    # The same file lies under edda's name, too: it counts once.
    assert (after["lost.jpg"]["person"], after["lost.jpg"]["group"]) == ("edda", after["edda/edda_01.jpg"]["group"])
    assert sorted(after[photo]["kept"] for photo in ("lost.jpg", "edda/edda_01.jpg")) == [False, True]
    assert after["bruno/bruno_01.jpg"]["split"] == after["bruno/bruno_02.jpg"]["split"]
    moved_sides = [photo for photo, row in after.items() if row["split"] != before[photo]["split"] and row["split"]]
    assert all(photo.startswith(("bruno/", "lost", "edda/edda_01")) for photo in moved_sides)

    (labels / "review.json").write_text("{")
    output = run(elsewhere, "dvc", "repro", "dataset", fails=True)
    assert "labels/review.json: not readable as JSON" in output and "Traceback" not in output
    (labels / "review.json").unlink()
    (labels / "sources.csv").unlink()
    shutil.rmtree(labels / "batches")
    assert stages_run(run(elsewhere, "dvc", "repro", "dataset")) == []  # from the run-cache


def test_the_bundle_holds_what_it_says(project: Path) -> None:
    folder = project / "models/recognizer"
    bundle = json.loads((folder / "bundle.json").read_text())
    assert bundle["people"] == list(PEOPLE)
    assert set(bundle["files"]) == {"onnx", "float32", "float16", "int8"}
    for file in bundle["files"].values():
        assert (folder / file["file"]).stat().st_size == file["bytes"]
        assert file["agreement"] >= 0.9
        assert file["latency_ms"] > 0
    assert bundle["provenance"]["base_model"]["licence"] == "CC0-1.0"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".onnx", ".tflite", ".safetensors", ".parquet"}


def test_identify_names_people_and_draws_them(project: Path, tmp_path: Path) -> None:
    picture = tmp_path / 'a "name"\nwith <odd> parts.jpg'
    picture.write_bytes((ROOT / "sample/photos/first/alma/alma_15.jpg").read_bytes())
    for file in ("float32", "float16", "int8"):
        found = json.loads(run(project, "castline", "identify", str(picture), "--json", "--file", file))
        assert [person["name"] for person in found[0]["people"]] == ["alma"]
    output = run(project, "castline", "identify", str(picture), "--out", str(tmp_path / "out"))
    assert "alma" in output
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".jpg"]


def test_identify_tells_who_is_on_screen_when(project: Path, tmp_path: Path) -> None:
    """Of the three people of the sample's clip, one is of this cast."""
    photo, clip, out = ROOT / "sample/photos/first/alma/alma_15.jpg", ROOT / "sample/clip.mp4", tmp_path / "out"
    truth = json.loads((ROOT / "sample/clip.json").read_text())["people"]
    command = ("castline", "identify", str(photo), str(clip), "--threshold", "0.45", "--json")
    picture, video = json.loads(run(project, *command, "--out", str(out), "--draw"))
    assert [person["name"] for person in picture["people"]] == ["alma"]
    assert [seen["name"] for seen in video["appearances"]] == ["alma", "unknown", "unknown"]
    for seen, true in zip(video["appearances"], truth, strict=True):
        assert seen["start"] == pytest.approx(true["start"], abs=0.5)
        assert seen["end"] == pytest.approx(true["end"], abs=0.5)
    names = {"alma_15.named.jpg", "clip.people.json", "clip.people.csv", "clip.named.mp4"}
    assert {path.name for path in out.iterdir()} == names
    written = json.loads((out / "clip.people.json").read_text())
    assert written["appearances"] == video["appearances"]
    output = run(project, "castline", "identify", str(clip), "--out", str(out), "--fps", "4")
    assert "28 frames looked at" in output
    assert {path.name for path in out.iterdir()} == names | {"clip-2.people.json", "clip-2.people.csv"}
    (tmp_path / "page.mp4").write_text("<html></html>")
    output = run(project, "castline", "identify", str(tmp_path / "page.mp4"), str(photo), fails=True)
    assert "page.mp4: no video that can be read" in output
    assert "alma" in output
    assert "Traceback" not in output
    assert "--out FOLDER" in run(project, "castline", "identify", str(clip), "--draw", fails=True)


def test_identify_says_what_is_wrong(project: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.jpg"
    page.write_text("<html></html>")
    good = str(ROOT / "sample/photos/first/alma/alma_15.jpg")
    output = run(project, "castline", "identify", str(page), good, fails=True)
    assert "page.jpg: not a picture (it is a web page)" in output
    assert "alma" in output  # the others are named all the same
    assert "no bundle here" in run(project, "castline", "identify", good, "--bundle", str(tmp_path), fails=True)
    assert "there is no int4 file" in run(project, "castline", "identify", good, "--file", "int4", fails=True)
    assert "Traceback" not in output


def test_the_device_needs_neither_torch_nor_tensorflow(project: Path) -> None:
    edda = str(ROOT / "sample/photos/first/edda/edda_18.jpg")
    code = (
        "import sys; from castline.runtime import Recognizer; "
        f"print(Recognizer('models/recognizer').identify({edda!r})[0].name.shown); "
        "print(sorted({'torch', 'tensorflow', 'cv2', 'pyarrow', 'omegaconf'} & set(sys.modules)))"
    )
    assert run(project, "python", "-c", code).splitlines()[-2:] == ["edda", "[]"]


def test_a_device_names_everybody_as_the_desktop_does(project: Path, tmp_path: Path) -> None:
    """What the recipe installs into an empty environment, packages from the index, and what that then runs."""
    if why := index_unreachable():
        pytest.skip(f"devices get Python packages from an index, and none can be reached: {why}")
    (release,) = project.glob("build/edge/artifacts/*/*/recognizer-*.zip")
    (program,) = project.glob("build/edge/artifacts/*/*/castline-edge-*.zip")
    device = Device(tmp_path / "device", program, PackageSettings(video=True))
    done = device.step("classic", "install", release, of_this_python())
    assert done.returncode == 0, done.stdout + done.stderr
    ours = {"PYTHONPATH": str(device.program), "PATH": "/usr/bin:/bin"}

    def on_device(*arguments: str) -> str:
        command = [device.python, *arguments]
        done = subprocess.run(command, cwd=device.work, env=ours, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    absent = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    assert on_device("-c", absent, "av", "awsiot", "torch", "tensorflow", "dvc", "typer") == "['av', 'awsiot']\n"

    desktop = Recognizer(project / "models/recognizer", "float16")
    # Two of this cast among others and a stranger. So small a cast has no threshold of its own; this one lies between.
    clip, scene, threshold = ROOT / "sample/clip.mp4", ROOT / "sample/scenes/scene_06.jpg", 0.49
    strict = Recognizer(project / "models/recognizer", "float16", threshold=threshold)
    wanted_of = {
        "clip": [desktop.identify_photo(photo) for _, photo in Video(clip, 4, desktop.photos)],
        "scene": [strict.identify(scene)],
    }
    sources = {
        "clip": {"Source": f"video:{clip}", "Fps": "4"},
        "scene": {"ImageName": str(scene), "Threshold": str(threshold)},
    }
    for name, source in sources.items():
        (device.work / "edge.json").write_text(json.dumps({**source, "StorePath": "store"}))
        output = on_device("-m", "castline.edge", "--config", "edge.json", "--work", name, "--once")
        seen = [json.loads(line)["faces"] for line in output.splitlines()]
        wanted = wanted_of[name]
        assert [[(face["label"], face["known"]) for face in faces] for faces in seen] == [
            [(person.name.shown, person.name.known) for person in people] for people in wanted
        ]
        for face, person in zip(chain(*seen), chain(*wanted), strict=True):
            assert face["score"] == pytest.approx(person.name.confidence, abs=0.01)
            assert face["box"] == pytest.approx(person.face.box, abs=1)
        labels = {face["label"] for face in chain(*seen)}
        assert len(seen) == len(wanted) and len(labels) > 1
        assert ("unknown" in labels) == (name == "scene")


def test_the_readmes_python_runs(project: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    photo = str(ROOT / "sample/photos/first/alma/alma_15.jpg")
    assert "sample/scenes/scene_08.jpg" in snippet
    assert run(project, "python", "-c", snippet.replace("sample/scenes/scene_08.jpg", photo)).startswith("alma")


def test_a_changed_file_of_the_bundle_is_not_used(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recognizer"
    shutil.copytree(project / "models/recognizer", folder)
    with (folder / "model.tflite").open("r+b") as file:
        file.seek(5000)
        file.write(b"changed")
    good = str(ROOT / "sample/photos/first/alma/alma_15.jpg")
    output = run(project, "castline", "identify", good, "--bundle", str(folder), fails=True)
    assert "not the file that bundle.json speaks of" in output


def test_a_file_that_is_worse_than_allowed_stops_the_stage_or_is_left_out(project: Path, tmp_path: Path) -> None:
    """Weights ruined on purpose: int8 of a net that was calibrated on one black face."""
    elsewhere = tmp_path / "project"
    shutil.copytree(project, elsewhere, symlinks=True)
    script = elsewhere / "stages/convert.py"
    script.write_text(
        script.read_text().replace("np.stack([train[i] for i in spread])", "np.zeros_like(train[0])[None]")
    )
    run(elsewhere, "castline", "compose", "export.int8=[full]")
    output = run(elsewhere, "dvc", "repro", "export", fails=True)
    assert "more lost on the test split than export.allowance grants" in output
    assert re.search(r"int8 .*FAILED", output)
    assert not (elsewhere / "models/recognizer").exists()
    run(elsewhere, "castline", "compose", "export.int8=[full]", "export.optional=[int8]")
    assert re.search(r"int8 .*left out", run(elsewhere, "dvc", "repro", "export"))
    bundle = json.loads((elsewhere / "models/recognizer/bundle.json").read_text())
    assert set(bundle["files"]) == {"onnx", "float32", "float16"}
    assert not (elsewhere / "models/recognizer/model_int8.tflite").exists()
    run(elsewhere, "castline", "compose", "export.int8=[full,float_activations]")
    run(elsewhere, "dvc", "repro", "export")
    bundle = json.loads((elsewhere / "models/recognizer/bundle.json").read_text())
    tried = bundle["provenance"]["int8"]
    assert tried["way"] == "float_activations" and tried["cosines"]["full"] < 0.98 <= tried["cosines"][tried["way"]]
    assert bundle["files"]["int8"]["top1"] >= bundle["files"]["float32"]["top1"] - 0.01


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ({"alma": 3}, "only 'alma' is labelled"),
        ({"alma": 3, "bruno": 1}, "one photo only of 'bruno'"),
        ({}, "there is no photo in this batch"),
    ],
)
def test_too_little_data_stops_before_any_work(tmp_path: Path, people: dict[str, int], message: str) -> None:
    folder = made_by_hand(tmp_path, "hand")
    (folder / "data" / "hand").mkdir(parents=True)
    for person, count in people.items():
        cast(folder / "data" / "hand", (person,), count)
    output = run(folder, "dvc", "repro", fails=True)
    assert message in output
    assert "Traceback" not in output
    assert not (folder / "build").exists()


def made_by_hand(folder: Path, batch: str) -> Path:
    """A project where `castline data` was not asked: the list of batches is somebody's own, and so are the folders."""
    project = make_project(folder / "project")
    (project / "data.dvc").unlink()
    (project / "conf/data.yaml").write_text(yaml.safe_dump({"data": {"batches": [batch]}}))
    run(project, "castline", "compose")
    return project


def test_a_batch_that_is_not_there_is_said(tmp_path: Path) -> None:
    folder = made_by_hand(tmp_path, "absent")
    assert "data/absent: no such batch" in run(folder, "python", "stages/faces.py", "absent", fails=True)


@pytest.mark.parametrize(
    ("notebook", "says", "pictures"),
    [
        ("quick_start", r"chidi +confidence", 2),
        ("look_at_the_data", r"one/bruno/page\.jpg: not_a_picture", 2),
        ("errors_and_thresholds", r"\d of 8 test faces named right", 4),
        ("compare_two_versions", r"workspace +workspace", 0),
        ("bring_your_own_base_model", r"area under the curve: 0\.\d+", 2),
    ],
)
def test_a_notebook_runs(project: Path, notebook: str, says: str, pictures: int) -> None:
    if not (project / "sample").exists():
        (project / "sample").symlink_to(ROOT / "sample")
    shown = shown_by(ROOT / "notebooks" / f"{notebook}.py", project)
    assert re.search(says, "".join(text for kind, text in shown if kind == "text"))
    assert sum(kind.startswith("image/") for kind, _ in shown) >= pictures

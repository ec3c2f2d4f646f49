"""A person is forgotten, in a project that was trained, released and pushed: nothing of them is left but elsewhere, and
what is said to purge that does."""

import csv
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from projects import ROOT, cast, commit, configure, lighter, make_project, run, stages_run, with_runs_of

from castline.files import tables
from castline.scoring import Scorer

pytestmark = pytest.mark.slow

NAME, WORD = "Zoë Quaresma", b"Quaresma"
KEY = ["batch", "photo", "face"]


def git(folder: Path, *command: str) -> str:
    names = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    done = subprocess.run(["git", *names, *command], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


@dataclass(frozen=True)
class Evidence:
    """What tells that something of the person is there. vectors: (N, D) float32 of each table that has some."""

    photos: set[str]
    chips: set[bytes]
    hashes: set[bytes]
    vectors: list[np.ndarray]

    @classmethod
    def of(cls, folder: Path) -> "Evidence":
        """From the tables of a project that knows them: faces in their folder, and face 0 of the group photo."""
        faces = tables.read(folder / "build/faces/one.parquet")
        theirs = [
            i
            for i, row in enumerate(faces.select(KEY).to_pylist())
            if row["photo"].startswith(NAME) or (row["photo"] == "pile.jpg" and row["face"] == 0)
        ]
        rows = faces.take(theirs).to_pylist()
        embeddings = tables.matrix(tables.read(folder / "build/embeddings/one.parquet").take(theirs), "feature")
        scorer = Scorer.read(folder / "build/model/head.safetensors")
        assert scorer.gallery is not None
        own = scorer.people.index(NAME)
        return cls(
            {row["photo_sha256"] for row in rows if row["photo"] != "pile.jpg"},
            {row["chip"] for row in rows},
            {row["chip_hash"] for row in rows},
            [embeddings, scorer.gallery[[own]], scorer.weight[[own]]],
        )

    def traces(self, *paths: Path) -> set[tuple[str, str]]:
        """Kind and place of everything that is found in files, and in those below folders."""
        return {trace for path in paths for file in _files(path) for trace in self._in(file)}

    def _in(self, file: Path) -> Iterator[tuple[str, str]]:
        data = file.read_bytes()
        kinds = {
            "name": (WORD,),
            "sha256": [sha256.encode() for sha256 in self.photos],
            "chip": self.chips,
            "hash": self.hashes,
            "vector": [row.tobytes() for rows in self.vectors for row in rows],
        }
        if data[:4] == b"PAR1":  # columns are compressed: as they are read
            table = pq.ParquetFile(file).read()
            data = b""
            for column in table.column_names:
                values = [value for value in table.column(column).to_pylist() if value is not None]
                if values and isinstance(values[0], list):
                    data += b"\0".join(np.array(value, np.float32).tobytes() for value in values)
                else:
                    data += b"\0".join(v if isinstance(v, bytes) else str(v).encode() for v in values)
        for kind, needles in kinds.items():
            if any(needle in data for needle in needles):
                yield kind, file.as_posix()


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def everything(folder: Path) -> list[Path]:
    """What the pipeline reads and writes, without the photos themselves."""
    return [folder / name for name in ("build", "models", "reports", "labels", "conf", "params.yaml", "dvc.lock")]


@dataclass(frozen=True)
class Told:
    """A project in which somebody was forgotten. before: traces, then. shown, plan: what a dry run said, in words and
    as JSON; done: what was said when it was done. log: of the run afterwards."""

    folder: Path
    remote: Path
    evidence: Evidence
    before: set[tuple[str, str]]
    changed_by_looking: str
    shown: str
    plan: dict[str, Any]
    done: dict[str, Any]
    log: str


@pytest.fixture(scope="module")
def told(base_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = make_project(tmp_path_factory.mktemp("project"))
    with_runs_of(base_models, folder)
    photos, remote = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("remote")
    lighter(folder, epochs=20, folds=0)
    one = cast(photos / "one", ("alma", "bruno", "chidi"), 6)
    (one / "alma").rename(one / NAME)
    for number, path in enumerate(sorted((one / NAME).iterdir())):
        path.rename(path.with_name(f"{number}.jpg"))
    pair = Image.new("RGB", (600, 300))
    for number, person in enumerate(("alma", "bruno")):
        face = Image.open(sorted((ROOT / "sample/photos/first" / person).iterdir())[8]).convert("RGB")
        pair.paste(face.resize((300, 300)), (300 * number, 0))
    pair.save(one / "pile.jpg", quality=95)
    cast(photos / "two", ("daiyu", "edda"), 5)
    run(folder, "castline", "data", "use", str(one), "--batch", "one")
    run(folder, "castline", "data", "add", str(photos / "two"), "--batch", "two")
    configure(folder, {"core": {"remote": "team & co"}, 'remote "team & co"': {"url": str(remote)}})
    write_labels(folder, one)
    run(folder, "dvc", "repro")
    commit(folder, "the first version")
    git(folder, "tag", "-a", "recognizer@v1.0.0", "-m", "first")
    git(folder, "tag", "-a", "recognizer#prod#1", "-m", "in prod")
    run(folder, "dvc", "push")
    evidence = Evidence.of(folder)
    before = evidence.traces(*everything(folder), remote)

    plan = json.loads(run(folder, "castline", "forget", NAME, "--json"))
    shown = run(folder, "castline", "forget", NAME)
    changed = git(folder, "status", "--porcelain")
    done = json.loads(run(folder, "castline", "forget", NAME, "--yes", "--reason", "request 17", "--json"))
    log = run(folder, "dvc", "repro")
    return Told(folder, remote, evidence, before, changed, shown, plan, done, log)


def write_labels(folder: Path, one: Path) -> None:
    """Labels of every kind that name her."""
    import hashlib

    sha256 = hashlib.sha256((one / "pile.jpg").read_bytes()).hexdigest()
    decision = {"sha256": sha256, "face": 0, "decision": "it is", "person": NAME}
    (folder / "labels/review.json").write_text(json.dumps({"decisions": [decision]}, ensure_ascii=False))
    (folder / "labels/people.csv").write_text(f"person,age\n{NAME},30\nbruno,40\n")
    (folder / "labels/sources.csv").write_text(f"photo,source\none/{NAME}/1.jpg,shoot\none/bruno/bruno_01.jpg,shoot\n")


def test_looking_shows_everything_and_changes_nothing(told: Told) -> None:
    assert told.changed_by_looking == ""
    plan = told.plan
    assert plan["batches"] == ["one"] and len(plan["photos"]) == 6 and plan["faces_in_photos_of_others"] == 1
    assert plan["labels"] == {"labels/people.csv": 1, "labels/review.json": 1, "labels/sources.csv": 1}
    assert plan["rows"]["build/faces/one.parquet"] == plan["rows"]["build/dataset.parquet"] == 7
    assert {kind for kind, _ in told.before} == {"name", "sha256", "chip", "hash", "vector"}, "the scan sees them all"
    for words in ("nothing is changed yet", "7 of build/faces/one.parquet", "it is in prod: promote another first"):
        assert words in told.shown
    assert not told.plan["done"] and told.done["done"]
    assert told.done["rows"] == plan["rows"] and told.done["held_by"] == plan["held_by"]


def test_only_batches_that_had_them_are_read_again(told: Told) -> None:
    assert stages_run(told.log) == [
        "faces@one", "embeddings@one", "base", "dataset", "train", "evaluate", "convert", "export", "package",
    ]  # fmt: skip
    assert "rejected: 6 forgotten" in told.log
    said = json.loads((told.folder / "reports/dataset.json").read_text())
    assert said["rejected"] == {"forgotten": 6} and said["photos"] == 29 and said["people"] == 4
    rejects = tables.read(told.folder / "build/faces/one.rejects.parquet").to_pylist()
    assert rejects == [{"batch": "one", "photo": "", "reason": "forgotten", "detail": ""}] * 6


def test_nothing_of_them_is_left_in_tables_bundle_labels_and_reports(told: Told) -> None:
    folder = told.folder
    register = {(kind, path) for kind, path in told.evidence.traces(folder / "labels") if kind == "sha256"}
    assert told.evidence.traces(*everything(folder)) == register, "the register alone, which says what to leave out"
    assert [Path(path).name for _, path in register] == ["forgotten.csv"]
    bundle = json.loads((folder / "models/recognizer/bundle.json").read_text())
    scorer = Scorer.read(folder / "models/recognizer/head.safetensors")
    assert tuple(bundle["people"]) == scorer.people == ("bruno", "chidi", "daiyu", "edda")
    assert scorer.weight.shape[0] == scorer.bias.shape[0] == 4 and scorer.gallery is not None
    pile = [
        row for row in tables.read(folder / "build/faces/one.parquet", KEY).to_pylist() if row["photo"] == "pile.jpg"
    ]
    assert pile == [{"batch": "one", "photo": "pile.jpg", "face": 1}], "the other face of the group photo stays"


def test_the_audit_and_the_register_name_nobody(told: Told) -> None:
    with (told.folder / "labels/audit.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert line["reason"] == "request 17" and line["batches"] == "one"
    assert (line["photos"], line["faces"], line["labels"], line["photos_deleted"]) == ("6", "1", "3", "0")
    assert line["held_elsewhere_by"].startswith("recognizer v1.0.0; DVC's cache; DVC remote team & co; DVC's")
    assert str(told.folder) not in (told.folder / "labels/audit.csv").read_text()
    with (told.folder / "labels/forgotten.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and {row["person"][-12:] for row in rows} == {line["person"]}


def test_again_is_nothing_new_and_unknown_names_are_said(told: Told) -> None:
    before = git(told.folder, "status", "--porcelain"), (told.folder / "labels/audit.csv").read_bytes()
    again = run(told.folder, "castline", "forget", NAME, "--yes")
    assert "stay, passed over" in again
    assert (git(told.folder, "status", "--porcelain"), (told.folder / "labels/audit.csv").read_bytes()) == before
    said = run(told.folder, "castline", "forget", "Brunno", fails=True)
    assert "close to it: 'bruno'" in said
    said = run(told.folder, "castline", "forget", "bruno", "--reason", "Bruno asked", "--yes", fails=True)
    assert "the reason has the name in it" in said
    assert git(told.folder, "status", "--porcelain") == before[0]


def test_a_label_does_not_bring_them_back(told: Told, tmp_path: Path) -> None:
    folder = copied(told, tmp_path)
    faces = tables.read(folder / "build/faces/two.parquet", ["photo_sha256"]).to_pylist()
    decision = {"sha256": faces[0]["photo_sha256"], "face": 0, "decision": "it is", "person": NAME}
    (folder / "labels/review.json").write_text(json.dumps({"decisions": [decision]}))
    said = run(folder, "dvc", "repro", "dataset", fails=True)
    assert f"labels/ names {NAME!r}, who is forgotten" in said and f"castline forget '{NAME}' --yes" in said
    run(folder, "castline", "forget", NAME, "--yes")
    assert NAME not in (folder / "labels/review.json").read_text()
    status = run(folder, "dvc", "status", "faces@one", "faces@two")
    assert "forgotten.batches.two" in status and "forgotten.batches.one" not in status


def test_an_update_of_a_version_that_knew_them_does_not(told: Told, tmp_path: Path) -> None:
    folder = copied(told, tmp_path)
    cast(tmp_path / "three", ("femi", "alma"), 4)
    (tmp_path / "three/alma").rename(tmp_path / "three" / NAME)
    run(folder, "castline", "data", "add", str(tmp_path / "three"), "--batch", "three")
    run(folder, "castline", "compose", "training=incremental", "training.start=recognizer@v1.0.0")
    log = run(folder, "dvc", "repro", "train")
    assert "1 people and 7 faces are forgotten" in log and "rejected: 4 forgotten" in log
    assert stages_run(log) == ["faces@three", "embeddings@three", "base", "dataset", "train"]
    found = told.evidence.traces(folder / "build", folder / "params.yaml", folder / "dvc.lock")
    assert found == set()
    assert Scorer.read(folder / "build/model/head.safetensors").people == ("bruno", "chidi", "daiyu", "edda", "femi")
    assert len(tables.read(folder / "build/seen.parquet")) == 23


def test_what_is_said_to_purge_caches_and_remotes_does(told: Told, tmp_path: Path) -> None:
    folder = copied(told, tmp_path)
    commit(folder, "without somebody")
    cache, remote = folder / ".dvc/cache/files", tmp_path / "remote"
    shutil.copytree(told.remote, remote)
    configure(folder, {'remote "team & co"': {"url": str(remote)}})
    run(folder, "dvc", "push")
    kinds = {"name", "sha256", "chip", "hash", "vector"}
    for place in (cache, remote):
        assert {kind for kind, _ in told.evidence.traces(place)} == kinds
    run(folder, "dvc", "status")  # which reads the photos, and notes their paths
    said = json.loads(run(folder, "castline", "forget", NAME, "--json"))["held_by"]
    places = [holder["place"] for holder in said]
    purged = ["recognizer v1.0.0", "DVC's cache", "DVC remote team & co", "DVC's list of files"]
    assert places[:4] == purged and "git's history" in places
    files = Path(shlex.split(said[3]["commands"][0])[-1])
    assert {kind for kind, _ in told.evidence.traces(files)} >= {"name"}
    for holder in said[:4]:
        for command in holder["commands"]:
            words = shlex.split(command)
            run(folder, *words, *(["--force"] if words[:2] == ["dvc", "gc"] else []))
    assert told.evidence.traces(cache) == told.evidence.traces(remote) == set()
    assert not files.exists()
    assert run(folder, "dvc", "status").strip() == "Data and pipelines are up to date."
    left = json.loads(run(folder, "castline", "forget", NAME, "--json"))["held_by"]
    assert "recognizer v1.0.0" not in [holder["place"] for holder in left]


def test_their_photos_are_deleted_when_asked_for_and_no_others(told: Told, tmp_path: Path) -> None:
    folder, photos, beside = copied(told, tmp_path), tmp_path / "photos", tmp_path / "beside.jpg"
    link = folder / "data/one"
    shutil.copytree(link.resolve(), photos)
    link.unlink()
    link.symlink_to(photos)
    beside.write_bytes(b"a photo that is not below the batch")
    (photos / NAME / "link.jpg").symlink_to(beside)
    (photos / NAME / "more").symlink_to(tmp_path)
    run(folder, "castline", "data", "check")
    (photos / NAME / "inner").mkdir()
    (photos / "bruno/bruno_01.jpg").rename(photos / NAME / "inner/1.jpg")
    shown = run(folder, "castline", "forget", NAME, "--delete-photos")
    assert "to be deleted" in shown and len(list((photos / NAME).iterdir())) == 9
    run(folder, "castline", "forget", NAME, "--delete-photos", "--yes")
    assert not (photos / NAME).exists() and beside.is_file() and (photos / "pile.jpg").is_file()
    assert len(list((photos / "bruno").iterdir())) == 5 and (tmp_path / "project").is_dir()
    with (folder / "labels/audit.csv").open(newline="") as file:
        assert [line["photos_deleted"] for line in csv.DictReader(file)] == ["0", "9"]


def copied(told: Told, tmp_path: Path) -> Path:
    shutil.copytree(told.folder, tmp_path / "project", symlinks=True)
    return tmp_path / "project"

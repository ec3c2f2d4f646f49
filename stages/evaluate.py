"""The model and its test faces in; metrics, curves, tables and the report out."""

from castline.stage import stage

import json
from collections import Counter
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pyarrow as pa

from castline.errors import DataError
from castline.evaluation import plots
from castline.evaluation.changes import Changes, changes_between
from castline.evaluation.groups import CONDITIONS, Grouping, PeopleFile, by_condition, by_people, read_people
from castline.evaluation.identification import Identification
from castline.evaluation.labelling import read_labelling
from castline.evaluation.measures import Evaluation, Funnel
from castline.evaluation.remembering import Remembering
from castline.evaluation.report import MAX_ASIDES, MAX_MISTAKES, Aside, Mistake, ReportContent, Training, write_report
from castline.evaluation.settings import OpenSetSettings, ReportSettings
from castline.files import params, tables
from castline.files.bundle import FOLDS, HEAD, MEMORY
from castline.files.metrics import write_metrics
from castline.files.weights import sha256_of
from castline.forgetting.register import read_register
from castline.photos.batches import DataSettings, label_of
from castline.scoring import Scorer
from castline.tracking.spool import tracked
from castline.training.memory import part_of
from castline.training.settings import TrainingSettings
from castline.versions.facts import facts_at, facts_here

BUILD, REPORTS = Path("build"), Path("reports")
PEOPLE = Path("labels/people.csv")
KEY = ["batch", "photo", "face"]
BESIDE = "another face in the photo"
TOLD = [f"reports/{name}" for name in (
    "index.html", "metrics.json", "dataset.json", "labels.json", "curves.csv", "roc.csv", "groups.csv", "confusion.csv"
)]  # fmt: skip


@stage
@tracked("evaluate", *TOLD)
def main() -> None:
    batches = params.read("data", DataSettings).read
    settings = params.read("training", TrainingSettings)
    memory = tables.read(BUILD / "model" / MEMORY)
    scorer = Scorer.read(BUILD / "model" / HEAD)
    test = part_of(memory, "test", scorer.people)
    identification = identified(memory, scorer)
    embeddings, scores = scorer(test.features, identification.temperature)
    evaluation = Evaluation(scorer.people, test.people, scores, embeddings)
    tested = memory.take(pa.array(test.rows)).select(KEY).to_pylist()
    found = Found(batches)
    people = read_people(PEOPLE, scorer.people)
    groups = groupings(evaluation, people, found.measured(tested), identification)

    metrics = evaluation.metrics() | identification.metrics()
    random_split = BUILD / "model" / FOLDS / "random_split.json"
    random_top1 = None
    if random_split.is_file() and (said := json.loads(random_split.read_text(encoding="utf-8")))["faces"]:
        random_top1 = (said["right"], said["faces"])
        metrics |= {"random_split_top1": round(said["right"] / said["faces"], 4), "random_split_faces": said["faces"]}
    remembering = None
    if settings.mode == "incremental":
        before = Scorer.read(BUILD / "base" / HEAD)
        earlier = [row["batch"] not in batches for row in tested]
        read = sum(batch in batches for batch in memory.column("batch").to_pylist())
        remembering = Remembering.of(evaluation, before, test.features, earlier, read, len(memory))
        metrics |= remembering.metrics()
    write_metrics(REPORTS / "metrics.json", metrics)
    plots.write_roc_csv(REPORTS / "roc.csv", evaluation.roc)
    plots.write_confusion_csv(REPORTS / "confusion.csv", evaluation)
    plots.write_people_csv(REPORTS / "people.csv", evaluation)
    plots.write_groups_csv(REPORTS / "groups.csv", groups)
    content = ReportContent(
        title="Who is who",
        training=about(scorer, settings, batches),
        evaluation=evaluation,
        funnel=funnel(batches, found.dataset),
        curves=plots.read_curves_csv(REPORTS / "curves.csv"),
        mistakes=mistakes(evaluation, tested, found),
        remembering=remembering,
        identification=identification,
        random_top1=random_top1,
        groupings=groups,
        not_in_cast=people.unknown,
        left_out=found.left_out(),
        doubtful=found.doubtful(),
        labelling=read_labelling(REPORTS / "labels.json"),
        changes=changed(params.read("report", ReportSettings)),
    )
    write_report(REPORTS / "index.html", content)
    for name, value in metrics.items():
        print(f"{name:>20} {value:g}")


def identified(memory: pa.Table, scorer: Scorer) -> Identification:
    folds = sorted((BUILD / "model" / FOLDS).glob("*.safetensors"))
    base = json.loads((BUILD / "model/base/base.json").read_text(encoding="utf-8"))
    settings = params.read("open_set", OpenSetSettings)
    return Identification.of(memory, scorer, settings, [Scorer.read(path) for path in folds], not base["tuned"])


def about(scorer: Scorer, settings: TrainingSettings, batches: list[str]) -> Training:
    base, head = json.loads((BUILD / "model/base/base.json").read_text(encoding="utf-8")), scorer.settings
    options = {key: value for key, value in head.items() if key != "kind" and value}
    return Training(
        base_model=base["name"],
        licence=base["licence"],
        commercial_ok=base["commercial_ok"],
        head=", ".join([head["kind"], *(f"{key} {value}" for key, value in options.items())]),
        start=settings.start if settings.mode == "full" else f"{settings.start}, incremental",
        tune=settings.tune,
        seed=settings.seed,
        batches=batches,
        data_hash=sha256_of(BUILD / "dataset.parquet")[:16],
    )


def funnel(batches: list[str], rows: list[dict[str, str]]) -> Funnel:
    rejects = tables.read_many([BUILD / "faces" / f"{batch}.rejects.parquet" for batch in batches]).to_pylist()
    uses = Counter("strangers" if row["stranger"] else row["split"] for row in rows if row["kept"])
    return Funnel(
        photos=len({(row["batch"], row["photo"]) for row in rows}) + len(rejects),
        rejected=Counter(row["reason"] for row in rejects),
        faces=len(rows),
        left_out=Counter(row["reason"].split(":")[0] for row in rows if not row["kept"]),
        splits={use: uses[use] for use in ("train", "val", "test", "strangers") if uses[use]},
    )


class Found:
    """The faces of the batches that are read, with their pictures: a row a face, as in the dataset."""

    def __init__(self, batches: list[str]) -> None:
        columns = [*KEY, "chip", *(condition.column for condition in CONDITIONS)]
        self.faces = tables.read_many([BUILD / "faces" / f"{batch}.parquet" for batch in batches], columns)
        self.dataset = tables.read(BUILD / "dataset.parquet").to_pylist()
        self.place = {tuple(row.values()): i for i, row in enumerate(self.faces.select(KEY).to_pylist())}

    def row(self, face: dict[str, str]) -> int | None:
        """Where a face is; None of one whose photo is elsewhere."""
        return self.place.get(tuple(face[key] for key in KEY))

    def chip(self, row: int) -> bytes:
        return self.faces.column("chip")[row].as_py()

    def measured(self, tested: list[dict[str, str]]) -> "dict[str, np.ndarray]":
        rows = pa.array([self.row(face) for face in tested], pa.int64())
        taken = self.faces.select([condition.column for condition in CONDITIONS]).take(rows)
        return {name: taken.column(name).to_numpy().astype(np.float64) for name in taken.column_names}

    def left_out(self) -> list[Aside]:
        """Some of each reason in turn; nobody who merely stands beside somebody."""
        reasons: dict[str, list[dict[str, str]]] = {}
        for face in self.dataset:
            if not face["kept"] and face["reason"] != BESIDE:
                reasons.setdefault(face["reason"].split(":")[0], []).append(face)
        turns = zip_longest(*(reasons[reason] for reason in sorted(reasons)))
        faces = [face for turn in turns for face in turn if face]
        return [self.aside(face, face["reason"]) for face in faces[:MAX_ASIDES]]

    def doubtful(self) -> list[Aside]:
        """Least like the person's other faces first."""
        faces = [face for face in self.dataset if face["kept"] and face.get("doubt")]
        faces.sort(key=lambda face: 1.0 if face["score"] is None else face["score"])
        return [self.aside(face, face["doubt"]) for face in faces[:MAX_ASIDES]]

    def aside(self, face: dict[str, str], why: str) -> Aside:
        label = label_of(face["photo"])
        person = face["person"] or (label.person if label else "")
        row = self.place[tuple(face[key] for key in KEY)]
        return Aside(self.chip(row), person, why, f"{face['batch']}/{face['photo']}")


def groupings(
    evaluation: Evaluation,
    people: PeopleFile,
    measured: "dict[str, np.ndarray]",
    identification: Identification,
) -> list[Grouping]:
    who, right = [evaluation.people[i] for i in evaluation.truth], evaluation.ranks == 0
    named = None
    threshold = identification.chosen.at(identification.settings.fpir).threshold
    if threshold is not None:
        named = right & (identification.statistic[identification.test] >= threshold)
    return [*by_people(people, who, right, named), *by_condition(measured, who, right, named)]


def changed(settings: ReportSettings) -> Changes | None:
    """Read what the version's commit has, and what was just written here."""
    if not settings.since:
        return None
    before, now, register = facts_at(settings.commit), facts_here().state, read_register()
    if not before.params:
        raise DataError(
            f"{settings.since}: its commit {settings.commit[:7]} is not in this clone",
            "git fetch --tags; in a shallow clone git fetch --unshallow",
        )
    # Of the people who are gone, those are not named again who are forgotten. The version has names as spreadsheets do.
    tested = {
        name: counts
        for name, counts in before.state.tested.items()
        if name in now.tested or not (register.knows(name) or register.knows(name.removeprefix("'")))
    }
    return changes_between(settings.since, replace(before.state, tested=tested), now)


def mistakes(evaluation: Evaluation, tested: list[dict[str, str]], found: Found) -> list[Mistake]:
    """With pictures; those of faces whose photos are elsewhere cannot be shown."""
    pictured = [(i, row) for i in evaluation.mistakes() if (row := found.row(tested[i])) is not None]
    return [
        Mistake(
            chip=found.chip(row),
            truth=evaluation.people[evaluation.truth[i]],
            predicted=evaluation.people[evaluation.predicted[i]],
            confidence=float(evaluation.scores[i, evaluation.predicted[i]]),
            photo=f"{tested[i]['batch']}/{tested[i]['photo']}",
        )
        for i, row in pictured[:MAX_MISTAKES]
    ]


if __name__ == "__main__":
    main()

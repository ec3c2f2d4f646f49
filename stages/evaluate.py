"""The model and its test faces in; metrics, curves, tables and the report out."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa

from castline import params, tables
from castline.bundle import FOLDS, HEAD, MEMORY
from castline.errors import exits_cleanly
from castline.evaluation import plots
from castline.evaluation.identification import Identification
from castline.evaluation.measures import Evaluation, Funnel
from castline.evaluation.remembering import Remembering
from castline.evaluation.report import Mistake, ReportContent, Training, write_report
from castline.evaluation.settings import OpenSetSettings
from castline.metrics import write_metrics
from castline.photos.batches import DataSettings
from castline.scoring import Scorer
from castline.training.memory import part_of
from castline.training.settings import TrainingSettings
from castline.weights import sha256_of

BUILD, REPORTS = Path("build"), Path("reports")


@exits_cleanly
def main() -> None:
    batches = params.read("data", DataSettings).read
    settings = params.read("training", TrainingSettings)
    memory = tables.read(BUILD / "model" / MEMORY)
    scorer = Scorer.read(BUILD / "model" / HEAD)
    test = part_of(memory, "test", scorer.people)
    embeddings, scores = scorer(test.features)
    evaluation = Evaluation(scorer.people, test.people, scores, embeddings)
    tested = memory.take(pa.array(test.rows)).select(["batch", "photo", "face"]).to_pylist()

    identification = Identification.of(
        memory,
        scorer,
        params.read("open_set", OpenSetSettings),
        [Scorer.read(path) for path in sorted((BUILD / "model" / FOLDS).glob("*.safetensors"))],
        frozen=not json.loads((BUILD / "model/base/base.json").read_text(encoding="utf-8"))["tuned"],
    )
    metrics = evaluation.metrics() | identification.metrics()
    remembering = None
    if settings.mode == "incremental":
        before = Scorer.read(BUILD / "base" / HEAD)
        remembering = Remembering.of(evaluation, before, test.features, [row["batch"] not in batches for row in tested])
        metrics |= remembering.metrics()
    write_metrics(REPORTS / "metrics.json", metrics)
    plots.write_roc_csv(REPORTS / "roc.csv", evaluation.roc)
    plots.write_confusion_csv(REPORTS / "confusion.csv", evaluation)
    plots.write_people_csv(REPORTS / "people.csv", evaluation)
    content = ReportContent(
        title="Who is who",
        training=about(scorer, settings, batches),
        evaluation=evaluation,
        funnel=funnel(batches),
        curves=plots.read_curves_csv(REPORTS / "curves.csv"),
        mistakes=mistakes(evaluation, tested, batches),
        remembering=remembering,
    )
    write_report(REPORTS / "index.html", content)
    for name, value in metrics.items():
        print(f"{name:>20} {value:g}")


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


def funnel(batches: list[str]) -> Funnel:
    rejects = tables.read_many([BUILD / "faces" / f"{batch}.rejects.parquet" for batch in batches]).to_pylist()
    rows = tables.read(BUILD / "dataset.parquet").to_pylist()
    uses = Counter("strangers" if row["stranger"] else row["split"] for row in rows if row["kept"])
    return Funnel(
        photos=len({(row["batch"], row["photo"]) for row in [*rows, *rejects]}),
        rejected=Counter(row["reason"] for row in rejects),
        faces=len(rows),
        left_out=Counter(row["reason"].split(":")[0] for row in rows if not row["kept"]),
        splits={use: uses[use] for use in ("train", "val", "test", "strangers") if uses[use]},
    )


def mistakes(evaluation: Evaluation, tested: list[dict[str, str]], batches: list[str]) -> list[Mistake]:
    """With pictures; those of faces whose photos are elsewhere cannot be shown."""
    faces = tables.read_many(
        [BUILD / "faces" / f"{batch}.parquet" for batch in batches], ["batch", "photo", "face", "chip"]
    )
    place = {tuple(row.values()): i for i, row in enumerate(faces.select(["batch", "photo", "face"]).to_pylist())}
    found = []
    for i in evaluation.mistakes():
        if (row := place.get(tuple(tested[i].values()))) is None:
            continue
        found.append(
            Mistake(
                chip=faces.column("chip")[row].as_py(),
                truth=evaluation.people[evaluation.truth[i]],
                predicted=evaluation.people[evaluation.predicted[i]],
                confidence=float(evaluation.scores[i, evaluation.predicted[i]]),
                photo=f"{tested[i]['batch']}/{tested[i]['photo']}",
            )
        )
    return found[:24]


if __name__ == "__main__":
    main()

"""The model and its test faces in; metrics, curves, tables and the report out."""

from collections import Counter
from pathlib import Path

import torch

from castline import params, tables
from castline.errors import exits_cleanly
from castline.evaluation import plots
from castline.evaluation.measures import Evaluation, Funnel
from castline.evaluation.report import Mistake, ReportContent, Training, write_report
from castline.metrics import write_metrics
from castline.photos.batches import DataSettings
from castline.training import model
from castline.training.examples import Examples, Part, read_examples
from castline.training.settings import TrainingSettings
from castline.weights import sha256_of

BUILD, REPORTS = Path("build"), Path("reports")


@exits_cleanly
def main() -> None:
    torch.set_num_threads(1)  # a head is small: threads would wait for each other
    batches = params.read("data", DataSettings).batches
    examples = read_examples(BUILD, batches)
    test = examples.part("test")
    trained, description = model.load(BUILD / "model")
    with torch.inference_mode():
        embeddings, scores = trained.finish(torch.from_numpy(test.features))
    evaluation = Evaluation(description.people, test.people, scores.numpy(), embeddings.numpy())

    write_metrics(REPORTS / "metrics.json", evaluation.metrics())
    plots.write_roc_csv(REPORTS / "roc.csv", evaluation.roc)
    plots.write_confusion_csv(REPORTS / "confusion.csv", evaluation)
    plots.write_people_csv(REPORTS / "people.csv", evaluation)
    content = ReportContent(
        title="Who is who",
        training=about(description, batches),
        evaluation=evaluation,
        funnel=funnel(examples, batches),
        curves=plots.read_curves_csv(REPORTS / "curves.csv"),
        mistakes=mistakes(evaluation, examples, test, batches),
    )
    write_report(REPORTS / "index.html", content)
    for name, value in evaluation.metrics().items():
        print(f"{name:>20} {value:g}")


def about(description: model.ModelDescription, batches: list[str]) -> Training:
    base, head = description.base, description.head
    settings = params.read("training", TrainingSettings)
    return Training(
        base_model=base.name,
        licence=base.licence,
        commercial_ok=base.commercial_ok,
        head=f"{head.kind}, hidden {head.hidden or 'none'}, dropout {head.dropout:g}",
        start=settings.start,
        tune=settings.tune,
        seed=settings.seed,
        batches=batches,
        data_hash=sha256_of(BUILD / "dataset.parquet")[:16],
    )


def funnel(examples: Examples, batches: list[str]) -> Funnel:
    rejects = tables.read_many([BUILD / "faces" / f"{batch}.rejects.parquet" for batch in batches]).to_pylist()
    rows = examples.dataset
    uses = Counter("strangers" if row["stranger"] else row["split"] for row in rows if row["kept"])
    return Funnel(
        photos=len({(row["batch"], row["photo"]) for row in [*rows, *rejects]}),
        rejected=Counter(row["reason"] for row in rejects),
        faces=len(rows),
        left_out=Counter(row["reason"].split(":")[0] for row in rows if not row["kept"]),
        splits={use: uses[use] for use in ("train", "val", "test", "strangers") if uses[use]},
    )


def mistakes(evaluation: Evaluation, examples: Examples, test: Part, batches: list[str]) -> list[Mistake]:
    chips = tables.read_many([BUILD / "faces" / f"{batch}.parquet" for batch in batches], ["chip"]).column("chip")
    found = []
    for i in evaluation.mistakes(limit=24):
        row = examples.dataset[test.rows[i]]
        predicted = evaluation.predicted[i]
        found.append(
            Mistake(
                chip=chips[int(test.rows[i])].as_py(),
                truth=row["person"],
                predicted=evaluation.people[predicted],
                confidence=float(evaluation.scores[i, predicted]),
                photo=f"{row['batch']}/{row['photo']}",
            )
        )
    return found


if __name__ == "__main__":
    main()

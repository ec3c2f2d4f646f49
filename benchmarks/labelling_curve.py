"""Accuracy against the number of labels: photos picked by each rule of `castline label push --pick`, and at random.

    python benchmarks/labelling_curve.py PHOTOS                     # a folder of photos for each person
    python benchmarks/labelling_curve.py PHOTOS STRANGERS           # among photos of people outside the cast
    python benchmarks/labelling_curve.py PHOTOS --work DIR          # keep the project, and go on from it
    python benchmarks/labelling_curve.py PHOTOS --draw docs/labelling_curve.svg

Labels are hidden. A few photos are labelled by chance; then, step by step, a rule picks photos, their labels are
revealed, and a head is trained on all that are labelled so far. It is tested on the leak-free test split, which nobody
picks from. People without a labelled photo cannot be named, so their test faces count as errors; top-1 of those who
have one is beside it. Labels are those of kept faces: whoever labels makes no errors here. A stranger's photo costs a
label and gives no person.

Two rules of the literature are beside Castline's: the smallest margin alone, and the greatest distance to what is
labelled (Sener and Savarese, 2018). `unknown` goes on as `uncertain` once nobody unknown is left.

Prints a table and appends to a CSV beside this file.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from open_set import together
from pipeline import make_project, run
from record import command_line, record

from castline.curation.choose import centred
from castline.files import tables
from castline.label_studio.pick import margins, newcomers, standing_for_most, told_by
from castline.scoring import Scorer
from castline.training.examples import Examples, Part, read_examples
from castline.training.fit import fit_head
from castline.training.heads import new_head
from castline.training.settings import HeadSettings, TrainingSettings

ROOT = Path(__file__).parents[1]
SHOWN = (30, 60, 90, 120, 180, 240, 300, 360, 480)


@dataclass(frozen=True)
class Pool:
    """Faces to be labelled. people: (N,) int64, -1 for strangers. vectors: (N, D), centred reference embeddings.
    photos: (N,) the number of each one's photo."""

    features: NDArray[np.float32]
    people: NDArray[np.int64]
    vectors: NDArray[np.float32]
    photos: NDArray[np.int64]


Rule = Callable[[Pool, NDArray[np.bool_], Scorer, int, np.random.Generator], list[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("strangers", type=Path, nargs="?")
    parser.add_argument("--first", type=int, default=30, help="photos that are labelled by chance at first")
    parser.add_argument("--step", type=int, default=30, help="photos picked at a time")
    parser.add_argument("--labels", type=int, default=480, help="photos labelled in the end")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rules", nargs="*", default=list(RULES), choices=list(RULES))
    parser.add_argument("--work", type=Path, help="the project's folder; a temporary one if left out")
    parser.add_argument("--draw", type=Path, help="an SVG to write")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "labelling_curve.csv")
    options = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        project = options.work or Path(temporary, "project")
        if not project.exists():
            make_project(project)
            together(options.photos, options.strangers, project.parent / "photos")
            run(project, "castline", "data", "use", str(project.parent / "photos"), "--batch", "photos")
        run(project, "dvc", "repro", "dataset")
        features = project / "build/embeddings/photos.parquet"
        examples = read_examples(project / "build/dataset.parquet", [features])
        embeddings = tables.matrix(tables.read(features), "feature")
    pool, test = pool_of(examples, centred(embeddings)), examples.part("test", plain=True)

    command = command_line(options.photos)
    print(f"$ {command}\n")
    strangers = int((pool.people < 0).sum())
    print(f"{len(set(pool.photos.tolist()))} photos to label, {strangers} faces in them of strangers; ", end="")
    all_top1, _, _ = measured(pool, np.ones(len(pool.people), bool), test, len(examples.people))[1]
    print(f"{len(test)} test faces of {len(examples.people)} people; top-1 with all labels {all_top1:.4f}\n")
    found = {rule: curve(rule, pool, test, len(examples.people), options) for rule in options.rules}
    show(found)
    rows: list[tuple[str, str, str, object]] = [("all", str(len(set(pool.photos.tolist()))), "top1", f"{all_top1:.4f}")]
    for rule, at in found.items():
        for labels, runs in ((labels, runs) for labels, runs in at.items() if labels in SHOWN):
            mean, spread = np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1 if len(runs) > 1 else 0)
            values = {"top1": mean[0], "top1_sd": spread[0], "top1_of_labelled": mean[1], "people": mean[2]}
            rows += [(rule, str(labels), name, f"{value:.4f}") for name, value in values.items()]
    record(options.csv, command, rows)
    if options.draw:
        draw(found, all_top1, options.draw)


def pool_of(examples: Examples, vectors: NDArray[np.float32]) -> Pool:
    """All kept faces but those to be tested on."""
    number = {person: i for i, person in enumerate(examples.people)}
    rows = [i for i, row in enumerate(examples.dataset) if row["kept"] and row["split"] != "test"]
    people = [number.get(examples.dataset[i]["person"], -1) for i in rows]
    photos = {photo: n for n, photo in enumerate(sorted({examples.dataset[i]["photo"] for i in rows}))}
    return Pool(
        examples.features[rows],
        np.array(people, np.int64),
        vectors[rows],
        np.array([photos[examples.dataset[i]["photo"]] for i in rows], np.int64),
    )


def curve(
    rule: str, pool: Pool, test: Part, people: int, options: argparse.Namespace
) -> dict[int, list[tuple[float, float, float]]]:
    """What was measured at each number of labelled photos, a value a seed."""
    found: dict[int, list[tuple[float, float, float]]] = {}
    every = np.unique(pool.photos)
    for seed in range(options.seeds):
        chance = np.random.default_rng(seed)  # the first photos are the same for all rules
        done = np.isin(pool.photos, chance.permutation(every)[: options.first])
        while True:
            count = len(np.unique(pool.photos[done]))
            scorer, values = measured(pool, done, test, people)
            found.setdefault(count, []).append(values)
            if count >= min(options.labels, len(every)):
                break
            picked = RULES[rule](pool, done, scorer, min(options.step, options.labels - count), chance)
            done |= np.isin(pool.photos, picked)
    return found


def measured(pool: Pool, done: NDArray[np.bool_], test: Part, people: int) -> tuple[Scorer, tuple[float, float, float]]:
    """A head trained on the labelled faces; top-1, top-1 of the people who have a label, and how many those are."""
    train = done & (pool.people >= 0)
    known = np.unique(pool.people[train])
    place = np.full(people, -1)
    place[known] = np.arange(len(known))
    part = Part(pool.features[train], place[pool.people[train]], np.flatnonzero(train))
    settings = TrainingSettings()
    head = new_head(HeadSettings(), part, len(known), settings.seed)
    fit_head(head, part, Part(part.features[:0], part.people[:0], part.rows[:0]), settings)
    scorer = head.scorer([str(person) for person in known])
    right = known[scorer.logits(test.features).argmax(1)] == test.people
    labelled = np.isin(test.people, known)
    return scorer, (float(right.mean()), float(right[labelled].mean()), len(known))


def standing(pool: Pool, done: NDArray[np.bool_], weights: NDArray[np.float32], count: int) -> list[int]:
    """Castline's way of picking, whatever is weighed."""
    open_ = ~done
    told = told_by(pool.vectors[open_], pool.vectors[done])
    return standing_for_most(pool.vectors[open_], pool.photos[open_], weights[open_], told, count)


def at_random(
    pool: Pool, done: NDArray[np.bool_], scorer: Scorer, count: int, chance: np.random.Generator
) -> list[int]:
    return chance.permutation(np.unique(pool.photos[~done]))[:count].tolist()


def diverse(pool: Pool, done: NDArray[np.bool_], scorer: Scorer, count: int, chance: np.random.Generator) -> list[int]:
    return standing(pool, done, np.ones(len(done), np.float32), count)


def uncertain(
    pool: Pool, done: NDArray[np.bool_], scorer: Scorer, count: int, chance: np.random.Generator
) -> list[int]:
    unsure = 1 - margins(scorer(pool.features)[1])
    return standing(pool, done, unsure * told_by(pool.vectors, pool.vectors[done]), count)


def unknown(pool: Pool, done: NDArray[np.bool_], scorer: Scorer, count: int, chance: np.random.Generator) -> list[int]:
    told = told_by(pool.vectors, pool.vectors[done])
    strange = newcomers(pool.vectors, pool.photos, told, done)
    picked = standing(pool, done, strange.astype(np.float32), count)
    if len(picked) < count:
        done = done | np.isin(pool.photos, picked)
        picked += uncertain(pool, done, scorer, count - len(picked), chance)
    return picked


def margin_alone(
    pool: Pool, done: NDArray[np.bool_], scorer: Scorer, count: int, chance: np.random.Generator
) -> list[int]:
    order = np.argsort(margins(scorer(pool.features)[1]), kind="stable")
    return list(dict.fromkeys(int(pool.photos[i]) for i in order if not done[i]))[:count]


def farthest(pool: Pool, done: NDArray[np.bool_], scorer: Scorer, count: int, chance: np.random.Generator) -> list[int]:
    nearest = (pool.vectors @ pool.vectors[done].T).max(1)
    picked: list[int] = []
    for _ in range(count):
        photo = int(pool.photos[nearest.argmin()])
        picked.append(photo)
        nearest = np.maximum(nearest, (pool.vectors @ pool.vectors[pool.photos == photo].T).max(1))
    return picked


RULES: dict[str, Rule] = {
    "random": at_random,
    "diverse": diverse,
    "uncertain": uncertain,
    "unknown": unknown,
    "margin alone": margin_alone,
    "farthest": farthest,
}


def show(found: dict[str, dict[int, list[tuple[float, float, float]]]]) -> None:
    counts = [count for count in next(iter(found.values())) if count in SHOWN]
    for title, column in (("top-1", 0), ("top-1 of people who have a label", 1), ("people who have a label", 2)):
        print(f"{title:<34}" + "".join(f"{count:>14}" for count in counts))
        for rule, at in found.items():
            cells = [[run[column] for run in at[count]] for count in counts]
            if column < 2:
                texts = [f"{np.mean(cell):.3f} ±{np.std(cell, ddof=len(cell) > 1):.3f}" for cell in cells]
            else:
                texts = [f"{np.mean(cell):.1f}" for cell in cells]
            print(f"{rule:<34}" + "".join(f"{text:>14}" for text in texts))
        print()


def draw(found: dict[str, dict[int, list[tuple[float, float, float]]]], all_top1: float, path: Path) -> None:
    """Mean top-1 and its spread over the seeds, and the people who have a label."""
    from matplotlib.figure import Figure

    colours = dict(zip(RULES, ("#000000", "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7"), strict=True))
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    accuracy, people = figure.subplots(1, 2)
    for rule, at in found.items():
        labels, runs = list(at), np.array(list(at.values()))  # (labels, seeds, 3)
        style = {"color": colours[rule], "ls": "-" if rule not in ("margin alone", "farthest") else "--"}
        accuracy.plot(labels, runs[:, :, 0].mean(1), label=rule, **style)
        accuracy.fill_between(labels, runs[:, :, 0].min(1), runs[:, :, 0].max(1), color=colours[rule], alpha=0.15, lw=0)
        people.plot(labels, runs[:, :, 2].mean(1), **style)
    accuracy.axhline(all_top1, color="#999999", lw=0.8)
    accuracy.set(xlabel="labelled photos", ylabel="top-1", ylim=(0.3, 1))
    accuracy.legend(frameon=False, loc="lower right")
    people.set(xlabel="labelled photos", ylabel="people who have a label", ylim=(0, None))
    for axes in (accuracy, people):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None}, transparent=False)


if __name__ == "__main__":
    main()

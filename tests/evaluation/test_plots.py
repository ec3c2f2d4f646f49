"""Plots stand alone, repeat to the byte, and take any name; the CSV files say what was measured."""

import csv
import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from castline.evaluation import plots
from castline.evaluation.calibration import reliability
from castline.evaluation.groups import PeopleFile, by_people
from castline.evaluation.measures import Evaluation, Funnel, verification_roc
from castline.evaluation.open_set import Impostors, OpenSet, open_set
from castline.evaluation.plots import Curves

HOSTILE = ["<script>alert(1)</script>", "$\\frac{1}$", "two\nlines", "=1+1", "山田\u202e", "\udcff", " ", 'x"]]>' * 50]
CURVES = Curves([0, 1, 2], [2.0, 1.0, 0.5], [2.1, math.nan, 1.0], [0.1, 0.5, 0.9], [0.0, 0.5, 0.8], kept=1)
FUNNEL = Funnel(10, {"no_face": 3}, 8, {"blur": 1}, {"train": 4, "val": 1, "test": 1, "strangers": 1})


def made_up(names: list[str], n: int = 60, wrong: float = 0.3) -> Evaluation:
    """A test split in which about the share `wrong` of the faces gets the next person's name."""
    rng = np.random.default_rng(0)
    truth = np.arange(n) % len(names)
    given = np.where(rng.random(n) < wrong, (truth + 1) % len(names), truth)
    embeddings = np.eye(len(names), dtype=np.float32)[given]
    return Evaluation(names, truth, embeddings, embeddings)


def strangers(count: int) -> OpenSet:
    rng = np.random.default_rng(1)
    impostors = Impostors(rng.random(count).astype(np.float32), [str(i % 20) for i in range(count)])
    return open_set(rng.random(90).astype(np.float32), rng.random(90) < 0.9, [str(i % 9) for i in range(90)], impostors)


HOSTILE_CASE = made_up(HOSTILE)
CONFIDENCE = np.random.default_rng(2).random(200).astype(np.float32)
RELIABILITY = reliability(CONFIDENCE, CONFIDENCE > 0.4)
EVERY_PLOT: dict[str, Callable[[], str]] = {
    "loss": lambda: plots.loss_svg(CURVES),
    "accuracy": lambda: plots.accuracy_svg(CURVES),
    "one epoch": lambda: plots.loss_svg(Curves([0], [1.0], [math.nan], [0.5], [math.nan])),
    "roc": lambda: plots.roc_svg(HOSTILE_CASE.roc),
    "no roc": lambda: plots.roc_svg(verification_roc(np.zeros(0, int), np.zeros((0, 2), np.float32))),
    "confusion": lambda: plots.confusion_svg(HOSTILE, HOSTILE_CASE.confusion),
    "people": lambda: plots.people_svg(HOSTILE_CASE.worst),
    "nobody": lambda: plots.people_svg([]),
    "open set": lambda: plots.open_set_svg({"similarity": strangers(500), "confidence": strangers(30)}, (0.01, 0.9)),
    "no strangers": lambda: plots.open_set_svg({"similarity": strangers(0)}),
    "one stranger": lambda: plots.open_set_svg({"similarity": strangers(1)}),
    "reliability": lambda: plots.reliability_svg(RELIABILITY, RELIABILITY),
    "funnel": lambda: plots.funnel_svg(FUNNEL),
    "empty funnel": lambda: plots.funnel_svg(Funnel(0, {}, 0, {}, {})),
}


@pytest.mark.parametrize("draw", EVERY_PLOT.values(), ids=EVERY_PLOT)
def test_every_plot_stands_alone(draw: Callable[[], str]) -> None:
    before = dict(matplotlib.rcParams)
    svg = draw()
    assert dict(matplotlib.rcParams) == before
    elements = list(ET.fromstring(svg).iter())
    assert {element.tag.rpartition("}")[2] for element in elements} <= {
        *("svg", "style", "defs", "g", "path", "use", "text", "clipPath", "rect", "metadata")
    }
    links = [value for element in elements for key, value in element.items() if key.endswith("href")]
    assert all(link.startswith("#") for link in links)
    assert "prefers-color-scheme:dark" in svg
    assert "url(http" not in svg


@pytest.mark.parametrize("draw", [EVERY_PLOT["loss"], EVERY_PLOT["confusion"]])
def test_plots_repeat_to_the_byte(draw: Callable[[], str]) -> None:
    assert draw() == draw()


def test_names_are_text_and_nothing_else() -> None:
    texts = [element.text for element in ET.fromstring(EVERY_PLOT["confusion"]()).iter() if element.text]
    assert "<script>…script>" in texts
    assert "$\\frac{1}$" in texts
    assert "two\ufffdlines" in texts


def texts_of(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter() if element.tag.endswith("text")]


@pytest.mark.parametrize(("people", "drawn"), [(5, 5), (30, 30), (100, 40)])
def test_the_heat_map_stays_readable(people: int, drawn: int) -> None:
    case = made_up([f"person {i}" for i in range(people)], n=4 * people)
    names = Counter(text for text in texts_of(plots.confusion_svg(case.people, case.confusion)) if "person" in text)
    assert set(names.values()) == {2}
    assert len(names) == drawn == len(plots.confused_people(case.confusion))


def test_of_many_people_only_the_confused_are_drawn() -> None:
    confusion = np.eye(50, dtype=np.int64) * 9
    confusion[3, 47] = 2
    assert plots.confused_people(confusion) == [3, 47]
    assert plots.confused_people(np.eye(50, dtype=np.int64)) == []


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_curves_are_read_from_csv_with_the_epoch_that_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text(
        "epoch,train_loss,val_loss,train_accuracy,val_accuracy,kept\n1,2,,0.25,0,0\n2,1,0.5,0.5,0.5,1\n3,0.5,,0.75,0.8,0\n"
    )
    (curves,) = plots.read_curves_csv(path)
    assert (curves.epoch, curves.train_loss, curves.val_accuracy) == ([1, 2, 3], [2.0, 1.0, 0.5], [0.0, 0.5, 0.8])
    assert math.isnan(curves.val_loss[0])
    assert curves.kept == 2


def test_curves_of_no_epoch(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text("epoch,train_loss,val_loss,train_accuracy,val_accuracy,kept\n")
    assert plots.read_curves_csv(path) == []


def test_curves_of_several_runs_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text("run,epoch,val_accuracy,kept\nwith,1,0.5,0\nwith,2,0.6,1\nwithout,1,0.4,1\n")
    runs = plots.read_curves_csv(path)
    assert [(curves.run, curves.val_accuracy, curves.kept) for curves in runs] == [
        ("with", [0.5, 0.6], 2), ("without", [0.4], 1),
    ]  # fmt: skip
    svg = plots.compared_svg(runs)
    assert all(label in svg for label in ("with: training", "without: validation"))


def test_confusion_csv_has_a_row_a_face_and_no_formula(tmp_path: Path) -> None:
    plots.write_confusion_csv(tmp_path / "confusion.csv", HOSTILE_CASE)
    rows = rows_of(tmp_path / "confusion.csv")
    assert len(rows) == HOSTILE_CASE.n
    assert set(rows[0]) == {"actual", "predicted"}
    right = sum(row["actual"] == row["predicted"] for row in rows)
    assert right == HOSTILE_CASE.correct
    assert "'=1+1" in {row["actual"] for row in rows}


def test_roc_csv_rises_to_one(tmp_path: Path) -> None:
    plots.write_roc_csv(tmp_path / "roc.csv", HOSTILE_CASE.roc)
    rows = rows_of(tmp_path / "roc.csv")
    far, tar = ([float(row[column]) for row in rows] for column in ("far", "tar"))
    assert (far[-1], tar[-1]) == (1.0, 1.0)
    assert far == sorted(far)
    assert tar == sorted(tar)


def test_people_csv_is_worst_first_and_keeps_the_untested(tmp_path: Path) -> None:
    case = made_up(["anna", "ben", "@cleo"], n=2, wrong=0)
    plots.write_people_csv(tmp_path / "people.csv", case)
    rows = rows_of(tmp_path / "people.csv")
    assert [row["person"] for row in rows] == ["anna", "ben", "'@cleo"]
    assert (rows[0]["recall"], rows[2]["recall"], rows[2]["n"]) == ("1", "", "0")


def test_groups_csv_has_every_group_and_no_formula(tmp_path: Path) -> None:
    who = [f"person {i % 8}" for i in range(400)]
    teams = {f"person {i}": "@red" if i < 4 else "=1+1" if i < 7 else "" for i in range(8)}
    right = np.array([name > "person 3" for name in who])
    groupings = by_people(PeopleFile({"+team": teams}), who, right, named=right)
    plots.write_groups_csv(tmp_path / "groups.csv", groupings)
    rows = rows_of(tmp_path / "groups.csv")
    assert [(row["by"], row["value"], row["faces"], row["people"], row["right"]) for row in rows] == [
        ("'+team", "'=1+1", "150", "3", "150"),
        ("'+team", "'@red", "200", "4", "0"),
        ("'+team", "not known", "50", "1", "50"),
    ]
    assert [row["says"] for row in rows] == ["", "behind", "too few"]
    assert all(float(row["low"]) <= float(row["share"]) <= float(row["high"]) for row in rows)
    plots.write_groups_csv(tmp_path / "groups.csv", by_people(PeopleFile({"team": teams}), who, right))
    assert {row["tpir"] for row in rows_of(tmp_path / "groups.csv")} == {""}, "no threshold"

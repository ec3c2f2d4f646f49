"""Training a head: the same again, stopped in time, balanced, and refused where it leads nowhere."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from castline.errors import DataError
from castline.training.examples import Part
from castline.training.fit import Fitted, fit_head, write_curves
from castline.training.heads import Head, HeadSettings, new_head
from castline.training.settings import TrainingSettings
from castline.training.torch_head import TorchHead


def part(each: tuple[int, ...], seed: int) -> Part:
    """Faces of some people, as many of each as `each` says, around one centre a person."""
    centres = np.random.default_rng(0).normal(size=(len(each), 8))
    people = np.repeat(np.arange(len(each)), each)
    noise = np.random.default_rng(seed).normal(size=(len(people), 8))
    return Part((centres[people] + 0.5 * noise).astype(np.float32), people, np.arange(len(people)))


def untrained(train: Part, settings: HeadSettings, people: int) -> Head:
    return new_head(settings, train, people, seed=1)


SETTINGS = TrainingSettings(epochs=30, lr=0.02, patience=5, batch_size=16)


@pytest.mark.parametrize(
    "kind", [HeadSettings(dropout=0.2, hidden=8), HeadSettings(kind="cosine", margin=0.2)], ids=["softmax", "cosine"]
)
def test_the_same_examples_give_the_same_weights(kind: HeadSettings) -> None:
    train, val = part((20, 20, 20), 1), part((6, 6, 6), 2)
    heads = [untrained(train, kind, 3) for _ in range(2)]
    fitted = [fit_head(head, train, val, SETTINGS) for head in heads]
    assert fitted[0] == fitted[1]
    assert heads[0].scorer("abc").to_bytes() == heads[1].scorer("abc").to_bytes()
    assert fitted[0].history[fitted[0].best]["val_accuracy"] > 0.8
    other = untrained(train, kind, 3)
    fit_head(other, train, val, replace(SETTINGS, seed=2))
    assert other.scorer("abc").to_bytes() != heads[0].scorer("abc").to_bytes()


def test_it_stops_when_nothing_gets_better_and_keeps_the_best() -> None:
    train, val = part((20, 20), 1), part((6, 6), 2)
    wrong = Part(val.features, 1 - val.people, val.rows)  # the longer it learns, the worse it does here
    head = untrained(train, HeadSettings(), 2)
    fitted = fit_head(head, train, wrong, SETTINGS)
    assert fitted.best == 0 and len(fitted.history) == 1 + SETTINGS.patience
    assert min(row["val_loss"] for row in fitted.history) == fitted.history[0]["val_loss"]


def test_without_faces_to_stop_by_it_runs_to_the_end() -> None:
    train = part((20, 20), 1)
    fitted = fit_head(
        untrained(train, HeadSettings(), 2), train, Part(train.features[:0], train.people[:0], train.rows[:0]), SETTINGS
    )
    assert len(fitted.history) == SETTINGS.epochs and "val_loss" not in fitted.history[0]


def test_balanced_draws_the_rare_as_often_as_the_frequent() -> None:
    """A person of 4 faces beside one of 200, both where the other is: without balance the rare one is never named."""
    generator = np.random.default_rng(0)
    people = np.repeat([0, 1], [200, 4])
    train = Part((generator.normal(size=(204, 8)) + 0.4 * people[:, None]).astype(np.float32), people, np.arange(204))
    named = {}
    for balanced in (False, True):
        head = untrained(train, HeadSettings(), 2)
        fit_head(head, train, train, TrainingSettings(epochs=20, lr=0.02, balanced=balanced))
        named[balanced] = float((head.logits(train.features).argmax(1) == 1).mean())
    assert named[False] < 0.05 and named[True] > 0.1


def test_a_prototype_head_is_measured_once() -> None:
    train, val = part((20, 20), 1), part((6, 6), 2)
    fitted = fit_head(untrained(train, HeadSettings(kind="prototype"), 2), train, val, SETTINGS)
    assert len(fitted.history) == 1 and fitted.history[0]["val_accuracy"] > 0.8


def test_a_loss_that_is_no_number_is_said() -> None:
    train = part((20, 20), 1)
    train.features[3] = np.nan
    with pytest.raises(DataError, match="the loss of epoch 1 is nan"):
        fit_head(untrained(part((20, 20), 1), HeadSettings(), 2), train, part((6, 6), 2), SETTINGS)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_its_optimizer_is_pytorchs(weight_decay: float) -> None:
    """The same weights as with torch.optim.AdamW, to the bit but for rounding."""
    train = part((20, 11), 1)  # of one size, the biases' gradients would be rounding and nothing else
    settings = TrainingSettings(epochs=5, lr=0.02, batch_size=len(train), weight_decay=weight_decay)
    ours, theirs = (untrained(train, HeadSettings(), 2) for _ in range(2))
    fit_head(ours, train, Part(train.features[:0], train.people[:0], train.rows[:0]), settings)
    module = TorchHead(theirs)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.02, weight_decay=weight_decay)
    features, people = torch.from_numpy(train.features), torch.from_numpy(train.people)
    for _ in range(5):
        optimizer.zero_grad()
        logits = module(features, people, np.random.default_rng(0))
        torch.nn.functional.cross_entropy(logits, people).backward()
        optimizer.step()
    for name, array in module.weights().items():
        np.testing.assert_allclose(ours.weights[name], array, rtol=1e-4, atol=1e-5)


def test_curves_of_several_runs(tmp_path: Path) -> None:
    runs = {
        "dropout 0.5": Fitted([{"epoch": 0, "train_loss": 2.0}, {"epoch": 1, "train_loss": 1.0}], 1),
        "tuned": Fitted([{"epoch": -1, "val_loss": 4.0}, {"epoch": 0, "train_loss": 3.0, "val_loss": 5.0}], 0),
    }
    write_curves(tmp_path / "curves.csv", runs)
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["epoch"], row["train_loss"], row["val_loss"], row["kept"]) for row in rows] == [
        ("dropout 0.5", "1", "2", "", "0"), ("dropout 0.5", "2", "1", "", "1"), ("tuned", "0", "", "4", "1"),
        ("tuned", "1", "3", "5", "0"),
    ]  # fmt: skip

"""The head, trained on features that were computed once. Plain NumPy: it takes seconds, and imports nothing more."""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from castline.bars import counted
from castline.errors import DataError
from castline.scoring import softmax
from castline.training.examples import Part
from castline.training.heads import Array, Head
from castline.training.settings import TrainingSettings

__all__ = ["Fitted", "fit_head", "write_curves"]


@dataclass(frozen=True)
class Fitted:
    """What training went through: a row an epoch (epoch, from 0, train_loss, train_accuracy, val_loss, val_accuracy;
    the last two are absent without validation faces), and which row's weights were kept. Fine-tuning's first row is of
    epoch -1: where it started, and without train_ values."""

    history: list[dict[str, float]]
    best: int


@np.errstate(over="ignore", invalid="ignore")  # the loss tells
def fit_head(head: Head, train: Part, val: Part, settings: TrainingSettings) -> Fitted:
    """Train `head` in place, and leave it with the weights of its best epoch.

    Training stops when the validation loss has not improved for `settings.patience` epochs; without validation faces
    it runs to its last epoch. The same examples and settings give the same weights; the same to the last digit where
    NumPy's linear algebra has one thread, or as many. A head without anything to learn is measured once.

    Raises: DataError when the loss is no longer finite.
    """
    if not head.learns:
        return Fitted([{"epoch": 0, **_measured(head, train, "train"), **_measured(head, val, "val")}], 0)
    chance = np.random.default_rng(settings.seed)
    optimizer = _AdamW(head.weights, settings.lr, settings.weight_decay)
    orders = _orders(train.people, settings.balanced, chance)
    history: list[dict[str, float]] = []
    best, lowest, weights = -1, math.inf, head.weights
    for epoch in counted(range(settings.epochs), "head", "epoch", settings.epochs):
        order, loss_sum, right = next(orders), 0.0, 0
        for start in range(0, len(order), settings.batch_size):
            rows = order[start : start + settings.batch_size]
            people = train.people[rows]
            logits, backward = head.training(train.features[rows], people, chance)
            losses, gradient = _cross_entropy(logits, people)
            gradients, _ = backward(gradient / np.float32(len(rows)))
            optimizer.step(gradients)
            loss_sum += float(losses.sum())
            right += int((logits.argmax(1) == people).sum())
        row = {"epoch": epoch, "train_loss": loss_sum / len(order), "train_accuracy": right / len(order)}
        history.append(row | _measured(head, val, "val"))
        watched = history[-1].get("val_loss", row["train_loss"])
        if not math.isfinite(watched) or not math.isfinite(row["train_loss"]):
            raise DataError(f"the loss of epoch {epoch + 1} is {watched}", "train with a smaller learning rate")
        if watched < lowest:
            best, lowest, weights = epoch, watched, {name: array.copy() for name, array in head.weights.items()}
        elif len(val) and epoch - best >= settings.patience:
            break
    head.weights = weights
    return Fitted(history, best)


def _cross_entropy(logits: Array, people: NDArray[np.int64]) -> tuple[Array, Array]:
    """Losses, (N,), and the gradient of their sum by the logits, (N, P). people: the right ones, (N,)."""
    right = np.arange(len(people)), people
    shifted = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[right]
    gradient = softmax(logits)
    gradient[right] -= 1
    return losses, gradient


def write_curves(path: Path, runs: Mapping[str, Fitted]) -> None:
    """A CSV of histories: a row an epoch and run, with a column that is 1 for the epoch that was kept.

    runs: by name, the one that became the model first. Epochs count from 1; 0 is where fine-tuning started.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ["run", "epoch", "train_loss", "val_loss", "train_accuracy", "val_accuracy", "kept"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for run, fitted in runs.items():
            for number, row in enumerate(fitted.history):
                values = {name: f"{value:.6g}" for name, value in row.items()}
                kept = int(number == fitted.best)
                writer.writerow({"run": run, **values, "epoch": int(row["epoch"]) + 1, "kept": kept})


class _AdamW:
    """Loshchilov and Hutter, Decoupled weight decay regularization, 2019, with PyTorch's defaults. Moves arrays in
    place."""

    def __init__(self, weights: Mapping[str, Array], lr: float, weight_decay: float) -> None:
        self.weights, self.lr, self.weight_decay, self.steps = weights, lr, weight_decay, 0
        self.means = {name: np.zeros_like(array) for name, array in weights.items()}
        self.squares = {name: np.zeros_like(array) for name, array in weights.items()}

    def step(self, gradients: Mapping[str, Array]) -> None:
        self.steps += 1
        pace, correction = self.lr / (1 - 0.9**self.steps), math.sqrt(1 - 0.999**self.steps)
        for name, weight in self.weights.items():
            gradient, mean, square = gradients[name], self.means[name], self.squares[name]
            weight *= 1 - self.lr * self.weight_decay
            mean += (1 - 0.9) * (gradient - mean)
            square += (1 - 0.999) * (gradient * gradient - square)
            weight -= pace * mean / (np.sqrt(square) / correction + 1e-8)


def _orders(people: NDArray[np.int64], balanced: bool, chance: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Each epoch's rows, shuffled anew: every face once, or, balanced, every person equally often."""
    chances = 1 / np.bincount(people)[people]
    while True:
        if balanced:
            yield chance.choice(len(people), len(people), p=chances / chances.sum())
        else:
            yield chance.permutation(len(people))


def _measured(head: Head, part: Part, name: str) -> dict[str, float]:
    """Loss and accuracy without dropout or margin; nothing for a part without faces."""
    if not len(part):
        return {}
    logits = head.logits(part.features)
    losses, _ = _cross_entropy(logits, part.people)
    right = logits.argmax(1) == part.people
    return {f"{name}_loss": float(losses.mean()), f"{name}_accuracy": float(right.mean())}

"""The head, trained on features that were computed once. Plain PyTorch: it takes seconds, and imports nothing more."""

import copy
import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import trange  # type: ignore[import-untyped]

from castline.errors import DataError
from castline.training.examples import Part
from castline.training.heads import Head
from castline.training.settings import TrainingSettings

__all__ = ["Fitted", "fit_head", "write_curves"]


@dataclass(frozen=True)
class Fitted:
    """What training went through: a row an epoch (epoch, train_loss, train_accuracy, val_loss, val_accuracy; the
    last two are absent without validation faces), and the epoch, from 0, whose weights were kept."""

    history: list[dict[str, float]]
    best_epoch: int


def fit_head(head: Head, train: Part, val: Part, settings: TrainingSettings) -> Fitted:
    """Train `head` in place, and leave it in eval mode with the weights of its best epoch.

    Training stops when the validation loss has not improved for `settings.patience` epochs; without validation faces
    it runs to its last epoch. The same examples and settings give the same weights. A head without anything to learn
    is measured once.

    Raises: DataError when the loss is no longer finite.
    """
    torch.manual_seed(settings.seed)  # dropout
    features, people = torch.from_numpy(train.features), torch.from_numpy(train.people)
    learnt = [parameter for parameter in head.parameters() if parameter.requires_grad]
    if not learnt:
        head.eval()
        return Fitted([{"epoch": 0, **_measured(head, train, "train"), **_measured(head, val, "val")}], 0)
    optimizer = _AdamW(learnt, settings.lr, settings.weight_decay)
    orders = _orders(people, settings)
    history: list[dict[str, float]] = []
    best, lowest, weights = -1, math.inf, head.state_dict()
    for epoch in trange(settings.epochs, desc="head", unit="epoch", disable=None):
        head.train()
        loss_sum = right = 0.0
        for rows in torch.split(next(orders), settings.batch_size):
            logits = head.training_logits(features[rows], people[rows])
            loss = F.cross_entropy(logits, people[rows])
            optimizer.step(torch.autograd.grad(loss, learnt))
            loss_sum += loss.item() * len(rows)
            right += int((logits.argmax(1) == people[rows]).sum())
        row = {"epoch": epoch, "train_loss": loss_sum / len(people), "train_accuracy": right / len(people)}
        head.eval()
        history.append(row | _measured(head, val, "val"))
        watched = history[-1].get("val_loss", row["train_loss"])
        if not math.isfinite(watched) or not math.isfinite(row["train_loss"]):
            raise DataError(f"the loss of epoch {epoch + 1} is {watched}", "train with a smaller learning rate")
        if watched < lowest:
            best, lowest, weights = epoch, watched, copy.deepcopy(head.state_dict())
        elif len(val) and epoch - best >= settings.patience:
            break
    head.load_state_dict(weights)
    return Fitted(history, best)


def write_curves(path: Path, runs: Mapping[str, Fitted]) -> None:
    """A CSV of histories: a row an epoch and run, with a column that is 1 for the epoch that was kept.

    runs: by name, the one that became the model first. Epochs count from 1.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ["run", "epoch", "train_loss", "val_loss", "train_accuracy", "val_accuracy", "kept"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for run, fitted in runs.items():
            for number, row in enumerate(fitted.history):
                values = {name: f"{value:.6g}" for name, value in row.items()}
                kept = int(number == fitted.best_epoch)
                writer.writerow({"run": run, **values, "epoch": number + 1, "kept": kept})


class _AdamW:
    """Loshchilov and Hutter, Decoupled weight decay regularization, 2019, with PyTorch's defaults.

    PyTorch's own imports its compiler when it is made, which takes longer than a head takes to be trained.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float, weight_decay: float) -> None:
        self.parameters, self.lr, self.weight_decay, self.steps = parameters, lr, weight_decay, 0
        self.means = [torch.zeros_like(parameter) for parameter in parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        self.steps += 1
        correction = math.sqrt(1 - 0.999**self.steps)
        for parameter, gradient, mean, square in zip(self.parameters, gradients, self.means, self.squares, strict=True):
            parameter.mul_(1 - self.lr * self.weight_decay)
            mean.lerp_(gradient, 1 - 0.9)
            square.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
            parameter.addcdiv_(mean, (square.sqrt() / correction).add_(1e-8), value=-self.lr / (1 - 0.9**self.steps))


def _orders(people: Tensor, settings: TrainingSettings) -> Iterator[Tensor]:
    """Each epoch's rows, shuffled anew: every face once, or, balanced, every person equally often."""
    generator = torch.Generator().manual_seed(settings.seed)
    chances = 1 / torch.bincount(people)[people].double()
    while True:
        if settings.balanced:
            yield torch.multinomial(chances, len(people), replacement=True, generator=generator)
        else:
            yield torch.randperm(len(people), generator=generator)


def _measured(head: Head, part: Part, name: str) -> dict[str, float]:
    """Loss and accuracy in eval mode; nothing for a part without faces."""
    if not len(part):
        return {}
    with torch.inference_mode():
        logits, people = head(torch.from_numpy(part.features)), torch.from_numpy(part.people)
        right = (logits.argmax(1) == people).float().mean()
        return {f"{name}_loss": float(F.cross_entropy(logits, people)), f"{name}_accuracy": float(right)}

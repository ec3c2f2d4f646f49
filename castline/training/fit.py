"""The head, trained with Lightning on features that were computed once."""

import copy
import csv
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor, nn

from castline.training.examples import Part
from castline.training.settings import TrainerSettings, TrainingSettings

__all__ = ["Fitted", "fit_head", "write_curves"]


@dataclass(frozen=True)
class Fitted:
    """What training went through: a row an epoch (epoch, train_loss, train_accuracy, val_loss, val_accuracy; the
    last two are absent without validation faces), and the epoch, from 0, whose weights were kept."""

    history: list[dict[str, float]]
    best_epoch: int


def fit_head(
    head: nn.Module,
    train: Part,
    val: Part,
    settings: TrainingSettings,
    trainer: TrainerSettings,
) -> Fitted:
    """Train `head` in place, and leave it in eval mode with the weights of its best epoch.

    Training stops when the validation loss has not improved for `settings.patience` epochs; without validation faces
    it runs to its last epoch. The same examples, settings and number of threads give the same weights.
    """
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    module = _HeadTraining(head, settings)
    best = _KeepBest("val_loss" if len(val) else "train_loss")
    callbacks: list[pl.Callback] = [best]
    if len(val):
        callbacks.append(EarlyStopping("val_loss", patience=settings.patience, check_finite=True))
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Lightning asks for worker processes, which features that lie in memory do not need.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*The number of training batches.*")
        # Lightning uses a name of torch's that torch has moved on from.
        warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")
        lightning = pl.Trainer(
            accelerator=trainer.accelerator,
            devices=trainer.devices,
            max_epochs=settings.epochs,
            deterministic=True,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            num_sanity_val_steps=0,
        )
        lightning.fit(
            module,
            _Batches(train, settings.batch_size, seed=settings.seed),
            _Batches(val, max(len(val), 1)) if len(val) else None,
        )
    head.load_state_dict(best.weights)
    head.eval()
    return Fitted(module.history, best.epoch)


def write_curves(path: Path, fitted: Fitted) -> None:
    """A CSV of the history, with a column that is 1 for the epoch that was kept; epochs count from 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ["epoch", "train_loss", "val_loss", "train_accuracy", "val_accuracy", "kept"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for number, row in enumerate(fitted.history):
            values = {name: f"{value:.6g}" for name, value in row.items()}
            writer.writerow({**values, "epoch": number + 1, "kept": int(number == fitted.best_epoch)})


class _Batches:
    """Examples in batches: shuffled anew each epoch where there is a seed, else as they are."""

    def __init__(self, part: Part, size: int, seed: int | None = None) -> None:
        self.features, self.people = torch.from_numpy(part.features), torch.from_numpy(part.people)
        self.size = size
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.people) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self.people)
        order = torch.arange(count) if self.generator is None else torch.randperm(count, generator=self.generator)
        for rows in torch.split(order, self.size):
            yield self.features[rows], self.people[rows]


class _HeadTraining(pl.LightningModule):
    def __init__(self, head: nn.Module, settings: TrainingSettings) -> None:
        super().__init__()
        self.head, self.settings = head, settings
        self.history: list[dict[str, float]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.head.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self._step(batch, "val")

    def _step(self, batch: tuple[Tensor, Tensor], part: str) -> Tensor:
        features, people = batch
        logits = self.head(features)
        loss = F.cross_entropy(logits, people)
        right = (logits.argmax(1) == people).float().mean()
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(people)}
        self.log(f"{part}_loss", loss, **options)
        self.log(f"{part}_accuracy", right, **options)
        return loss

    def on_train_epoch_end(self) -> None:
        measured = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        self.history.append({"epoch": self.current_epoch, **dict(sorted(measured.items()))})


@dataclass
class _KeepBest(pl.Callback):
    """The weights of the epoch with the lowest `monitor`, in memory."""

    monitor: str
    epoch: int = -1
    lowest: float = float("inf")
    weights: dict[str, Any] = field(default_factory=dict)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = float(trainer.callback_metrics[self.monitor])
        if value < self.lowest or self.epoch < 0:
            self.lowest, self.epoch = value, trainer.current_epoch
            self.weights = copy.deepcopy(pl_module.get_submodule("head").state_dict())

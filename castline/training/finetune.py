"""Fine-tuning: base model and head, trained with Lightning on pictures of faces that differ in every epoch.

Every epoch is a function of the seed and its number, and each ends in a checkpoint: who is killed goes on from there
and arrives where he would have.
"""

import hashlib
import json
import logging
import math
import multiprocessing
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from numpy.typing import NDArray
from pytorch_lightning.strategies import DDPStrategy
from timm.models import group_parameters
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from castline import machine, progress
from castline.embedding.augment import augment
from castline.embedding.augment_settings import AugmentationSettings
from castline.embedding.base_models import BaseModel
from castline.embedding.base_settings import BaseModelSettings
from castline.embedding.crops import Crops
from castline.embedding.dlib_resnet import FrozenNorm
from castline.errors import ConfigError, WeightsError
from castline.training.fit import Fitted
from castline.training.heads import Head
from castline.training.settings import TrainerSettings, TrainingSettings
from castline.training.torch_head import TorchHead

__all__ = ["Faces", "epoch_order", "fine_tune", "tuned_parameters"]

_IN_MEMORY = 2 << 30  # bytes of pictures that are kept decoded; more are decoded each time
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, FrozenNorm)
_Batch = tuple[Tensor, Tensor, float]


@dataclass(frozen=True)
class Faces:
    """Chips, JPEG of 256 × 256, and whose they are: (N,) int64, indices into the list of people."""

    chips: Sequence[bytes]
    people: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.people)


def fine_tune(
    base: BaseModel,
    head: Head,
    train: Faces,
    val: Faces,
    base_settings: BaseModelSettings,
    settings: TrainingSettings,
    trainer: TrainerSettings,
    augmentation: AugmentationSettings,
    checkpoints: Path,
) -> Fitted:
    """Train `base`, or the part of it that `settings.tune` names, and `head` in place; leave both with the weights of
    their best epoch: the lowest validation loss, or training loss where there are no validation faces. Where it does
    not start from scratch, the weights as they came are one of the candidates, if there are validation faces.

    checkpoints: a folder for the state after each epoch. The same call made again, after it was killed, goes on from
    there; another call never does. What is there is removed in the end.

    With `trainer.strategy` ddp every device is a process of its own that takes its share of each batch, so that
    `settings.batch_size` means the same for any number of them. On processors and with one thread each, the same
    arguments give the same weights.

    Raises: ConfigError when the machine lacks what `trainer` asks for, a batch has fewer faces than it has devices, or
    training diverges; DataError when a chip cannot be decoded; WeightsError when a checkpoint cannot be read.
    """
    _check(train, settings, trainer)
    module = _Training(base, head, train, val, base_settings, settings, augmentation, trainer.workers)
    module.checkpoint = checkpoints / f"{_fingerprint(module, trainer)}.ckpt"
    checkpoints.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    with _quiet(), _loopback():
        resumed = _read(module.checkpoint)
        module.progress = resumed or module.progress
        if resumed:
            print(f"going on after epoch {int(resumed['history'][-1]['epoch']) + 1}")
        if not module.finished():
            known = module.checkpoint if resumed else None
            candidate = resumed is None and settings.start != "scratch"
            lightning = _lightning(settings, trainer, validate=len(val) > 0, before=candidate)
            lightning.fit(module, ckpt_path=known, weights_only=True)
        # Other processes hand their weights back this way and no other, so it is taken in any case.
        progress = _read(module.checkpoint) or module.progress
    torch.set_num_threads(threads)
    module.checkpoint.unlink(missing_ok=True)
    if not all(math.isfinite(value) for value in progress["history"][-1].values()):
        raise ConfigError(
            f"training.lr={settings.lr:g}: training diverged, the loss became infinite", "try a tenth of it"
        )
    module.to(memory_format=torch.contiguous_format)
    module.load_state_dict(progress["weights"])
    module.eval().requires_grad_(True)
    head.weights = module.head.weights()
    return Fitted(progress["history"], progress["best"])


def tuned_parameters(net: nn.Module, tune: str) -> set[str]:
    """Names of the parameters of a timm network that are trained: tune is batchnorm, last_block or all.

    batchnorm: weights and biases of its normalisation layers. last_block: its last block, as timm groups parameters,
    and what follows it.

    Raises: ConfigError where a network has none of these.
    """
    if tune == "all":
        return {name for name, _ in net.named_parameters()}
    if tune == "batchnorm":
        found = {
            f"{layer}.{name}"
            for layer, module in net.named_modules()
            if isinstance(module, _NORMS)
            for name, _ in module.named_parameters(recurse=False)
        }
    else:
        found = _last_block(net)
    if not found:
        raise ConfigError(
            f"training.tune is {tune!r}, but {type(net).__name__} has none that is known", "-S training.tune=all"
        )
    return found


def _last_block(net: nn.Module) -> set[str]:
    matcher: Any = getattr(net, "group_matcher", None)
    if matcher is None:
        return set()
    groups = group_parameters(net, matcher(coarse=False))
    parameters = dict(net.named_parameters())
    # A group of one matrix is a layer on its own, such as the convolution between the blocks and the embedding.
    blocks = [key for key, names in groups.items() if sum(parameters[name].ndim > 1 for name in names) > 1]
    return {name for key, names in groups.items() if blocks and key >= max(blocks) for name in names}


class _Training(pl.LightningModule):
    """What Lightning runs. Its `progress` is in every checkpoint: history, its best row and the weights of that."""

    checkpoint: Path

    def __init__(
        self,
        base: BaseModel,
        head: Head,
        train: Faces,
        val: Faces,
        base_settings: BaseModelSettings,
        settings: TrainingSettings,
        augmentation: AugmentationSettings,
        workers: int,
    ) -> None:
        super().__init__()
        self.workers = workers
        self.base, self.head = base, TorchHead(head)
        self.faces = {"train": train, "val": val}
        self.base_settings, self.settings, self.augmentation = base_settings, settings, augmentation
        tuned = tuned_parameters(base.net, settings.tune)
        for name, parameter in base.net.named_parameters():
            parameter.requires_grad_(name in tuned)
        self.to(memory_format=torch.channels_last)  # half as long, on processors
        self.progress: dict[str, Any] = {"history": [], "best": -1, "weights": {}}
        self.sums = {"train": [0.0, 0.0, 0.0], "val": [0.0, 0.0, 0.0]}  # loss, right, faces
        self.pictures: dict[str, Sequence[NDArray[np.uint8]]] = {}

    # Pictures

    def setup(self, stage: str) -> None:
        """In each process: its threads, and its pictures, decoded once."""
        torch.set_num_threads(max(1, machine.threads() // self.trainer.world_size))
        self.pictures = {part: _decoded(faces.chips, self.base_settings) for part, faces in self.faces.items()}

    def train_dataloader(self) -> DataLoader[_Batch]:
        """The batches of this epoch, and of each this process's share: Lightning asks again before each epoch."""
        people, (seed, epoch) = self.faces["train"].people, (self.settings.seed, self.current_epoch)
        order = epoch_order(people, seed, epoch, self.settings.balanced)
        return self._loader("train", order, self.augmentation, (seed, epoch))

    def val_dataloader(self) -> DataLoader[_Batch]:
        return self._loader("val", np.arange(len(self.faces["val"])), AugmentationSettings(), ())

    def _loader(
        self, part: str, order: NDArray[np.int64], augmentation: AugmentationSettings, numbers: tuple[int, ...]
    ) -> DataLoader[_Batch]:
        """Batches of `order`, changed, and of each batch the share that is this process's to do."""
        rank, world = self.trainer.global_rank, self.trainer.world_size
        if len(order) < world:  # of validation faces: no process may have none, and averages stay what they are
            rank, world = 0, 1
        # Batches of nearly equal size, each enough for all processes.
        count = max(1, min(math.ceil(len(order) / self.settings.batch_size), len(order) // world))
        batches = [(batch[rank::world], world / len(batch)) for batch in np.array_split(order, count)]
        data = _Batches(self.pictures[part], self.faces[part].people, batches, augmentation, numbers)
        return DataLoader(data, batch_size=None, num_workers=self.workers)

    # Steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        lr = self.settings.lr
        pace = 1.0 if self.settings.start == "scratch" else self.settings.base_pace
        groups = [
            {"params": [p for p in part.parameters() if p.requires_grad], "lr": rate}
            for part, rate in ((self.head, lr), (self.base, lr * pace))
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]], weight_decay=self.settings.weight_decay
        )

    def on_train_epoch_start(self) -> None:
        self.base.train(self.settings.tune == "all")
        # Running statistics move where weight and bias do; but not those of one block of a network that knows something
        # already: they would leave the blocks before and the head behind, for nothing that the block has learned.
        if self.settings.tune != "last_block" or self.settings.start == "scratch":
            for module in self.base.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train(any(p.requires_grad for p in module.parameters(recurse=False)))
        self.sums = {part: [0.0, 0.0, 0.0] for part in self.sums}

    def training_step(self, batch: _Batch, number: int) -> Tensor:
        # Of dropout, whatever has drawn before: a loop that goes on from a checkpoint draws less than one that began.
        numbers = [self.settings.seed, self.current_epoch, number, self.trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))
        raw = self._raw(batch)
        logits = self.head(raw, batch[1], np.random.default_rng(numbers))
        return self._loss("train", batch[1], logits, self.head.logits(raw)) * batch[2]

    def validation_step(self, batch: _Batch, _: int) -> None:
        logits = self.head.logits(self._raw(batch))
        self._loss("val", batch[1], logits, logits)

    def _raw(self, batch: _Batch) -> Tensor:
        """Raw embeddings (B, D) float32 of a batch's pictures, (B, S, S, 3) uint8."""
        raw: Tensor = self.base(batch[0].permute(0, 3, 1, 2).float())  # → (B, 3, S, S), channels last
        return raw.float()

    def _loss(self, part: str, people: Tensor, logits: Tensor, answers: Tensor) -> Tensor:
        """The sum of the losses of a batch's faces, which are counted in on the way."""
        loss = F.cross_entropy(logits, people, reduction="sum")
        right = int((answers.argmax(1) == people).sum())
        for i, value in enumerate((float(loss.detach()), right, len(people))):
            self.sums[part][i] += value
        return loss

    # What is left of an epoch

    def on_validation_epoch_end(self) -> None:
        """Before the first epoch, note what the weights as they came are worth: they are a candidate, too."""
        if self.trainer.sanity_checking:
            row = self._noted(-1)
            if self.trainer.is_global_zero:
                progress.epoch(row)

    def on_train_epoch_end(self) -> None:
        """Note what the epoch came to, and write all down, so that a run that is killed goes on from here."""
        row = self._noted(self.current_epoch)
        self.trainer.should_stop = self.finished()
        unfinished = self.checkpoint.with_suffix(".part")
        self.trainer.save_checkpoint(unfinished)
        if self.trainer.is_global_zero:
            unfinished.replace(self.checkpoint)
            progress.epoch(row)

    def _noted(self, epoch: int) -> dict[str, float]:
        """The epoch's row, summed up over all processes; its weights are kept if they are the best."""
        history, row = self.progress["history"], {"epoch": float(epoch)}
        for part in ("train", "val"):
            sums = self.trainer.strategy.reduce(torch.tensor(self.sums[part], device=self.device), reduce_op="sum")
            loss, right, faces = sums.tolist()
            if faces:
                row |= {f"{part}_loss": loss / faces, f"{part}_accuracy": right / faces}
        history.append(row)
        best = self.progress["best"]
        if best < 0 or row[self.watched] < history[best][self.watched]:
            weights = {name: tensor.detach().cpu().clone() for name, tensor in self.state_dict().items()}
            self.progress |= {"best": len(history) - 1, "weights": weights}
        return row

    @property
    def watched(self) -> str:
        return "val_loss" if len(self.faces["val"]) else "train_loss"

    def finished(self) -> bool:
        """Whether there is nothing left to do: all epochs, none better for long, or nothing but infinities."""
        history = self.progress["history"]
        waited = len(history) - 1 - self.progress["best"]
        return bool(history) and (
            history[-1]["epoch"] + 1 >= self.settings.epochs
            or (self.watched == "val_loss" and waited >= self.settings.patience)
            or not all(math.isfinite(value) for value in history[-1].values())
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["progress"] = self.progress

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.progress = checkpoint["progress"]


class _Batches(Dataset[_Batch]):
    """A process's shares of an epoch's batches: pictures (B, S, S, 3) uint8, people (B,) int64, and what a face's loss
    counts, so that the mean over processes is the mean over the batch."""

    def __init__(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        people: NDArray[np.int64],
        batches: list[tuple[NDArray[np.int64], float]],
        augmentation: AugmentationSettings,
        numbers: tuple[int, ...],
    ) -> None:
        self.pictures, self.people, self.batches = pictures, people, batches
        self.augmentation, self.numbers = augmentation, numbers

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> _Batch:
        rows, weight = self.batches[number]
        changed = [augment(self.pictures[row], self.augmentation, *self.numbers, row) for row in rows]
        return torch.from_numpy(np.stack(changed)), torch.from_numpy(self.people[rows]), weight


def epoch_order(people: NDArray[np.int64], seed: int, epoch: int, balanced: bool) -> NDArray[np.int64]:
    """Which faces an epoch shows, in which order: (M,) int64, indices into `people`, decided by seed and epoch.

    balanced: everybody equally often, as many in all as there are faces, or a few more. Of people with more faces than
    that an epoch shows some, others in the next; those of people with fewer are shown again.
    """
    generator = np.random.default_rng([seed, epoch])
    if not balanced:
        return generator.permutation(len(people))
    faces = [np.flatnonzero(people == person) for person in np.unique(people)]
    each = math.ceil(len(people) / max(1, len(faces)))
    rounds = [[generator.permutation(own) for _ in range(math.ceil(each / len(own)))] for own in faces]
    return generator.permutation(np.concatenate([np.concatenate(drawn)[:each] for drawn in rounds]))


def _decoded(chips: Sequence[bytes], settings: BaseModelSettings) -> Sequence[NDArray[np.uint8]]:
    """What the base model sees of each chip, kept decoded where there is room for it."""
    crops = Crops(chips, settings)
    if len(chips) * 3 * settings.input_size**2 > _IN_MEMORY:
        return crops
    with ThreadPoolExecutor(machine.threads()) as pool:
        return list(pool.map(crops.__getitem__, range(len(crops))))


def _check(train: Faces, settings: TrainingSettings, trainer: TrainerSettings) -> None:
    """Raises: ConfigError for what would fail later, in a process that cannot say it as well."""
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator is gpu, but torch finds no graphics card", "-S trainer=cpu")
    if trainer.accelerator == "gpu" and trainer.devices > torch.cuda.device_count():
        raise ConfigError(
            f"trainer.devices is {trainer.devices}, but torch finds {torch.cuda.device_count()} graphics cards",
            f"-S trainer.devices={torch.cuda.device_count()}",
        )
    if trainer.accelerator == "gpu" and trainer.precision == "bf16-mixed" and not torch.cuda.is_bf16_supported(False):
        raise ConfigError(
            "trainer.precision is bf16-mixed, which this graphics card does not have",
            "-S trainer.precision=16-mixed, or 32-true",
        )
    if min(len(train), settings.batch_size) < trainer.devices:
        raise ConfigError(
            f"trainer.devices is {trainer.devices}, and no batch of {len(train)} faces at training.batch_size="
            f"{settings.batch_size} can be shared among them",
            "-S trainer=cpu",
        )


def _lightning(settings: TrainingSettings, trainer: TrainerSettings, validate: bool, before: bool) -> pl.Trainer:
    """before: validate before the first epoch as well."""
    return pl.Trainer(
        accelerator=trainer.accelerator,
        devices=trainer.devices,
        # Lightning's own "ddp" would start the whole stage again for every further process.
        strategy=DDPStrategy(start_method="spawn") if trainer.strategy == "ddp" else "auto",
        plugins=LightningEnvironment(),  # this machine alone, also below a cluster's scheduler
        precision=trainer.precision,  # type: ignore[arg-type]
        max_epochs=settings.epochs,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        limit_val_batches=1.0 if validate else 0,
        num_sanity_val_steps=-1 if before else 0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
    )


def _fingerprint(module: _Training, trainer: TrainerSettings) -> str:
    """One hash of all that decides how training goes, so that no other run's checkpoint is ever taken up."""
    digest = hashlib.sha256()
    settings = [asdict(s) for s in (module.base_settings, module.settings, trainer, module.augmentation)]
    digest.update(json.dumps([settings, torch.__version__, np.__version__]).encode())
    digest.update(module.head.head.scorer(()).to_bytes())  # its settings and its input's, too
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for faces in module.faces.values():
        digest.update(np.asarray(faces.people, np.int64).tobytes())
        for chip in faces.chips:
            digest.update(hashlib.sha256(chip).digest())
    return digest.hexdigest()[:32]


def _read(checkpoint: Path) -> dict[str, Any] | None:
    """The progress in a checkpoint, if there is one. Nothing in it is executed.

    Raises: WeightsError.
    """
    if not checkpoint.exists():
        return None
    try:
        progress: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)["progress"]
    except (OSError, EOFError, RuntimeError, KeyError, UnpicklingError) as error:
        raise WeightsError(f"{checkpoint}: cannot be read: {error}", f"rm {checkpoint}; it then starts anew") from error
    return progress


def _hush() -> None:
    """Turn off what Lightning says of itself; what goes wrong still is raised."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",  # pictures are in memory; trainer.workers says how many
        ".*The number of training batches.*",
        r".*module\(s\) in eval mode.*",  # on purpose
        ".*LeafSpec.* is deprecated",  # a name of torch's that torch has moved on from
    ):
        warnings.filterwarnings("ignore", message)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        _hush()
        yield


@contextmanager
def _loopback() -> Iterator[None]:
    """Processes on processors talk over this machine's own interface, whatever its name resolves to."""
    name = "GLOO_SOCKET_IFNAME"
    ours = sys.platform == "linux" and name not in os.environ
    if ours:
        os.environ[name] = "lo"
    try:
        yield
    finally:
        if ours:
            del os.environ[name]


if multiprocessing.current_process().name != "MainProcess":
    _hush()  # in a process that Lightning started, which imports this module before anything speaks

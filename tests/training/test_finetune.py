"""Fine-tuning: what is trained, that it learns, and that neither kills nor several processes change the result."""

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import finetune_run
import numpy as np
import pytest
import timm
import torch
import yaml
from finetune_run import RUN, SMALL, faces, run
from numpy.typing import NDArray
from torch import nn

from castline.embedding import base_models, dlib_resnet
from castline.embedding.augment_settings import AugmentationSettings
from castline.embedding.base_settings import BaseModelSettings
from castline.embedding.features import embed
from castline.errors import ConfigError, WeightsError
from castline.files import params
from castline.training import finetune
from castline.training.examples import Part
from castline.training.finetune import epoch_order, fine_tune, tuned_parameters
from castline.training.heads import Array, Backward, Head, HeadSettings, SoftmaxHead, new_head
from castline.training.settings import TrainerSettings, TrainingSettings

HERE = Path(__file__).parents[1]
CONF = HERE.parent / "conf"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASTLINE_THREADS", "1")


def state(base: nn.Module, head: Head) -> dict[str, torch.Tensor]:
    weights = {f"head.{name}": torch.tensor(array) for name, array in head.weights.items()}
    return {f"base.{name}": tensor.clone() for name, tensor in base.state_dict().items()} | weights


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# What is tuned


@pytest.mark.parametrize(
    ("architecture", "inside", "outside"),
    [
        ("dlib_face_resnet", ["blocks.13.conv1.weight", "blocks.13.norm2.bias", "fc.weight"], "blocks.12.conv2.weight"),
        ("resnet18", ["layer4.1.conv1.weight", "layer4.1.bn2.bias"], "layer4.0.conv1.weight"),
        ("efficientnet_lite0", ["blocks.6.0.conv_pw.weight", "conv_head.weight", "bn2.weight"], "blocks.5.3.bn3.bias"),
        ("mobilenetv3_small_100", ["blocks.4.2.conv_dw.weight", "conv_head.weight"], "blocks.4.1.conv_dw.weight"),
        ("convnext_atto", ["stages.3.blocks.1.conv_dw.weight", "head.norm.bias"], "stages.3.blocks.0.gamma"),
        ("vit_tiny_patch16_224", ["blocks.11.attn.qkv.weight", "norm.weight"], "blocks.10.attn.qkv.weight"),
    ],
)
def test_the_last_block_of_many_networks(architecture: str, inside: list[str], outside: str) -> None:
    dlib_resnet.register()
    with torch.device("meta"):
        net = timm.create_model(architecture, num_classes=0)
    found = tuned_parameters(net, "last_block")
    assert found.issuperset(inside) and outside not in found
    assert outside in dict(net.named_parameters())


def test_a_network_without_norms_or_blocks_is_said() -> None:
    for tune in ("batchnorm", "last_block"):
        with pytest.raises(ConfigError, match="Sequential has none that is known"):
            tuned_parameters(nn.Sequential(nn.Linear(2, 2)), tune)


@pytest.mark.parametrize(
    ("tune", "start"),
    [("batchnorm", "scratch"), ("last_block", "scratch"), ("all", "scratch"), ("last_block", "pretrained")],
)
def test_only_what_is_named_moves(tune: str, start: str, sample: Path, tmp_path: Path) -> None:
    """Running statistics too: those of a frozen batch norm stay as they are, and of a block that knows something."""
    before = state(*finetune_run.models())
    base, head, fitted = run(sample, tmp_path, replace(RUN, tune=tune, start=start, epochs=1))
    assert not base.training
    assert all(p.requires_grad and p.is_contiguous() for p in base.parameters())
    assert fitted.best == len(fitted.history) - 1
    moved = {name for name, tensor in state(base, head).items() if not torch.equal(tensor, before[name])}
    expected = {"base.net." + name for name in tuned_parameters(base.net, tune)}
    layers = {"base." + name: layer for name, layer in base.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    norms = {name for name in layers if f"{name}.weight" in expected}
    names = ("running_mean", "running_var", "num_batches_tracked") if start == "scratch" else ()
    running = {f"{norm}.{name}" for norm in norms for name in names}
    assert {name for name in moved if name.startswith("base.")} == expected | running
    assert {name for name in moved if name.startswith("head.")} == {f"head.{name}" for name in head.weights}


# The order of faces


def test_everybody_is_shown_once_an_epoch_or_equally_often() -> None:
    people = np.repeat([0, 1, 2], [20, 3, 7]).astype(np.int64)
    plain = epoch_order(people, seed=1, epoch=4, balanced=False)
    assert sorted(plain) == list(range(30))
    shown = [epoch_order(people, seed=1, epoch=epoch, balanced=True) for epoch in range(6)]
    for order in shown:
        assert np.bincount(people[order]).tolist() == [10, 10, 10]
        assert set(order[people[order] == 1]) == {20, 21, 22}
    assert set(np.concatenate(shown)) == set(range(30))  # who has many is shown in turn
    assert np.array_equal(shown[2], epoch_order(people, seed=1, epoch=2, balanced=True))
    assert not np.array_equal(shown[2], shown[3])


# Training


def test_a_killed_run_arrives_where_it_would_have(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, here = tmp_path / "checkpoints", tmp_path / "here"
    program = [sys.executable, str(HERE / "finetune_run.py"), str(sample), str(checkpoints), "2", str(here)]
    path = os.pathsep.join([str(HERE), *sys.path])
    process = subprocess.Popen(program, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE)
    try:
        while not here.exists() and process.poll() is None:
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        said = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, said
    assert len(list(checkpoints.glob("*.ckpt"))) == 1

    epochs: list[int] = []
    augment = finetune.augment

    def watched(picture: NDArray[np.uint8], settings: AugmentationSettings, *numbers: int) -> NDArray[np.uint8]:
        epochs.extend(numbers[1:2])
        return augment(picture, settings, *numbers)

    monkeypatch.setattr(finetune, "augment", watched)
    *other, _ = run(sample, checkpoints, replace(RUN, seed=2, epochs=1))
    assert set(epochs) == {0} and len(list(checkpoints.glob("*.ckpt"))) == 1, "it took up another run's checkpoint"
    epochs.clear()
    *resumed, fitted = run(sample, checkpoints)
    assert set(epochs) == {2, 3} and not list(checkpoints.iterdir())
    *whole, unbroken = run(sample, tmp_path / "others")
    assert same(state(*resumed), state(*whole)) and not same(state(*other), state(*whole))
    assert fitted == unbroken and [row["epoch"] for row in fitted.history] == [0, 1, 2, 3]


def dlib() -> tuple[base_models.BaseModel, BaseModelSettings]:
    values = yaml.safe_load((CONF / "base_model" / "dlib_face_resnet.yaml").read_text())
    settings = params.typed(values, BaseModelSettings, "base_model")
    return base_models.build(settings, "pretrained", seed=0), settings


def by_torch(base: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Raw embeddings, a picture at a time."""

    def row(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return base.eval()(torch.tensor(image).permute(2, 0, 1)[None].float())[0].numpy()

    return row


@pytest.mark.slow
def test_two_processes_train_to_the_same_accuracy_as_one(sample: Path, tmp_path: Path) -> None:
    """Of a network without batch statistics, whose every step is that of one process, to rounding."""
    train, val = faces(sample, people=6)
    settings = TrainingSettings(tune="last_block", epochs=4, batch_size=9, lr=0.01, base_pace=0.01)
    reached = {}
    for trainer in (TrainerSettings(), TrainerSettings(devices=2, strategy="ddp")):
        base, base_settings = dlib()
        features = embed(by_torch(base), base_settings, train.chips)
        head = new_head(HeadSettings(), Part(features, train.people, np.arange(len(train))), 6, seed=1)
        light = finetune_run.LIGHT
        fitted = fine_tune(base, head, train, val, base_settings, settings, trainer, light, tmp_path)
        answers = head.logits(embed(by_torch(base), base_settings, val.chips)).argmax(1)
        right = float((answers == val.people).mean())
        assert right == fitted.history[fitted.best]["val_accuracy"]
        reached[trainer.devices] = (right, fitted)
    (one, alone), (two, shared) = reached[1], reached[2]
    assert one == two >= 0.9
    assert len(alone.history) == len(shared.history)
    for a, b in zip(alone.history, shared.history, strict=True):
        assert a == pytest.approx(b, rel=0.01)


@pytest.mark.parametrize(("start", "pace"), [("pretrained", 0.01), ("pretrained", 0.5), ("scratch", 1.0)])
def test_a_base_model_that_knows_something_takes_smaller_steps(
    start: str, pace: float, sample: Path, tmp_path: Path
) -> None:
    """Of one batch, without validation faces: Adam's first step is the learning rate, whatever the gradient."""
    base, head = finetune_run.models()
    chance = np.random.default_rng(1)
    head.weights = {name: chance.normal(size=array.shape).astype("f4") for name, array in head.weights.items()}
    train, _ = faces(sample)
    before, nobody = state(base, head), finetune.Faces([], np.empty(0, np.int64))
    settings = replace(RUN, start=start, base_pace=pace if start == "pretrained" else 0.01, epochs=1, batch_size=64)
    fine_tune(base, head, train, nobody, SMALL, settings, TrainerSettings(), AugmentationSettings(), tmp_path)
    after, steps = state(base, head), {}
    for part, names in (("base", {name for name, _ in base.named_parameters()}), ("head", set(head.weights))):
        moves = [(after[f"{part}.{name}"] - before[f"{part}.{name}"]).abs().max() for name in names]
        steps[part] = float(max(moves))
    assert steps["head"] == pytest.approx(settings.lr, rel=0.01)
    assert steps["base"] == pytest.approx(settings.lr * pace, rel=0.01)


def test_without_validation_faces_it_runs_to_its_last_epoch(sample: Path, tmp_path: Path) -> None:
    base, head = finetune_run.models()
    train, _ = faces(sample)
    nobody = finetune.Faces([], np.empty(0, np.int64))
    settings = replace(RUN, epochs=3, patience=1)
    fitted = fine_tune(base, head, train, nobody, SMALL, settings, TrainerSettings(), AugmentationSettings(), tmp_path)
    losses = [row["train_loss"] for row in fitted.history]
    assert len(losses) == 3 and fitted.best == losses.index(min(losses))
    assert "val_loss" not in fitted.history[0]


def test_it_stops_when_nothing_gets_better(sample: Path, tmp_path: Path) -> None:
    *_, fitted = run(sample, tmp_path, replace(RUN, lr=1e-9, epochs=30, patience=2, balanced=False))
    losses = [row["val_loss"] for row in fitted.history]
    assert len(losses) < 30 and len(losses) - 1 - fitted.best == 2
    assert fitted.best == losses.index(min(losses))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_what_it_starts_from_is_a_candidate(
    precision: Literal["32-true", "bf16-mixed"], sample: Path, tmp_path: Path
) -> None:
    """Where tuning does nothing but harm, the weights stay what they were; otherwise they do not."""
    kept = {}
    for lr in (0.003, 3.0):
        base, head = finetune_run.models()
        train, val = faces(sample)
        settings = replace(RUN, start="pretrained", lr=lr, epochs=3, patience=2)
        before, trainer = state(base, head), TrainerSettings(precision=precision)
        fitted = fine_tune(base, head, train, val, SMALL, settings, trainer, AugmentationSettings(), tmp_path)
        assert [row["epoch"] for row in fitted.history] == [-1, 0, 1, 2][: len(fitted.history)]
        assert "train_loss" not in fitted.history[0]
        kept[lr] = fitted.best
        assert same(state(base, head), before) == (fitted.best == 0)
    assert kept[0.003] > 0 == kept[3.0]


class _Margin(SoftmaxHead):
    """A head that makes it harder in training."""

    asked = 0

    def training(
        self, embedding: Array, people: NDArray[np.int64], chance: np.random.Generator
    ) -> tuple[Array, Backward]:
        _Margin.asked += 1
        logits, backward = super().training(embedding, people, chance)
        return logits - 5 * np.eye(4, dtype=np.float32)[people], backward


def test_a_heads_margin_is_for_training_alone(sample: Path, tmp_path: Path) -> None:
    base, _ = finetune_run.models()
    train, val = faces(sample)
    head = _Margin(HeadSettings(), 96, 4, seed=1)
    settings = replace(RUN, epochs=1, batch_size=12)
    fitted = fine_tune(base, head, train, val, SMALL, settings, TrainerSettings(), AugmentationSettings(), tmp_path)
    assert _Margin.asked == 2
    assert fitted.history[0]["train_loss"] > 3 > fitted.history[0]["val_loss"]


def test_mixed_precision_and_workers_learn_as_well(sample: Path, tmp_path: Path) -> None:
    """bf16 on the processor; pictures changed by two processes beside."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = run(sample, tmp_path, replace(RUN, epochs=1))[2]
        mixed = run(sample, tmp_path, replace(RUN, epochs=1), TrainerSettings(precision="bf16-mixed", workers=2))[2]
    assert mixed != plain
    assert mixed.history[0]["train_loss"] == pytest.approx(plain.history[0]["train_loss"], rel=0.05)


# What cannot be


def test_divergence_is_said(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.lr=1e\+30: training diverged"):
        run(sample, tmp_path, replace(RUN, lr=1e30))
    assert not list(tmp_path.iterdir())


def test_a_broken_checkpoint_is_said(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "_fingerprint", lambda *_: "run")
    (tmp_path / "run.ckpt").write_bytes(b"PK no checkpoint")
    with pytest.raises(WeightsError, match=r"run\.ckpt: cannot be read"):
        run(sample, tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a graphics card")
def test_a_card_that_is_not_there_is_said(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"next: -S trainer=cpu") as refused:
        run(sample, tmp_path, trainer=TrainerSettings(accelerator="gpu"))
    assert "finds no graphics card" in str(refused.value)


def test_more_processes_than_faces_in_a_batch_are_refused(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.devices is 9"):
        run(sample, tmp_path, trainer=TrainerSettings(devices=9, strategy="ddp"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"accelerator": "tpu"}, "allowed: cpu, gpu"),
        ({"strategy": "fsdp"}, "allowed: auto, ddp"),
        ({"precision": "64"}, "allowed: 32-true, bf16-mixed, 16-mixed"),
        ({"devices": 0}, "trainer.devices is 0"),
        ({"workers": -1}, "trainer.workers is -1"),
        ({"devices": 2}, "trainer.strategy is auto"),
        ({"precision": "16-mixed"}, "which processors do not have"),
    ],
)
def test_trainers_that_do_not_fit_are_named(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        TrainerSettings(**change)  # type: ignore[arg-type]
    assert complaint in str(refused.value)

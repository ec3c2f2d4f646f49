"""A run of fine-tuning on a small network, for test_finetune.py; as a program, one that waits to be killed.

python finetune_run.py SAMPLE CHECKPOINTS EPOCH HERE    in the middle of EPOCH, makes the file HERE and waits
"""

import signal
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sample_faces import sample_chips

from castline.embedding import base_models
from castline.embedding.augment_settings import AugmentationSettings
from castline.embedding.base_settings import BaseModelSettings
from castline.training import finetune
from castline.training.finetune import Faces, fine_tune
from castline.training.fit import Fitted
from castline.training.heads import Head, HeadSettings, build_head
from castline.training.settings import TrainerSettings, TrainingSettings

SMALL = BaseModelSettings(
    name="small",
    source="packaged",
    architecture="test_resnet",
    package="nowhere",
    file="none.pth",
    sha256="0" * 64,
    input_size=64,
    mean=(127.5,) * 3,
    std=(127.5,) * 3,
    template="head",
    embedding_size=96,
    licence="none",
    commercial_ok="unknown",
)
LIGHT = AugmentationSettings("light", flip=0.5, shift=0.03, rotate=5.0, brightness=0.1)
RUN = TrainingSettings(start="scratch", tune="all", epochs=4, batch_size=8, lr=0.003, balanced=True)


def faces(sample: Path, people: int = 4, each: int = 8, test: int = 2) -> tuple[Faces, Faces]:
    """Training and validation faces of some of the sample cast."""
    chips, names = sample_chips(sample, each=each)
    wanted = [i for i, name in enumerate(names) if name in sorted(set(names))[:people]]
    who: NDArray[np.int64] = np.unique([names[i] for i in wanted], return_inverse=True)[1].astype(np.int64)
    kept = np.arange(len(wanted)) % each >= test
    return tuple(  # type: ignore[return-value]
        Faces([chips[i] for i, one in zip(wanted, part, strict=True) if one], who[part]) for part in (kept, ~kept)
    )


def models(people: int = 4) -> tuple[base_models.BaseModel, Head]:
    head = build_head(HeadSettings(dropout=0.2, hidden=16), 96, people, seed=1)
    return base_models.build(SMALL, "scratch", seed=3), head


def run(
    sample: Path,
    checkpoints: Path,
    settings: TrainingSettings = RUN,
    trainer: TrainerSettings | None = None,
) -> tuple[base_models.BaseModel, Head, Fitted]:
    base, head = models()
    train, val = faces(sample)
    fitted = fine_tune(base, head, train, val, SMALL, settings, trainer or TrainerSettings(), LIGHT, checkpoints)
    return base, head, fitted


def main(sample: str, checkpoints: str, epoch: str, here: str) -> None:
    augment = finetune.augment
    seen = 0

    def stop(picture: NDArray[np.uint8], settings: AugmentationSettings, *numbers: int) -> NDArray[np.uint8]:
        nonlocal seen
        seen += numbers[1:2] == (int(epoch),)
        if seen == 12:
            Path(here).touch()
            signal.pause()
        return augment(picture, settings, *numbers)

    finetune.augment = stop
    run(Path(sample), Path(checkpoints))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A recognizer of the sample cast without a released model, which would take a run of the pipeline: what a base model
makes of a few chips is the gallery, and the head is the distance to it. Detector and base model are the real ones."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from sample_faces import sample_chips

from castline.embedding import base_models
from castline.embedding.base_settings import BaseModelSettings
from castline.embedding.crops import Crops
from castline.faces.detectors import build
from castline.faces.settings import DetectorSettings
from castline.files import params
from castline.photos.settings import PhotoSettings
from castline.runtime import Cast, Recognizer
from castline.scoring import Scorer

ENTRY = Path(__file__).parents[1] / "conf" / "base_model" / "dlib_face_resnet.yaml"


@cache
def sample_recognizer(sample: Path, each: int = 3) -> Recognizer:
    """One that knows everybody of the first delivery by `each` photos of them, and names everybody."""
    settings = params.typed(yaml.safe_load(ENTRY.read_text()), BaseModelSettings, "base_model")
    base = base_models.build(settings, "pretrained", seed=0)

    def raw(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # for one face, more of them wait for each other
        try:
            with torch.inference_mode():
                return base(torch.tensor(image).permute(2, 0, 1)[None].float())[0].numpy()
        finally:
            torch.set_num_threads(threads)

    chips, labels = sample_chips(sample, each)
    people = tuple(sorted(set(labels)))
    rows = np.stack([raw(image) for image in Crops(chips, settings)])
    gallery = np.stack([rows[np.array(labels) == person].mean(0) for person in people])
    # By logits -10 |x - gallery|², whose common part the softmax takes away.
    weight, bias = 20 * gallery, -10 * np.square(gallery).sum(1)
    made = object.__new__(Recognizer)
    made.bundle = SimpleNamespace(template=settings.template, input_size=settings.input_size)  # type: ignore[assignment]
    made.photos, made._detection = PhotoSettings(), DetectorSettings()
    made._detector, made._model = build(made._detection), raw  # type: ignore[assignment]
    zero = np.zeros(rows.shape[1], np.float32)
    made.cast = Cast(
        Scorer(people, {}, zero, np.ones(1, np.float32), weight, bias, gallery=gallery, metric=settings.metric)
    )
    return made

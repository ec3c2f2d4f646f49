"""The trained model: base model and head in one, and how it lies on disk."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from castline.errors import ConfigError, DataError
from castline.training.base_models import BaseModel, BaseModelSettings
from castline.training.heads import HeadSettings, build_head

__all__ = ["FaceModel", "ModelDescription", "load", "save"]


@dataclass(frozen=True)
class ModelDescription:
    """What it takes to rebuild a model around its weights. people: in the order of the scores."""

    base: BaseModelSettings
    head: HeadSettings
    people: tuple[str, ...]


class FaceModel(nn.Module):
    """(N, 3, S, S) float32 RGB 0..255 → embedding (N, D) and scores (N, P), float32.

    An embedding has length 1; the scores of a face sum to 1.
    """

    def __init__(self, base: BaseModel, head: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.head = head

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.finish(self.base(image))

    def finish(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """What follows the base model: raw embedding (N, D) → embedding (N, D) of length 1, scores (N, P)."""
        return F.normalize(raw), F.softmax(self.head(raw), dim=1)


def save(folder: Path, model: FaceModel, description: ModelDescription) -> None:
    """Write model.safetensors and model.json; the same model gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    text = json.dumps(asdict(description), indent=2, ensure_ascii=False)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[FaceModel, ModelDescription]:
    """What `save` wrote, in eval mode.

    Raises: DataError when the folder does not hold a model.
    """
    try:
        fields = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        description = ModelDescription(
            BaseModelSettings(**fields["base"]), HeadSettings(**fields["head"]), tuple(fields["people"])
        )
        head = build_head(description.head, description.base.embedding_size, len(description.people))
        model = FaceModel(BaseModel(description.base), head)
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError, ConfigError) as error:
        raise DataError(f"{folder}: no trained model: {error}", "dvc repro train") from error
    model.eval()
    return model, description

"""Heads: from an embedding to a score for each person."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from castline.training.settings import HeadSettings

__all__ = ["HeadSettings", "SoftmaxHead", "build_head"]


class SoftmaxHead(nn.Module):
    """(N, D) float32 raw embedding → (N, P) float32 logits.

    The input is centred per number and scaled by one factor for all of them, both from the training features:
    embeddings of different base models differ tenfold in length, and each would want its own learning rate.
    A factor for each number did worse: on ImageNet's 1,280 numbers it blows up those that hardly vary
    (8 people of FaceScrub: 0.85 of the test faces named rightly, against 0.89).
    """

    input_mean: Tensor
    input_factor: Tensor

    def __init__(self, settings: HeadSettings, embedding_size: int, people: int) -> None:
        super().__init__()
        self.register_buffer("input_mean", torch.zeros(1, embedding_size))
        self.register_buffer("input_factor", torch.ones(1, 1))
        width = settings.hidden or embedding_size
        hidden = [nn.Linear(embedding_size, width), nn.ReLU()] if settings.hidden else []
        last = nn.Linear(width, people)
        # Everybody is equally likely at first, and without a hidden layer no seed matters.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*hidden, nn.Dropout(settings.dropout), last)

    def fit_input(self, features: Tensor) -> None:
        """Take centre and scale from raw embeddings of the training faces: (N, D) float32."""
        mean = features.mean(0, keepdim=True)
        spread = (features - mean).square().mean().sqrt()
        self.input_mean.copy_(mean)
        self.input_factor.fill_(1 / float(spread) if spread > 0 else 1.0)

    def forward(self, embedding: Tensor) -> Tensor:
        logits: Tensor = self.layers((embedding - self.input_mean) * self.input_factor)
        return logits


def build_head(settings: HeadSettings, embedding_size: int, people: int) -> nn.Module:
    """The head that `settings` asks for, untrained: (N, embedding_size) float32 → (N, people) logits.

    A head with a hidden layer starts from torch's random state: seed it before.
    """
    return _KINDS[settings.kind](settings, embedding_size, people)


_KINDS: dict[str, Callable[[HeadSettings, int, int], nn.Module]] = {"softmax": SoftmaxHead}

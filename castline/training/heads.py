"""Heads in training: from a raw embedding to a logit for each person. Trained, each becomes a `Scorer`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from castline.scoring import Scorer
from castline.training.examples import Part
from castline.training.settings import HeadSettings

__all__ = ["CosineHead", "Head", "HeadSettings", "SoftmaxHead", "build_head", "head_of", "new_head"]


class Head(nn.Module):
    """(N, D) float32 raw embedding → (N, P) float32 logits.

    The input is centred per number and scaled by one factor for all of them, both from the training features:
    embeddings of different base models differ tenfold in length, and each would want its own learning rate.
    A factor for each number did worse: on ImageNet's 1,280 numbers it blows up those that hardly vary
    (8 people of FaceScrub: 0.85 of the test faces named rightly, against 0.89).
    """

    input_mean: Tensor
    input_factor: Tensor

    def __init__(self, settings: HeadSettings, embedding_size: int) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("input_mean", torch.zeros(1, embedding_size))
        self.register_buffer("input_factor", torch.ones(1, 1))

    def fit_input(self, features: Tensor, people: Tensor, weights: Tensor | None = None) -> None:
        """Take from the training faces what is not learnt by gradients: centre and scale.

        features: (N, D) float32 raw embeddings. people: (N,) int64. weights: (N,) float32, how much each counts.
        """
        share = torch.full((len(features),), 1 / len(features)) if weights is None else weights / weights.sum()
        mean = (features * share[:, None]).sum(0, keepdim=True) if weights is not None else features.mean(0, True)
        spread = (features - mean).square().mean(1) @ share
        self.input_mean.copy_(mean)
        self.input_factor.fill_(1 / float(spread.sqrt()) if spread > 0 else 1.0)

    def standardised(self, embedding: Tensor) -> Tensor:
        return (embedding - self.input_mean) * self.input_factor

    def training_logits(self, embedding: Tensor, people: Tensor) -> Tensor:
        """The logits that the loss is taken of; people: (N,) int64, the right ones."""
        logits: Tensor = self(embedding)
        return logits

    def scorer(self, people: Sequence[str]) -> Scorer:
        """This head in NumPy. people: names, in the order of the logits."""
        raise NotImplementedError


class SoftmaxHead(Head):
    """A linear classifier, after a hidden layer where `settings.hidden` says so."""

    def __init__(self, settings: HeadSettings, embedding_size: int, people: int) -> None:
        super().__init__(settings, embedding_size)
        self.hidden = nn.Linear(embedding_size, settings.hidden) if settings.hidden else None
        self.dropout = nn.Dropout(settings.dropout)
        self.last = nn.Linear(settings.hidden or embedding_size, people)
        # Everybody is equally likely at first, and without a hidden layer no seed matters.
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, embedding: Tensor) -> Tensor:
        x = self.standardised(embedding)
        if self.hidden is not None:
            x = F.relu(self.hidden(x))
        logits: Tensor = self.last(self.dropout(x))
        return logits

    def scorer(self, people: Sequence[str]) -> Scorer:
        return Scorer(
            tuple(people),
            asdict(self.settings),
            mean=_array(self.input_mean[0]),
            factor=_array(self.input_factor[0]),
            weight=_array(self.last.weight),
            bias=_array(self.last.bias),
            hidden_weight=_array(self.hidden.weight) if self.hidden else None,
            hidden_bias=_array(self.hidden.bias) if self.hidden else None,
        )


class CosineHead(Head):
    """Cosines between the centred embedding and a prototype of each person, times a scale.

    It starts from each person's mean, which is all that the `prototype` kind is. In training the right person's cosine
    is made worse by a margin, so that people end up further apart than they would have to: ArcFace (Deng et al., 2019)
    adds it to the angle, CosFace (Wang et al., 2018) takes it from the cosine.
    """

    def __init__(self, settings: HeadSettings, embedding_size: int, people: int) -> None:
        super().__init__(settings, embedding_size)
        self.prototypes = nn.Parameter(torch.zeros(people, embedding_size))
        self.prototypes.requires_grad_(settings.kind != "prototype")

    def fit_input(self, features: Tensor, people: Tensor, weights: Tensor | None = None) -> None:
        super().fit_input(features, people, weights)
        with torch.no_grad():
            unit = F.normalize(self.standardised(features))
            unit = unit if weights is None else unit * weights[:, None]
            sums = torch.zeros_like(self.prototypes).index_add_(0, people, unit)
            self.prototypes.copy_(F.normalize(sums))

    def forward(self, embedding: Tensor) -> Tensor:
        return self.settings.scale * self._cosines(embedding)

    def training_logits(self, embedding: Tensor, people: Tensor) -> Tensor:
        cosines = self._cosines(embedding)
        own = cosines.gather(1, people[:, None])
        margin = self.settings.margin
        if self.settings.margin_kind == "cosface":
            wanted = own - margin
        else:
            angle = torch.acos(own.clamp(-1 + 1e-6, 1 - 1e-6)) + margin
            # Past a half turn the cosine would rise again; there it goes on falling in a straight line.
            wanted = torch.where(angle < torch.pi, torch.cos(angle), -1 - (angle - torch.pi))
        return self.settings.scale * cosines.scatter(1, people[:, None], wanted)

    def _cosines(self, embedding: Tensor) -> Tensor:
        return F.normalize(self.standardised(embedding)) @ F.normalize(self.prototypes).T

    def scorer(self, people: Sequence[str]) -> Scorer:
        return Scorer(
            tuple(people),
            asdict(self.settings),
            mean=_array(self.input_mean[0]),
            factor=_array(self.input_factor[0]),
            weight=_array(self.settings.scale * F.normalize(self.prototypes)),
            bias=np.zeros(len(self.prototypes), np.float32),
            normalised=True,
        )


def build_head(settings: HeadSettings, embedding_size: int, people: int) -> Head:
    """The head that `settings` asks for, untrained: (N, embedding_size) float32 → (N, people) logits.

    A head with a hidden layer starts from torch's random state: seed it before.
    """
    return _KINDS[settings.kind](settings, embedding_size, people)


def new_head(settings: HeadSettings, train: Part, people: int, seed: int) -> Head:
    """A head that is ready to be trained on `train`."""
    torch.manual_seed(seed)
    head = build_head(settings, train.features.shape[1], people)
    head.fit_input(torch.from_numpy(train.features), torch.from_numpy(train.people))
    return head


def head_of(scorer: Scorer) -> Head:
    """A head that goes on from what `scorer` was trained to."""
    settings = HeadSettings(**scorer.settings)
    head = build_head(settings, scorer.mean.size, len(scorer.people))
    with torch.no_grad():
        head.input_mean.copy_(torch.from_numpy(scorer.mean)[None])
        head.input_factor.copy_(torch.from_numpy(scorer.factor)[None])
        if isinstance(head, CosineHead):
            head.prototypes.copy_(torch.from_numpy(scorer.weight / np.float32(settings.scale)))
        elif isinstance(head, SoftmaxHead):
            head.last.weight.copy_(torch.from_numpy(scorer.weight))
            head.last.bias.copy_(torch.from_numpy(scorer.bias))
            if head.hidden is not None and scorer.hidden_weight is not None and scorer.hidden_bias is not None:
                head.hidden.weight.copy_(torch.from_numpy(scorer.hidden_weight))
                head.hidden.bias.copy_(torch.from_numpy(scorer.hidden_bias))
    return head.eval()


_KINDS: dict[str, Callable[[HeadSettings, int, int], Head]] = {
    "softmax": SoftmaxHead,
    "cosine": CosineHead,
    "prototype": CosineHead,
}


def _array(tensor: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return tensor.detach().cpu().numpy().astype(np.float32)

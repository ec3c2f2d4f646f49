"""A head in PyTorch's graph, for fine-tuning. What it computes, and its gradients, are NumPy's: see heads.py."""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from castline.training.heads import Array, Head

__all__ = ["TorchHead"]


class TorchHead(nn.Module):
    """`head` with its weights as parameters: optimizers move them, checkpoints hold them, processes agree on them.

    On a graphics card, embeddings and gradients of a batch travel to the processor and back: of 64 faces, half a
    megabyte at most. The weights are float32, in mixed precision too.
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head
        for name, array in head.weights.items():
            self.register_parameter(name, nn.Parameter(torch.from_numpy(array.copy()), requires_grad=head.learns))

    def forward(self, embedding: Tensor, people: Tensor, chance: np.random.Generator) -> Tensor:
        """The logits (N, P) to train on, of raw embeddings (N, D) float32: see Head.training."""
        logits: Tensor = _Training.apply(self._now(), _array(people), chance, embedding, *self.parameters())
        return logits

    def logits(self, embedding: Tensor) -> Tensor:
        """The logits of use; no gradient goes through them."""
        return torch.from_numpy(self._now().logits(_array(embedding))).to(embedding.device)

    def weights(self) -> dict[str, Array]:
        """What the parameters are now."""
        return {name: _array(parameter) for name, parameter in self.named_parameters()}

    def _now(self) -> Head:
        head = copy.copy(self.head)
        head.weights = self.weights()
        return head


class _Training(torch.autograd.Function):
    """Head.training as one step of the graph. Weights go in as tensors too, in their order, so as to get gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        head: Head,
        people: NDArray[np.int64],
        chance: np.random.Generator,
        embedding: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        logits, ctx.backward_in_numpy = head.training(_array(embedding), people, chance)
        ctx.names = tuple(head.weights)
        return torch.from_numpy(logits).to(embedding.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_logits: Tensor) -> tuple[Tensor | None, ...]:
        gradients, of_embedding = ctx.backward_in_numpy(_array(of_logits))
        arrays = (of_embedding, *(gradients[name] for name in ctx.names))
        return None, None, None, *(torch.from_numpy(array).to(of_logits.device) for array in arrays)


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy()

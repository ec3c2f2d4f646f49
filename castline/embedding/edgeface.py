"""EdgeFace: timm's EdgeNeXt with an embedding of 512 numbers in the classifier's place.

Source: George, Ecabert, Otroshi Shahreza, Kotwal, Marcel, EdgeFace (arXiv 2307.01838). The gamma variants put two
thin linear layers, of a share gamma of the rank, in the place of each. With these the numbers of parameters are those
that the authors give; their weight files themselves were not at hand.
"""

from functools import partial

from torch import Tensor, nn

__all__ = ["EDGEFACES", "edgeface"]

_EMBEDDING = 512


class LowRankLinear(nn.Module):
    """A linear layer through a bottleneck of `rank` numbers."""

    def __init__(self, full: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(full.in_features, rank, bias=False)
        self.linear2 = nn.Linear(rank, full.out_features, bias=full.bias is not None)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear2(self.linear1(x))
        return y


def edgeface(backbone: str, gamma: float | None) -> nn.Module:
    """(N, 3, 112, 112) float32 RGB, (x - 127.5) / 127.5, in ArcFace's template → (N, 512) float32 embedding.

    backbone: timm's name of an EdgeNeXt. gamma: None for full linear layers.
    """
    import timm

    net: nn.Module = timm.create_model(backbone, num_classes=_EMBEDDING)
    if gamma is not None:
        for name, module in list(net.named_modules()):
            if isinstance(module, nn.Linear):  # the one that gives the embedding too
                rank = max(2, int(gamma * min(module.in_features, module.out_features)))
                net.set_submodule(name, LowRankLinear(module, rank))
    return net


EDGEFACES = {
    "edgeface_base": partial(edgeface, "edgenext_base", None),
    "edgeface_s_gamma_05": partial(edgeface, "edgenext_small", 0.5),
    "edgeface_xs_gamma_06": partial(edgeface, "edgenext_x_small", 0.6),
    "edgeface_xxs": partial(edgeface, "edgenext_xx_small", None),
}

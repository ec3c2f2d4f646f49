"""MobileFaceNet: a small network for faces, 192 numbers from 112 pixels, its batch norms folded into convolutions.

Source: Chen, Liu, Gao, Han, MobileFaceNets (arXiv 1804.07573), in the form of sirius-ai's TensorFlow port, whose
weights it takes: strided convolutions pad at the right and the bottom alone, as TensorFlow's SAME does.
"""

from torch import Tensor, nn

__all__ = ["MobileFaceNet"]

# Channels in, within and out, stride of the first, and how many: the bottlenecks of the paper's table 1.
_STAGES = (
    (64, 128, 64, 2, 5),
    (64, 256, 128, 2, 1),
    (128, 256, 128, 1, 6),
    (128, 512, 128, 2, 1),
    (128, 256, 128, 1, 2),
)
_MAPS = 512
_EMBEDDING = 192


class Conv(nn.Module):
    """A convolution and, unless it is linear, a PReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
        padded: bool = True,
    ) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1)) if stride == 2 else nn.Identity()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2 if padded and stride == 1 else 0, groups=groups
        )
        self.act = nn.Identity() if linear else nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.conv(self.pad(x)))
        return y


class Bottleneck(nn.Module):
    """Widen, filter each channel by itself, narrow; with a shortcut where sizes agree."""

    def __init__(self, inputs: int, within: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            Conv(inputs, within),
            Conv(within, within, 3, stride, groups=within),
            Conv(within, outputs, linear=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.shortcut else y


class MobileFaceNet(nn.Module):
    """(N, 3, 112, 112) float32 RGB, (x - 127.5) / 128, in ArcFace's template → (N, 192) float32 embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features = _MAPS
        self.head_hidden_size = _EMBEDDING
        layers: list[nn.Module] = [Conv(3, 64, 3, 2), Conv(64, 64, 3, groups=64), Conv(64, 64, linear=True)]
        for inputs, within, outputs, stride, count in _STAGES:
            layers.append(Bottleneck(inputs, within, outputs, stride))
            layers += [Bottleneck(outputs, within, outputs, 1) for _ in range(count - 1)]
        self.features = nn.Sequential(*layers, Conv(_STAGES[-1][2], _MAPS))
        # A weight for each place in place of pooling: a face's corners tell less than its middle.
        self.head = nn.Sequential(
            Conv(_MAPS, _MAPS, 7, groups=_MAPS, linear=True, padded=False),
            Conv(_MAPS, _MAPS, linear=True),
            Conv(_MAPS, _EMBEDDING, linear=True),
        )
        self._initialise()

    def _initialise(self) -> None:
        """He's initialisation; branches with a shortcut start at 1/√blocks, for no batch norm tames their sum."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, a=0.25)  # fan-in: depthwise ones have few outputs to share it
                nn.init.zeros_(module.bias)
        blocks = [module for module in self.modules() if isinstance(module, Bottleneck) and module.shortcut]
        for block in blocks:
            last = block.body.get_submodule("2.conv").get_parameter("weight")
            last.data.mul_(len(blocks) ** -0.5)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, 3, 112, 112) → (N, 512, 7, 7): the maps before the embedding."""
        maps: Tensor = self.features(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.head(self.forward_features(x))
        return embedding.flatten(1)

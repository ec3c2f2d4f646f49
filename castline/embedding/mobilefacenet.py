"""MobileFaceNet: a small network for faces, 192 numbers from 112 pixels, its batch norms folded into convolutions.

Source: Chen, Liu, Gao, Han, MobileFaceNets (arXiv 1804.07573), in the form of sirius-ai's TensorFlow port, whose
weights it takes: strided convolutions pad at the right and the bottom alone, as TensorFlow's SAME does.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from castline.errors import WeightsError

__all__ = ["MobileFaceNet", "load_tflite"]

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


def load_tflite(path: Path) -> dict[str, Tensor]:
    """The weights in the TFLite file that apps carry, as a state dict of `MobileFaceNet()`, float32.

    Only constants are read, in the order of the file's operations; the architecture is the one above.

    Raises: WeightsError when the file is another one.
    """
    from ai_edge_litert.interpreter import Interpreter

    with torch.device("meta"):  # names and shapes alone
        net = MobileFaceNet()
    convs = [name for name, module in net.named_modules() if isinstance(module, Conv)]
    state: dict[str, Tensor] = {}
    done = 0
    try:
        file = Interpreter(str(path))
        shapes = {tensor["index"]: tuple(tensor["shape"]) for tensor in file.get_tensor_details()}
        for operation in file._get_ops_details():
            inputs = [int(index) for index in operation["inputs"]]
            if operation["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D"):
                name = convs[done]
                # (out, h, w, in), or (1, h, w, out) if depthwise → PyTorch's (out, in, h, w)
                axes = (3, 0, 1, 2) if operation["op_name"].startswith("DEPTHWISE") else (0, 3, 1, 2)
                state[f"{name}.conv.weight"] = torch.tensor(file.get_tensor(inputs[1]).transpose(axes))
                state[f"{name}.conv.bias"] = torch.tensor(file.get_tensor(inputs[2]))
                done += 1
            elif operation["op_name"] == "MUL":  # PReLU is relu(x) + slope / 2 · (x - |x|)
                for index in inputs:
                    if len(shapes[index]) == 1:
                        state[f"{convs[done - 1]}.act.weight"] = 2 * torch.tensor(file.get_tensor(index))
    except (ValueError, RuntimeError, IndexError) as error:
        raise WeightsError(f"{path}: not MobileFaceNet's TFLite file: {error}") from error
    wanted = {name: tensor.shape for name, tensor in net.state_dict().items()}
    if wanted != {name: tensor.shape for name, tensor in state.items()}:
        raise WeightsError(f"{path}: not MobileFaceNet's TFLite file: {done} convolutions, wanted are {len(convs)}")
    return state

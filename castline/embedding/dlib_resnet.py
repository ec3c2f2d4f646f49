"""dlib's face ResNet, in PyTorch: a photo of a face to 128 numbers that tell people apart.

Source: Davis King's dlib and its weights dlib_face_recognition_resnet_model_v1.dat,
which he gave to the public domain (CC0). Nothing here needs timm; `register` makes timm know `dlib_face_resnet`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from castline.errors import ConfigError, WeightsError

__all__ = ["DlibFaceResNet", "dlib_face_resnet", "load_dat", "register"]

# Channels, blocks, and whether the first block halves the picture: dlib's alevel4 to alevel0.
_STAGES = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))
_MAPS = 256
_EMBEDDING = 128


class FrozenNorm(nn.Module):
    """Scale and shift per channel: a BatchNorm whose statistics are folded in (dlib's `affine_`).

    Written as a batch norm of mean 0 and variance 1, so that the ONNX exporter folds it into its convolution.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels), persistent=False)
        self.register_buffer("variance", torch.ones(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, eps=0.0)


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut. Where sizes differ, dlib pads both with zeros to the larger."""

    widen: Tensor | None

    def __init__(self, inputs: int, outputs: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.norm1 = FrozenNorm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = FrozenNorm(outputs)
        # Zero channels are added by a 1×1 identity convolution: onnx2tf lays a Pad on channels out wrongly.
        identity = torch.eye(outputs, inputs)[:, :, None, None] if outputs != inputs else None
        self.register_buffer("widen", identity, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        shortcut = F.avg_pool2d(x, 2) if self.down else x
        if self.widen is not None:
            shortcut = F.conv2d(shortcut, self.widen)
        # An unpadded 3×3 stride-2 convolution of an even side gives one pixel less than pooling it by two.
        missing = int(shortcut.shape[2]) - int(y.shape[2])
        if missing:
            y = F.pad(y, (0, missing, 0, missing))
        return F.relu(y + shortcut)


class DlibFaceResNet(nn.Module):
    """(N, 3, 150, 150) float32 RGB, (x - [122.782, 117.001, 104.298]) / 256 → (N, 128) float32 embedding.

    The input is a face in dlib's chip template. Two faces of one person usually lie within 0.6 (Euclidean).
    With `num_classes` > 0 a linear classifier follows, as everywhere in timm.
    """

    def __init__(self, num_classes: int = 0) -> None:
        super().__init__()
        self.num_features = self.head_hidden_size = _EMBEDDING
        self.num_classes = num_classes
        self.stem = nn.Conv2d(3, _STAGES[0][0], 7, stride=2)
        self.norm = FrozenNorm(_STAGES[0][0])
        blocks: list[Block] = []
        channels = _STAGES[0][0]
        for width, count, halves in _STAGES:
            for index in range(count):
                blocks.append(Block(channels, width, down=halves and index == 0))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(_MAPS, _EMBEDDING, bias=False)
        self.reset_classifier(num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """He's initialisation; branches start at 1/√blocks, for no batch norm tames their sum."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
        for block in self.blocks.children():
            nn.init.constant_(block.get_submodule("norm2").get_parameter("weight"), len(self.blocks) ** -0.5)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Which parameters belong together, from input to output, as timm asks it: `fc` goes with the last block."""
        return {"stem": r"^(?:stem|norm)\.", "blocks": [(r"^blocks\.(\d+)", None), (r"^fc", (99999,))]}

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier, or none for 0. Pooling is part of the embedding, so it can only be avg."""
        if global_pool not in (None, "avg"):
            raise ConfigError(f"dlib_face_resnet: global_pool={global_pool}, allowed is avg")
        self.num_classes = num_classes
        self.head = nn.Linear(_EMBEDDING, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) → (N, 256, s, s): the maps before pooling."""
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 3, 2)  # (N, 32, 35, 35) at 150 pixels
        maps: Tensor = self.blocks(x)
        return maps

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, 256, s, s) → (N, 128) embedding, or (N, num_classes) logits of it."""
        x = self.fc(x.mean((2, 3)))
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def dlib_face_resnet(pretrained: bool = False, num_classes: int = 0, **kwargs: Any) -> DlibFaceResNet:
    """timm's way in. The weights are not timm's to fetch: see `castline.embedding.base_models.build`.

    Raises: ConfigError for pretrained=True and for arguments that this network has no use for.
    """
    unknown = {k: v for k, v in kwargs.items() if v is not None and not k.startswith("pretrained_cfg")}
    if pretrained:
        raise ConfigError(
            "dlib_face_resnet: pretrained=True is not known here",
            "net.load_state_dict(castline.embedding.dlib_resnet.load_dat(FILE))",
        )
    if unknown:
        raise ConfigError(f"dlib_face_resnet: unknown arguments {unknown}, allowed is num_classes")
    return DlibFaceResNet(num_classes)


def register() -> None:
    """Make `timm.create_model("dlib_face_resnet")` work. Apart from importing, because timm takes seconds to import."""
    from timm.models import is_model, register_model

    if not is_model(dlib_face_resnet.__name__):
        register_model(dlib_face_resnet)


class _Cursor:
    """Reads the tensors of a dlib file in order. Each follows the name of its layer."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.at = path, path.read_bytes(), 0

    def seek(self, layer: str) -> None:
        tag = bytes([len(layer)]) + layer.encode()
        found = self.data.find(tag, self.at)
        if found < 0:
            raise self.error(f"no layer {layer} after byte {self.at}")
        self.at = found + len(tag)

    def integer(self) -> int:
        """dlib's packed integer: a length byte, then so many bytes, the lowest first."""
        head = self.data[self.at : self.at + 1]
        size = head[0] & 0x0F if head else 0
        end = self.at + 1 + size
        if not 0 < size <= 8 or end > len(self.data) or head[0] & 0x80:
            raise self.error(f"no count at byte {self.at}")
        value = int.from_bytes(self.data[self.at + 1 : end], "little")
        self.at = end
        return value

    def tensor(self, size: int) -> NDArray[np.float32]:
        """The next tensor, flat, which must hold `size` numbers."""
        version = self.integer()
        if version != 2:
            raise self.error(f"tensor version {version} at byte {self.at}, known is 2")
        shape = [self.integer() for _ in range(4)]
        end = self.at + 4 * size
        if int(np.prod(shape)) != size or end > len(self.data):
            raise self.error(f"tensor of shape {shape} at byte {self.at}, expected {size} numbers")
        values = np.frombuffer(self.data, "<f4", size, self.at).astype(np.float32)
        self.at = end
        return values

    def error(self, what: str) -> WeightsError:
        return WeightsError(
            f"{self.path}: not dlib's face ResNet: {what}", "use dlib_face_recognition_resnet_model_v1.dat"
        )


def load_dat(path: Path) -> dict[str, Tensor]:
    """The weights in dlib's own file, as a state dict of `DlibFaceResNet()`, float32.

    Only numbers are read; the architecture is the one above and the file must fit it. Nothing is executed.

    Raises: WeightsError when the file is another one or is cut short.
    """
    # Names and shapes alone. On the meta device torch would import its compiler for it, which takes seconds.
    net = DlibFaceResNet()
    file = _Cursor(path)
    state: dict[str, Tensor] = {}
    for name, module in net.named_modules():  # in the order of the file: convolution, affine, convolution …
        if isinstance(module, nn.Conv2d):
            file.seek("con_4")
            count = module.weight.numel()
            values = torch.from_numpy(file.tensor(count + module.out_channels))
            state[f"{name}.weight"] = values[:count].reshape(module.weight.shape).clone()
            state[f"{name}.bias"] = values[count:].clone()
        elif isinstance(module, FrozenNorm):
            file.seek("affine_")
            values = torch.from_numpy(file.tensor(2 * module.weight.numel()))
            state[f"{name}.weight"], state[f"{name}.bias"] = (half.clone() for half in values.chunk(2))
        elif isinstance(module, nn.Linear):
            file.seek("fc_2")
            file.integer()  # outputs
            file.integer()  # inputs
            values = torch.from_numpy(file.tensor(module.weight.numel()))
            state[f"{name}.weight"] = values.reshape(_MAPS, _EMBEDDING).T.contiguous()
    return state

"""dlib's face ResNet: the numbers that dlib's weights give, and a network that can be trained."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from castline.embedding.dlib_resnet import DlibFaceResNet, load_dat, register
from castline.errors import ConfigError, WeightsError
from castline.files.weights import packaged_file

register()

# The first of 128, for `picture()`, by a port of its own that was compared with dlib 20.0 (within 2.2e-7).
GOLDEN = [-0.049217, 0.122522, 0.0829, -0.017994, -0.109693, -0.031692, -0.063445, -0.008795, 0.089859, -0.000112]
LENGTH = 1.32089


def picture() -> torch.Tensor:
    """A made-up picture, (1, 3, 150, 150) float32, as the network takes it."""
    y, x = np.mgrid[0:150, 0:150]
    rgb = np.stack([x * 255 // 149, y * 255 // 149, x * y % 256]).astype(np.float32)
    mean = np.array([122.782, 117.001, 104.298], np.float32)[:, None, None]
    return torch.from_numpy((rgb - mean) / 256)[None]


@pytest.fixture(scope="module")
def file() -> Path:
    return packaged_file(
        "face_recognition_models",
        "models/dlib_face_recognition_resnet_model_v1.dat",
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    )


@pytest.fixture(scope="module")
def net(file: Path) -> DlibFaceResNet:
    net = timm.create_model("dlib_face_resnet")
    assert isinstance(net, DlibFaceResNet)
    net.load_state_dict(load_dat(file))
    return net.eval()


def test_embedding_is_dlibs(net: DlibFaceResNet) -> None:
    with torch.inference_mode():
        embedding = net(picture())[0]
    np.testing.assert_allclose(embedding[:10], GOLDEN, atol=2e-6)
    assert embedding.norm().item() == pytest.approx(LENGTH, abs=1e-5)


def test_it_is_one_of_timms(net: DlibFaceResNet) -> None:
    with torch.inference_mode():
        maps = net.forward_features(picture())
        assert maps.shape == (1, 256, 2, 2)
        assert torch.equal(net.forward_head(maps, pre_logits=True), net(picture()))
    classifier = timm.create_model("dlib_face_resnet", num_classes=7)
    assert classifier(picture()).shape == (1, 7)
    assert classifier.get_classifier().out_features == 7
    classifier.reset_classifier(0)
    assert classifier(picture()).shape == (1, net.num_features) == (1, 128)


def test_every_weight_learns_and_random_ones_keep_the_signal() -> None:
    torch.manual_seed(0)
    net = DlibFaceResNet()
    embedding = net(picture().repeat(2, 1, 1, 1) * torch.tensor([1.0, 0.5]).reshape(2, 1, 1, 1))
    assert 0.01 < embedding.std() < 10
    embedding.square().sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.any(), name


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "no layer con_4"),
        (b"<html>not found</html>", "no layer con_4"),
        (b"\x05con_4", "no count at byte 6"),
        (b"\x05con_4\x01\x03", "tensor version 3"),
        (b"\x05con_4\x01\x02" + b"\x01\x08" * 4, "shape [8, 8, 8, 8]"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, data: bytes, complaint: str) -> None:
    (tmp_path / "x.dat").write_bytes(data)
    with pytest.raises(WeightsError, match="not dlib's face ResNet") as refused:
        load_dat(tmp_path / "x.dat")
    assert complaint in str(refused.value)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path: Path, file: Path, share: float) -> None:
    data = file.read_bytes()
    (tmp_path / "x.dat").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WeightsError, match="not dlib's face ResNet"):
        load_dat(tmp_path / "x.dat")


@pytest.mark.parametrize("options", [{"pretrained": True}, {"in_chans": 1}, {"drop_rate": 0.2}])
def test_what_it_cannot_do_is_said(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="dlib_face_resnet"):
        timm.create_model("dlib_face_resnet", **options)

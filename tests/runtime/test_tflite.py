"""TFLite files in LiteRT: pixels in, a raw embedding out, whatever numbers the file computes with."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from castline.embedding.base_settings import ONNX
from castline.embedding.onnx import export_base
from castline.errors import BundleError
from castline.export.tflite import export
from castline.faces.detectors import detector_file
from castline.faces.settings import DetectorSettings
from castline.runtime.tflite import TFLiteModel


class Tiny(nn.Module):
    """A base model of no use that converts quickly: (N, 3, 8, 8) → (N, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image / 255).mean((2, 3))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Tiny().eval()


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(model: nn.Module, images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_base(model, images.shape[1], folder)
    export(folder / ONNX, images, folder, ["float32", "float16", "int8"])
    return folder


FILES = [("model.tflite", 1e-5), ("model_fp16.tflite", 1e-3), ("model_int8.tflite", 0.02)]


@pytest.mark.parametrize(("file", "atol"), FILES)
def test_it_says_what_pytorch_says(
    model: nn.Module, images: NDArray[np.uint8], folder: Path, file: str, atol: float
) -> None:
    run = TFLiteModel(folder / file)
    assert run.input_size == 8
    with torch.inference_mode():
        expected = model(torch.from_numpy(images).permute(0, 3, 1, 2).float()).numpy()
    for image, row in zip(images, expected, strict=True):
        found = run(image)
        assert found.dtype == np.float32 and found.shape == row.shape
        np.testing.assert_allclose(found, row, atol=atol)


@pytest.mark.parametrize(("file", "atol"), FILES)
def test_results_outlive_the_next_call(images: NDArray[np.uint8], folder: Path, file: str, atol: float) -> None:
    """LiteRT computes in buffers of its own: what was handed out must not change under the caller's hands."""
    run = TFLiteModel(folder / file)
    first = run(images[0])
    kept = first.copy()
    run(images[1])
    assert np.array_equal(first, kept)
    assert np.array_equal(run(images[0]), kept), "and the same image gives the same numbers"


def test_instances_work_side_by_side(images: NDArray[np.uint8], folder: Path) -> None:
    expected = [TFLiteModel(folder / "model.tflite")(image) for image in images]
    found: dict[int, list[NDArray[np.float32]]] = {}

    def work(number: int) -> None:
        run = TFLiteModel(folder / "model.tflite", threads=2)
        found[number] = [run(image) for image in images]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(3):
        np.testing.assert_allclose(found[number], expected, atol=1e-6)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 8, 3), np.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
    ],
)
def test_an_image_that_does_not_fit_is_refused(folder: Path, image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"wanted is \(8, 8, 3\) uint8, RGB"):
        TFLiteModel(folder / "model.tflite")(image)


def test_a_file_of_another_kind_is_refused(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.tflite"
    text.write_text("<html>404</html>")
    for file in (tmp_path / "absent.tflite", text):
        with pytest.raises(BundleError, match="LiteRT cannot load it") as refused:
            TFLiteModel(file)
        assert "next:" in str(refused.value)
    detector = detector_file(DetectorSettings())
    assert detector is not None
    with pytest.raises(BundleError, match="LiteRT cannot load it"):  # it has no signature
        TFLiteModel(detector)

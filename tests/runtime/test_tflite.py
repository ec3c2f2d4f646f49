"""TFLite files in LiteRT: pixels in, an embedding and scores out, whatever numbers the file computes with."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from castline.errors import BundleError
from castline.export.tflite import export
from castline.runtime.tflite import TFLiteModel
from castline.training.heads import HeadSettings, SoftmaxHead
from castline.training.model import FaceModel


class Tiny(nn.Module):
    """A base model of no use that converts quickly: (N, 3, 8, 8) → (N, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image / 255).mean((2, 3))


@pytest.fixture(scope="module")
def model() -> FaceModel:
    torch.manual_seed(0)
    head = SoftmaxHead(HeadSettings(), 6, 4)
    nn.init.normal_(head.layers[-1].weight)
    return FaceModel(Tiny(), head).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(model: FaceModel, images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export(model, images, folder, ["float32", "float16", "int8"])
    return folder


FILES = [
    ("model.tflite", None, 1e-5),
    ("model_fp16.tflite", None, 1e-3),
    ("model_int8.tflite", "head.tflite", 0.05),
]


@pytest.mark.parametrize(("file", "head", "atol"), FILES)
def test_it_says_what_pytorch_says(
    model: FaceModel, images: NDArray[np.uint8], folder: Path, file: str, head: str | None, atol: float
) -> None:
    run = TFLiteModel(folder / file, folder / head if head else None)
    assert run.input_size == 8
    with torch.inference_mode():
        embeddings, scores = model(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    for image, embedding, score in zip(images, embeddings.numpy(), scores.numpy(), strict=True):
        found = run(image)
        for array, expected in zip(found, (embedding, score), strict=True):
            assert array.dtype == np.float32 and array.shape == expected.shape
            np.testing.assert_allclose(array, expected, atol=atol)


@pytest.mark.parametrize(("file", "head", "atol"), FILES)
def test_results_outlive_the_next_call(
    images: NDArray[np.uint8], folder: Path, file: str, head: str | None, atol: float
) -> None:
    """LiteRT computes in buffers of its own: what was handed out must not change under the caller's hands."""
    run = TFLiteModel(folder / file, folder / head if head else None)
    first = run(images[0])
    kept = [array.copy() for array in first]
    run(images[1])
    for array, expected in zip(first, kept, strict=True):
        assert np.array_equal(array, expected)
    for array, expected in zip(run(images[0]), kept, strict=True):
        assert np.array_equal(array, expected), "and the same image gives the same numbers"


def test_instances_work_side_by_side(images: NDArray[np.uint8], folder: Path) -> None:
    expected = [TFLiteModel(folder / "model.tflite")(image)[1] for image in images]
    found: dict[int, list[NDArray[np.float32]]] = {}

    def work(number: int) -> None:
        run = TFLiteModel(folder / "model.tflite", threads=2)
        found[number] = [run(image)[1] for image in images]

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


@pytest.mark.parametrize(
    ("file", "head", "complaint"),
    [
        ("absent.tflite", None, "LiteRT cannot load it"),
        ("text.tflite", None, "LiteRT cannot load it"),
        ("model_int8.tflite", None, "takes and gives image → embedding, wanted is image → embedding, scores"),
        ("head.tflite", None, "takes and gives embedding → embedding, scores, wanted is image → embedding, scores"),
        ("model.tflite", "head.tflite", "wanted is image → embedding"),
        ("model_int8.tflite", "model.tflite", "wanted is embedding → embedding, scores"),
    ],
)
def test_a_file_of_another_kind_is_refused(folder: Path, file: str, head: str | None, complaint: str) -> None:
    (folder / "text.tflite").write_text("<html>404</html>")
    with pytest.raises(BundleError) as refused:
        TFLiteModel(folder / file, folder / head if head else None)
    assert complaint in str(refused.value) and "next:" in str(refused.value)

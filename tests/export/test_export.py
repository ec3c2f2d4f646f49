"""Export: PyTorch, ONNX and TFLite agree on real crops."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from sample_faces import sample_chips
from torch import Tensor, nn

from castline.embedding import base_models
from castline.embedding.base_models import BaseModelSettings
from castline.embedding.crops import Crops
from castline.embedding.features import embed
from castline.embedding.onnx import export_base, export_onnx
from castline.embedding.onnx_model import OnnxModel
from castline.errors import CastlineError, DataError
from castline.export.run import likeness, opened, run
from castline.export.settings import FORMATS, INT8_WAYS
from castline.export.tflite import _check_interpreters, export
from castline.files import params
from castline.scoring import Scorer
from castline.training.examples import Part
from castline.training.fit import fit_head
from castline.training.heads import HeadSettings, new_head
from castline.training.settings import TrainingSettings

CONF = Path(__file__).parents[2] / "conf"


class Tiny(nn.Module):
    """A base model of no use that converts quickly: (N, 3, 8, 8) → (N, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image / 255).mean((2, 3))


def as_onnx(base: nn.Module, side: int, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    export_base(base, side, folder)
    return folder / "model.onnx"


def noise(count: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def by_torch(base: nn.Module, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Raw embeddings, one image at a time."""
    with torch.inference_mode():
        rows = [base(torch.tensor(image).permute(2, 0, 1)[None].float()) for image in images]
    return torch.cat(rows).numpy()


@dataclass(frozen=True)
class Case:
    """A model that names the sample cast, what it was exported to, and faces that it was not trained on."""

    base: nn.Module
    scorer: Scorer
    folder: Path
    files: dict[str, str]
    images: list[NDArray[np.uint8]]
    truth: NDArray[np.intp]


@pytest.fixture(scope="module", params=["dlib_face_resnet", "efficientnet_lite0"])
def case(request: pytest.FixtureRequest, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    values = yaml.safe_load((CONF / "base_model" / f"{request.param}.yaml").read_text())
    settings = params.typed(values, BaseModelSettings, "base_model")
    base = base_models.build(settings, "pretrained", seed=0)
    chips, names = sample_chips(sample, each=8)
    people = sorted(set(names))
    truth = np.array([people.index(name) for name in names])
    learn = np.arange(len(chips)) % 2 == 0

    onnx_file = as_onnx(base, settings.input_size, tmp_path_factory.mktemp("onnx"))
    part = Part(embed(OnnxModel(onnx_file), settings, chips)[learn], truth[learn], np.flatnonzero(learn))
    head = new_head(HeadSettings(), part, len(people), seed=1)
    fit_head(head, part, part, TrainingSettings(lr=0.01))

    crops = Crops(chips, settings)
    calibration = np.stack([crops[i] for i in np.flatnonzero(learn)])
    folder = tmp_path_factory.mktemp(request.param)
    files = export(onnx_file, calibration, folder)
    unseen = np.flatnonzero(~learn)[::2]
    yield Case(base, head.scorer(people), folder, files, [crops[i] for i in unseen], truth[unseen])


@dataclass(frozen=True)
class Converted:
    """A `Tiny` and what it was exported to, calibrated on `images`. base: its ONNX file."""

    model: Tiny
    base: Path
    folder: Path
    files: dict[str, str]
    images: NDArray[np.uint8]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    torch.manual_seed(0)
    model, images, folder = Tiny(), noise(40, 8), tmp_path_factory.mktemp("tiny")
    base = as_onnx(model, 8, folder / "from")
    return Converted(model, base, folder / "to", export(base, images, folder / "to"), images)


# The smallest cosine to PyTorch's embedding of the same face, and the points of top-1 that may be lost.
ALLOWED = {"onnx": (1 - 1e-6, 0.0), "float32": (1 - 1e-6, 0.0), "float16": (0.9999, 0.0), "int8": (0.95, 5.0)}


def test_files_agree_with_pytorch(case: Case) -> None:
    """The one golden test of export: real crops through every file, in the runtime that its users run."""
    reference = by_torch(case.base, case.images)
    assert (case.scorer(reference)[1].argmax(1) == case.truth).mean() > 0.6, "the model has to have learnt something"
    for name in FORMATS:
        raw, latency_ms = run(opened(case.folder / case.files[name]), case.images)
        (mine, scores), (wanted, wanted_scores) = case.scorer(raw), case.scorer(reference)
        lost = 100 * float((wanted_scores.argmax(1) == case.truth).mean() - (scores.argmax(1) == case.truth).mean())
        cosine, points = ALLOWED[name]
        assert (mine * wanted).sum(1).min() > cosine and lost <= points and latency_ms > 0, name
        assert raw.dtype == np.float32 and raw.shape == reference.shape
        if name in ("onnx", "float32"):
            np.testing.assert_allclose(raw, reference, atol=1e-4 * np.abs(reference).max())


def test_files_take_pixels_under_known_names(case: Case) -> None:
    side = case.images[0].shape[0]
    image = onnx.load(case.folder / "model.onnx").graph.input
    assert [tensor.name for tensor in image] == ["image"]
    assert [d.dim_value for d in image[0].type.tensor_type.shape.dim] == [1, 3, side, side]
    for file, dtype in (
        ("model.tflite", np.float32),
        ("model_fp16.tflite", np.float32),
        ("model_int8.tflite", np.int8),
    ):
        run = Interpreter(model_path=str(case.folder / file)).get_signature_runner()
        details = run.get_input_details()["image"]
        assert details["shape"].tolist() == [1, side, side, 3] and details["dtype"] == dtype, file
        assert all(output["dtype"] == dtype for output in run.get_output_details().values()), file


def test_files_shrink_and_nothing_else_is_left(case: Case) -> None:
    assert {path.name for path in case.folder.iterdir()} == {
        "model.onnx", "model.tflite", "model_fp16.tflite", "model_int8.tflite",
    }  # fmt: skip
    size = {name: (case.folder / file).stat().st_size for name, file in case.files.items()}
    assert size["float16"] < 0.52 * size["float32"] and size["int8"] < 0.32 * size["float32"]


def test_no_file_knows_where_it_was_made(case: Case) -> None:
    for path in case.folder.iterdir():
        data = path.read_bytes()
        assert str(Path(__file__).parents[2]).encode() not in data and b"/tmp/" not in data, path.name


def test_the_same_model_gives_the_same_bytes(tiny: Converted, tmp_path: Path) -> None:
    torch.manual_seed(0)
    again = as_onnx(Tiny(), 8, tmp_path / "from")
    assert again.read_bytes() == tiny.base.read_bytes()
    export(again, tiny.images, tmp_path / "to")
    for path in sorted(tiny.folder.iterdir()):
        assert path.read_bytes() == (tmp_path / "to" / path.name).read_bytes(), path.name


def test_only_what_is_asked_for_is_made(tmp_path: Path) -> None:
    file = as_onnx(Tiny(), 8, tmp_path / "from")
    assert export(file, noise(2, 8), tmp_path / "to", ["onnx"]) == {"onnx": "model.onnx"}
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["model.onnx"]


def test_a_failing_converter_shows_the_end_of_its_log(tmp_path: Path) -> None:
    class Determined(Tiny):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image) * torch.det(image[:, 0])[:, None]  # onnx2tf has it, TFLite does not

    determined = tmp_path / "determined.onnx"
    export_onnx(Determined(), determined, torch.zeros(1, 3, 8, 8), "image", ["embedding"])
    with pytest.raises(CastlineError, match=r"the conversion to model\.tflite failed \(1\)") as failed:
        export(determined, noise(2, 8), tmp_path / "to", ["float32"])
    assert "Determinant" in str(failed.value) and "next:" in str(failed.value)
    assert len(str(failed.value)) < 3000, "the end of a log, not all of it"
    assert list((tmp_path / "to").iterdir()) == []


def test_int8_without_faces_to_calibrate_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training faces"):
        export(as_onnx(Tiny(), 8, tmp_path), noise(0, 8), tmp_path / "to", ["int8"])


def test_a_module_that_cannot_be_traced_is_named(tmp_path: Path) -> None:
    class Unexportable(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x)

    with pytest.raises(CastlineError, match=r"x\.onnx: Unexportable cannot be exported"):
        export_onnx(Unexportable(), tmp_path / "x.onnx", torch.zeros(1, 2), "x", ["y"])


def test_normalisation_is_folded_into_convolutions(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    nn.init.uniform_(net[1].running_var, 0.5, 2)
    export_onnx(net, tmp_path / "x.onnx", torch.zeros(1, 3, 8, 8), "x", ["y"])
    assert [node.op_type for node in onnx.load(tmp_path / "x.onnx").graph.node] == ["Conv"]


@pytest.mark.parametrize("way", INT8_WAYS)
def test_every_way_to_eight_bits_gives_a_file_that_is_nearly_the_model(
    way: str, tiny: Converted, tmp_path: Path
) -> None:
    folder, files = tiny.folder, tiny.files
    if way != "full":  # which is the usual one
        folder, files = tmp_path, export(tiny.base, tiny.images, tmp_path, ["int8"], way)
    raw, _ = run(opened(folder / files["int8"]), list(tiny.images))
    reference = by_torch(tiny.model, list(tiny.images))
    assert likeness(raw, reference) > 0.9
    assert not np.array_equal(raw, reference), "eight bits cannot hold it all"


def test_interpreters_that_disagree_stop_the_export(tiny: Converted, tmp_path: Path) -> None:
    images = tiny.images[:4]
    file = Path(shutil.copy(tiny.folder / "model.tflite", tmp_path))
    ours, _ = run(opened(file), list(images))
    np.save(f"{file}.npy", ours)
    _check_interpreters(file, images)
    np.save(f"{file}.npy", ours[:, ::-1])
    with pytest.raises(CastlineError, match="different embeddings of the same face"):
        _check_interpreters(file, images)

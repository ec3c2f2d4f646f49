"""Base models from the hub: huggingface_hub and timm as they are, against a folder in the hub's shape on loopback."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from servers import REVISION, closed_port, serve
from timm.models import save_for_hf

from castline.embedding import base_models
from castline.embedding.base_settings import BaseModelSettings
from castline.files.weights import sha256_of

PROGRAM = """
import json, sys, time
from pathlib import Path
from castline.errors import CastlineError
from castline.registry import is_here
from castline.embedding import base_models
from castline.embedding.base_settings import BaseModelSettings

time.sleep = lambda seconds: None  # huggingface_hub tries five times, 23 seconds in all
for number, values in enumerate(json.loads(sys.argv[2])):
    settings = BaseModelSettings(**values)
    before = is_here(settings)
    try:
        base_models.save(base_models.build(settings, "pretrained", 0), settings, Path(sys.argv[1], str(number)))
        print(json.dumps([before, is_here(settings)]))
    except CastlineError as error:
        print(json.dumps([type(error).__name__, error.what, error.next]))
"""


def build(entries: list[BaseModelSettings], folder: Path, endpoint: str, home: Path) -> list[list[Any]]:
    """What came of each entry in a process of its own: here before and after, or the error."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home)}
    values = json.dumps([asdict(settings) for settings in entries])
    command = [sys.executable, "-c", PROGRAM, str(folder), values]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def settings(**values: Any) -> BaseModelSettings:
    common = {"name": "tiny", "input_size": 160, "mean": (0.0,) * 3, "std": (1.0,) * 3, "template": "head"}
    return BaseModelSettings(
        **{**common, "embedding_size": 0, "licence": "none, random weights", "commercial_ok": "yes", **values}
    )


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two repositories as timm makes them: an ImageNet model of timm's own, and a face model of somebody's."""
    folder = tmp_path_factory.mktemp("hub")
    for repo, name, classes in (
        ("timm/test_resnet.r160_in1k", "test_resnet.r160_in1k", 1000),
        ("ann/faces", "test_vit", 16),
    ):
        save_for_hf(timm.create_model(name, num_classes=classes), folder / repo, safe_serialization=True)
    return folder


def state(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_weights_come_from_the_hub_once_and_stay(hub: Path, tmp_path: Path) -> None:
    weights = hub / "ann" / "faces" / "model.safetensors"
    imagenet = settings(source="timm", architecture="test_resnet.r160_in1k")
    face: dict[str, Any] = {
        "source": "hf_hub",
        "architecture": "test_vit",
        "options": {"num_classes": 16},
        "repo": "ann/faces",
        "file": "model.safetensors",
    }
    pinned = settings(**face, revision=REVISION, sha256=sha256_of(weights), embedding_size=16)
    newest = settings(**face)
    wrong = [
        settings(**face, sha256="0" * 64),
        settings(**{**face, "file": "other.safetensors"}),
        settings(**{**face, "repo": "ann/nothing"}),
        settings(**{**face, "options": {"num_classes": 8}}),
    ]
    with serve(hub) as served:
        found = build([imagenet, pinned, newest, *wrong], tmp_path / "built", served.url, tmp_path / "home")
    assert found[:3] == [[False, True], [False, True], [False, True]]
    assert [line for line in served.asked if line.startswith("GET")] == [
        "GET /timm/test_resnet.r160_in1k/resolve/main/model.safetensors",
        f"GET /ann/faces/resolve/{REVISION}/model.safetensors",
    ], "each file once, and nothing else"
    for (kind, what, remedy), complaint, mend in zip(
        found[3:],
        (
            f"sha256 is {sha256_of(weights)}, expected 0000",
            f"ann/faces/other.safetensors at main: cannot be had from {served.url}: ",
            f"ann/nothing/model.safetensors at main: cannot be had from {served.url}: ",
            "not the weights of test_vit: head.weight is (16, 64), wanted is (8, 64)",
        ),
        ("name the revision that you trust", "base_model.source=file", "base_model=dlib_face_resnet", ""),
        strict=True,
    ):
        assert kind == "WeightsError" and complaint in what and mend in remedy, what

    # What was built is what was served, the ImageNet classifier left out, and it loads without a hub.
    served_resnet = state(hub / "timm" / "test_resnet.r160_in1k" / "model.safetensors")
    for number, expected in enumerate((served_resnet, state(weights), state(weights))):
        model, described = base_models.load(tmp_path / "built" / str(number))
        found = model.net.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
        assert expected.keys() - found.keys() == ({"fc.weight", "fc.bias"} if number == 0 else set())
        assert described.embedding_size == (96 if number == 0 else 16)

    # Without a hub, what was fetched is enough; what was not is said.
    other = settings(source="timm", architecture="test_vit.r160_in1k")
    nowhere = closed_port()
    offline = build(
        [imagenet, newest, other, settings(**{**face, "repo": "ann/more"})], tmp_path, nowhere, tmp_path / "home"
    )
    assert offline[:2] == [[True, True], [True, True]]
    for kind, what, remedy in offline[2:]:
        assert kind == "WeightsError" and f"cannot be had from {nowhere}: " in what
        assert all(word in remedy for word in ("HF_ENDPOINT", "HF_HOME", "base_model.source=file", "dlib_face_resnet"))
    assert "timm's weights of test_vit.r160_in1k" in offline[2][1]

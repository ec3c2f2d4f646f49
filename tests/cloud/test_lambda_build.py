"""What the function is made of: the same bytes for the same things, no more than Lambda takes, and pins with hashes.

Here uv is a double that writes a few files; test_lambda_function.py has the real one.
"""

import json
import re
import sys
from importlib import resources
from pathlib import Path

import pytest
from edge_releases import contents_of, tiny_bundle
from lambda_runtime import packaged
from typer.testing import CliRunner

from castline.cli import app
from castline.cloud import lambda_build
from castline.cloud.lambda_build import REQUIREMENTS, Target, build_image, build_zip
from castline.errors import CastlineError, ConfigError

UV = """#!{python}
import os, sys, time
from pathlib import Path
options = dict(zip(sys.argv[1:-1], sys.argv[2:]))
if (Path(__file__).parent / "fails").exists():
    sys.exit("hash mismatch for numpy")
target = Path(options["--target"])
for name in ("numpy/core.py", "numpy-2.dist-info/RECORD", "numpy-2.dist-info/METADATA", "bin/f2py", ".lock",
             "ai_edge_litert/libLiteRtWebGpuAccelerator.so", "ai_edge_litert/interpreter.py", "numpy/core.pyc",
             "botocore/data/s3/2006-03-01/service-2.json.gz", "botocore/data/ec2/x.json.gz",
             "botocore/data/endpoints.json"):
    path = target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(time.time_ns()) if "RECORD" in name or name == "bin/f2py" else name)
(Path(__file__).parent / "asked").write_text("\\n".join(sys.argv[1:] + [os.getcwd(), os.environ.get("PYTHONPATH", "")]))
"""


@pytest.fixture(scope="module")
def edge(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """build/edge, of release 1.0.0."""
    work = tmp_path_factory.mktemp("edge")
    return packaged(tiny_bundle(work / "bundle", sample, seed=1), work / "edge")


@pytest.fixture(autouse=True)
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the double; a file `fails` in it makes it fail."""
    folder = tmp_path / "uv"
    folder.mkdir()
    (folder / "uv").write_text(UV.format(python=sys.executable))
    (folder / "uv").chmod(0o755)
    monkeypatch.setattr(lambda_build, "find_uv", lambda: str(folder / "uv"))
    return folder


def test_the_same_things_give_the_same_bytes(edge: Path, tmp_path: Path) -> None:
    one, two = (build_zip(edge, tmp_path / name, Target()) for name in ("1", "2"))
    assert one.name == "castline-lambda-1.0.0-x86_64.zip" and one.read_bytes() == two.read_bytes()
    assert build_zip(edge, tmp_path / "1", Target("arm64")).read_bytes() != one.read_bytes()


def test_what_is_in_it(edge: Path, tmp_path: Path, uv: Path) -> None:
    contents = contents_of(build_zip(edge, tmp_path, Target("arm64")))
    assert json.loads(contents["function.json"]) == {"version": "1.0.0", "architecture": "arm64", "python": "3.12"}
    assert {"handler.py", "model/manifest.json", "model/model.tflite", "castline/runtime/recognizer.py"} <= set(
        contents
    )
    assert {name for name in contents if not name.startswith(("castline/", "model/", "function", "handler"))} == {
        "ai_edge_litert/interpreter.py", "botocore/data/endpoints.json",
        "botocore/data/s3/2006-03-01/service-2.json.gz", "numpy-2.dist-info/METADATA", "numpy/core.py",
    }  # fmt: skip
    code = {name.split("/")[1] for name in contents if name.startswith("castline/")}
    assert not code & {"commands", "training", "evaluation", "export", "curation", "embedding", "label_studio"}
    asked = (uv / "asked").read_text().split("\n")
    assert {"--require-hashes", "--no-deps", "aarch64-manylinux_2_28", "3.12"} <= set(asked)
    assert asked[-1] == "" and not (Path(asked[-2]) / "pyproject.toml").exists()


def test_what_lambda_would_not_take_is_refused_here(
    edge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lambda_build, "LARGEST", 2**20)
    with pytest.raises(CastlineError, match=r"(?s)MiB unpacked, Lambda takes 1 MiB.*--image"):
        build_zip(edge, tmp_path / "zip", Target())
    assert not (tmp_path / "zip").exists()
    folder = build_image(edge, tmp_path / "image", Target())  # an image may be larger
    copied = (folder / "Dockerfile").read_text()
    assert "COPY function/" in copied and (folder / "function" / "handler.py").is_file()
    with pytest.raises(CastlineError, match="is there already"):
        build_image(edge, tmp_path / "image", Target())


def test_what_fails_is_said(edge: Path, tmp_path: Path, uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (uv / "fails").touch()
    with pytest.raises(CastlineError, match=r"(?s)could not be installed:.*hash mismatch for numpy"):
        build_zip(edge, tmp_path, Target())
    monkeypatch.setattr(lambda_build, "find_uv", lambda: None)
    with pytest.raises(CastlineError, match=r"(?s)uv is not installed.*pip install uv"):
        build_zip(edge, tmp_path, Target())
    with pytest.raises(CastlineError, match=r"(?s)no package here.*dvc repro package"):
        build_zip(tmp_path, tmp_path, Target())
    with pytest.raises(ConfigError, match="--architecture 'mips': x86_64 or arm64"):
        Target("mips")


def test_an_image_is_made_of_a_release_alone(sample: Path, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", sample, seed=1)
    edge = packaged(bundle, tmp_path / "edge", "0.0.0+5f3a")
    with pytest.raises(CastlineError, match=r"0\.0\.0\+5f3a: this model was never released"):
        build_image(edge, tmp_path / "image", Target())
    assert not (tmp_path / "image").exists()
    (tmp_path / "file").touch()
    with pytest.raises(CastlineError, match="--folder FOLDER"):
        build_image(packaged(bundle, tmp_path / "1", "1.0.0"), tmp_path / "file", Target())


def test_a_release_that_was_changed_is_refused(edge: Path, tmp_path: Path) -> None:
    copied = tmp_path / "edge"
    for path in edge.rglob("*.*"):
        if path.is_file():
            (copied / path.relative_to(edge)).parent.mkdir(parents=True, exist_ok=True)
            (copied / path.relative_to(edge)).write_bytes(path.read_bytes())
    (release,) = copied.rglob("recognizer-*.zip")
    data = bytearray(release.read_bytes())
    data[len(data) // 2] ^= 1
    release.write_bytes(data)
    with pytest.raises(CastlineError, match=r"recognizer-1\.0\.0\.zip"):
        build_zip(copied, tmp_path, Target())


def test_pins_have_versions_and_hashes_and_no_host() -> None:
    text = resources.files("castline.cloud").joinpath(REQUIREMENTS).read_text()
    pins = text.replace("\\\n", " ").strip().splitlines()
    assert {"numpy", "pillow", "ai-edge-litert", "boto3"} <= {pin.partition("==")[0] for pin in pins}
    assert all(re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", pin) for pin in pins)
    assert "://" not in text


def test_the_command(edge: Path, tmp_path: Path) -> None:
    options = ["--package", str(edge), "--folder", str(tmp_path), "--architecture", "arm64"]
    done = CliRunner().invoke(app, ["lambda", "build", *options])
    assert done.exit_code == 0 and "castline lambda publish --zip" in done.output
    done = CliRunner().invoke(app, ["lambda", "build", "--image", *options])
    assert done.exit_code == 0 and "docker build --platform linux/arm64" in done.output

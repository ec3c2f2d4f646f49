"""What the Lambda function is made of: handler, the modules that it needs, a release, and Python packages.

castline-lambda-VERSION-ARCHITECTURE.zip
    function.json              the release's version, and what machine it is for
    handler.py                 cloud/lambda/handler.py of the project
    castline/                  the modules that it imports, and those that these import
    model/                     the release, as devices get it: castline.edge.manifest
    numpy/, ai_edge_litert/    and other packages, pinned and with hashes: requirements-lambda.txt

The same release, code and pins give the same bytes.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import castline
from castline.edge.package import code_of, write_zip
from castline.edge.publish import open_package
from castline.edge.recipes import UNUSED
from castline.edge.unpack import manifest_of, opened, unpack
from castline.environments import clean, find_uv
from castline.errors import CastlineError, ConfigError, ReleaseError

__all__ = ["ABOUT", "LARGEST", "PYTHON", "REQUIREMENTS", "Target", "build_image", "build_zip", "check_released"]

LARGEST = 250 * 2**20  # bytes, unpacked: Lambda quotas, "Deployment package (.zip file archive) size"
PYTHON = "3.12"  # the oldest of Lambda's on Amazon Linux 2023: LiteRT and Pillow want glibc 2.27 and 2.28
REQUIREMENTS = "requirements-lambda.txt"  # `make lock` writes it
ABOUT = "function.json"
_SOURCE = Path("cloud/lambda")
_PLATFORMS = {"x86_64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
# What an installation leaves that differs from machine to machine.
_OWN = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}


@dataclass(frozen=True)
class Target:
    """What Lambda is to run it on. architecture: x86_64 or arm64. python: of its runtime, such as 3.12."""

    architecture: str = "x86_64"
    python: str = PYTHON

    def __post_init__(self) -> None:
        if self.architecture not in _PLATFORMS:
            raise ConfigError(f"--architecture {self.architecture[:40]!r}: {' or '.join(_PLATFORMS)}")


def build_zip(package: Path, folder: Path, target: Target) -> Path:
    """Write the zip into `folder`, and say where it is. package: what the package stage made, build/edge.

    Raises: CastlineError where there is no release, a package cannot be had, or it is larger than Lambda takes.
    """
    version, contents = _contents(package, target)
    size = sum(map(len, contents.values()))
    if size > LARGEST:
        raise CastlineError(
            f"{size / 2**20:.0f} MiB unpacked, Lambda takes {LARGEST // 2**20} MiB",
            "castline lambda build --image; or a smaller file: package.format: int8 in conf/package.yaml",
        )
    return write_zip(folder / f"castline-lambda-{version}-{target.architecture}.zip", contents)


def build_image(package: Path, folder: Path, target: Target) -> Path:
    """Write a folder into `folder` that an image can be made of, and say where it is.

    Raises: CastlineError as `build_zip` does, but whatever its size; if there is such a folder already; or for a
    model that was never released: of an image nobody can tell later.
    """
    version, contents = _contents(package, target)
    check_released(version)
    made = folder / f"castline-lambda-{version}-{target.architecture}"
    try:
        made.mkdir(parents=True)
        contents = {f"function/{name}": data for name, data in contents.items()}
        for name, data in contents.items() | {"Dockerfile": (_SOURCE / "Dockerfile").read_bytes()}.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    except FileExistsError as error:
        raise CastlineError(f"{made}: is there already", "remove it first") from error
    except OSError as error:
        raise CastlineError(f"{made}: {error.strerror or error}", "another folder: --folder FOLDER") from error
    return made


def check_released(version: str) -> None:
    """Raises: CastlineError for what a model that was never released is called."""
    if "+" in version:
        raise CastlineError(
            f"{version}: this model was never released, and what is deployed has a version",
            "castline release minor; castline compose; dvc repro package; castline lambda build",
        )


def _contents(package: Path, target: Target) -> tuple[str, dict[str, bytes]]:
    """The release's version, and every file by name, in the order of names."""
    releases = [path for name, path in open_package(package).artifacts.items() if name.startswith("recognizer-")]
    handler = _SOURCE / "handler.py"
    if not releases or not handler.is_file():
        raise CastlineError(f"{(releases and handler) or package}: not there", "dvc repro package, in your clone")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        try:
            with opened(releases[0]) as archive:
                manifest = manifest_of(archive)
                unpack(archive, manifest, work / "model")
        except (OSError, ReleaseError) as error:
            raise CastlineError(f"{releases[0]}: {error}", "dvc repro package --force") from error
        _install(work / "packages", target)
        root = Path(castline.__file__).parent
        files = {path.relative_to(root.parent).as_posix(): path for path in code_of([handler]) if path != handler}
        files |= {path.relative_to(work / "packages").as_posix(): path for path in _kept(work / "packages")}
        files |= {path.relative_to(work).as_posix(): path for path in (work / "model").iterdir()}
        files[handler.name] = handler
        about = {"version": manifest.version, **asdict(target)}
        contents = {name: files[name].read_bytes() for name in sorted(files)}
        return manifest.version, {ABOUT: (json.dumps(about) + "\n").encode(), **contents}


def _install(folder: Path, target: Target) -> None:
    """The packages for the function's machine, from wherever uv is set up to get them, each held against its hash."""
    uv = find_uv()
    if uv is None:
        raise CastlineError("uv is not installed", "pip install uv")
    # pip's --target drops one of two parts of a package that is in both of its folders, such as protobuf's google/.
    with resources.as_file(resources.files(__package__) / REQUIREMENTS) as pins:
        done = subprocess.run(
            [
                uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:",
                "--python-platform", _PLATFORMS[target.architecture], "--python-version", target.python,
                "--target", folder, "--requirement", pins,
            ],
            cwd=folder.parent,  # where no pyproject.toml has rules of its own
            env=clean(), capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        said = "\n    ".join(done.stderr.strip().splitlines()[-8:])
        raise CastlineError(f"the function's packages could not be installed:\n    {said}", "the same command, later")


def _kept(packages: Path) -> Iterator[Path]:
    """The files that the function may need: no programs, no hardware that Lambda has not, of AWS's services S3."""
    unused = {packages / "ai_edge_litert" / name for name in UNUSED}
    services = packages / "botocore" / "data"
    for path in packages.rglob("*"):
        if not path.is_file() or path in unused:
            continue
        within = path.relative_to(packages).parts
        if within[0] == "bin" or path.name in _OWN or path.name == ".lock" or path.suffix == ".pyc":
            continue
        if path.is_relative_to(services) and path.parent != services and "s3" not in within:
            continue
        yield path

"""The bundle in; out comes what devices get: a release, the program, and a recipe for each nucleus of Greengrass."""

from castline.stage import stage

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from castline.edge.package import environment, pack_program, pack_release
from castline.edge.recipes import REFUSED, PackageSettings, check, json_bytes, recipe, requirements
from castline.errors import BundleError, ConfigError, DataError
from castline.files import params

BUNDLE, BUILD = Path("models/recognizer"), Path("build/edge")


@stage
def main() -> None:
    settings = params.read("package", PackageSettings)
    BUILD.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD.parent) as name:
        folder = Path(name, BUILD.name)
        folder.mkdir()
        try:
            pack(settings, version_of(settings), folder)
        except (BundleError, DataError) as error:  # such as a detector that wants PyTorch: the bundle is good without
            print(f"nothing for devices: {error.what}")
            (folder / REFUSED).write_text(f"{error.what}\n", encoding="utf-8")
        shutil.rmtree(BUILD, ignore_errors=True)
        folder.replace(BUILD)
    for path in sorted(BUILD.rglob("*.*")):
        if path.is_file():
            print(f"{path.stat().st_size / 1e6:8.3f} MB  {path}")


def pack(settings: PackageSettings, version: str, folder: Path) -> None:
    """Artifacts and recipes, in folders as greengrass-cli wants them."""
    artifacts = folder / "artifacts" / settings.component / version
    release = pack_release(BUNDLE, artifacts, settings.format, version)
    program = pack_program(artifacts)
    packages = environment(requirements(settings))
    for nucleus in settings.nucleus:
        made = recipe(settings, nucleus, version, program.name, release.name, packages)
        if problems := check(made, nucleus):
            raise ConfigError(f"the recipe for nucleus {nucleus}: {'; '.join(problems)}", "edit conf/package.yaml")
        path = folder / "recipes" / nucleus / f"{settings.component}-{version}.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(json_bytes(made))


def version_of(settings: PackageSettings) -> str:
    """Of the last release, if this is its bundle; else 0.0.0 and what the bundle is."""
    md5 = folder_md5(BUNDLE)
    if settings.version and md5 == settings.bundle:
        return settings.version.removeprefix("v")
    return f"0.0.0+{md5[:8]}"


def folder_md5(folder: Path) -> str:
    """As DVC has it of a folder: of the list of its files and of what each holds."""
    files = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    listed = [{"md5": md5_of(path.read_bytes()), "relpath": name} for name, path in files]
    return md5_of(json.dumps(listed, sort_keys=True).encode()) + ".dir"


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    main()

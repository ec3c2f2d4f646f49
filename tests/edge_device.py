"""A device: the folders that a nucleus gives a component, and the steps of a recipe as it runs them."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from castline.edge.recipes import PackageSettings, recipe

ENVIRONMENT = "5f3a"  # stands for what castline.edge.package.environment says
_VARIABLES = {"{work:path}": "work", "{artifacts:path}": "artifacts", "{artifacts:decompressedPath}": "unpacked"}


class Device:
    """root: made, with artifacts, unpacked and work in it. program: castline-edge-VERSION.zip, unpacked there."""

    def __init__(self, root: Path, program: Path, settings: PackageSettings | None = None) -> None:
        self.root, self.work, self._settings = root, root / "work", settings or PackageSettings()
        self.program = root / "unpacked" / program.stem
        for folder in (self.work, self.program, root / "artifacts"):
            folder.mkdir(parents=True)
        with zipfile.ZipFile(program) as archive:
            archive.extractall(self.program)

    @property
    def python(self) -> Path:
        """Of the environment that the install step makes."""
        return self.work / f"env-{ENVIRONMENT}/bin/python"

    def step(
        self, nucleus: str, name: str, release: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a step of the recipe: install or run."""
        copied = Path(shutil.copyfile(release, self.root / "artifacts" / release.name))
        made = recipe(self._settings, nucleus, "1.0.0", f"{self.program.name}.zip", copied.name, ENVIRONMENT)
        script = made["Manifests"][0]["Lifecycle"][name]["Script"]
        for variable, folder in _VARIABLES.items():
            script = script.replace(variable, str(self.root / folder))
        return subprocess.run(["sh", "-c", script], env=dict(environment), capture_output=True, text=True)


def of_this_python() -> dict[str, str]:
    """An environment whose python3 is this one; nothing else of this project's own can be imported there."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PATH": path}


def index_unreachable() -> str:
    """Why pip reaches no index of packages, or "": asked for a package's versions, so wrong pins are no reason."""
    command = [sys.executable, "-m", "pip", "--retries", "1", "--timeout", "30", "index", "versions", "numpy"]
    done = subprocess.run(command, env=of_this_python(), capture_output=True, text=True)
    return done.stderr.strip()[-300:] if done.returncode else ""

"""The real Label Studio, started once, in a project of its own with a pile of photos that nobody has sorted."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_label_studio import Live, started
from PIL import Image
from projects import ROOT, cast, make_project, with_runs_of

from castline import project
from castline.label_studio.server import CREDENTIALS


@pytest.fixture(scope="session")
def live(base_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Installed first if need be, which takes some minutes, once on a machine."""
    base = tmp_path_factory.mktemp("label_studio")
    folder, pile = make_project(base / "project"), base / "pile elsewhere"
    with_runs_of(base_models, folder)
    (folder / "data.dvc").unlink()
    fill_pile(pile)
    before = Path.cwd()
    os.chdir(folder)
    try:
        project.use_batch(cast(base / "sorted", ("alma", "bruno"), 2), "sorted")
        project.add_batch(pile, "pile")
    finally:
        os.chdir(before)
    with started(folder) as url:
        yield Live(url, folder, json.loads((folder / CREDENTIALS).read_text())["token"], pile)


def fill_pile(pile: Path) -> None:
    """Four portraits, one of them under a name that addresses and commands trip over, the same photo twice, a photo
    without a face, and a file that is no photo."""
    pile.mkdir()
    photos = ROOT / "sample" / "photos" / "second"
    for number, person in enumerate(("alma", "alma", "bruno", "chidi")):
        source = sorted((photos / person).iterdir())[number % 2]
        shutil.copy(source, pile / (f"{number}.jpg" if number else "0 o'né & #1%?<b>;$(x).jpg"))
    shutil.copy(pile / "1.jpg", pile / "1 again.jpg")
    Image.new("RGB", (64, 48), "green").save(pile / "meadow.png")
    (pile / "page.jpg").write_text("<html>")

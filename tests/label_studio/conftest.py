"""The real Label Studio, started once, in a project of its own with a pile of photos that nobody has sorted."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from projects import ROOT, cast, environment, make_project

from castline import project
from castline.label_studio.client import Client
from castline.label_studio.server import CREDENTIALS


@dataclass
class Live:
    """A server that runs: its address, its project's folder, the first user's token, the folder of the pile."""

    url: str
    folder: Path
    token: str
    pile: Path

    @property
    def client(self) -> Client:
        return Client(self.url, self.token)


@contextmanager
def started(folder: Path, *options: str) -> Iterator[str]:
    """`castline label start` in `folder`; the address. It has to end well when it is told to."""
    code = "import sys; from castline.cli import main; sys.argv[0] = 'castline'; main()"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-P", "-c", code, "label", "start", "--port", str(port), *options]
    variables = {**environment(), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found, "it did not start"
            yield found[0]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    with socket.socket() as gone:
        assert gone.connect_ex(("127.0.0.1", port)) != 0, "the server outlived the command"


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Installed first if need be, which takes some minutes, once on a machine."""
    base = tmp_path_factory.mktemp("label_studio")
    folder, pile = make_project(base / "project"), base / "pile elsewhere"
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

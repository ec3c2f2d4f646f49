"""`castline edge run`: the program of a device, on this machine."""

import json
import subprocess
import sys
from pathlib import Path


def test_it_is_the_program_that_devices_run(bundle: Path, sample: Path, tmp_path: Path) -> None:
    values = {"Source": f"image:{sample / 'scenes/scene_01.jpg'}", "ModelResourceKey": {"model": str(bundle)}}
    config = tmp_path / "edge.json"
    config.write_text(json.dumps(values))
    said = []
    for number, program in enumerate(
        ([sys.executable, "-m", "castline.edge"], [str(Path(sys.executable).parent / "castline"), "edge", "run"])
    ):
        options = ["--config", str(config), "--work", str(tmp_path / str(number)), "--once"]
        done = subprocess.run([*program, *options], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        said.append([(face["label"], face["box"]) for face in json.loads(done.stdout)["faces"]])
    assert said[0] == said[1] and len(said[0]) == 2


def test_it_ends_with_what_is_wrong(tmp_path: Path) -> None:
    castline = str(Path(sys.executable).parent / "castline")
    command = [castline, "edge", "run", "--config", str(tmp_path / "absent.json"), "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'absent.json'}: no configuration that can be read")

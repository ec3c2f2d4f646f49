"""The model of a device: what it sees is what the recogniser sees, and each step is timed apart."""

from pathlib import Path

import numpy as np

from castline.edge.model import open_model
from castline.edge.settings import Settings
from castline.runtime import Recognizer


def test_the_steps_of_a_look_are_told_apart_and_change_nothing(bundle: Path, sample: Path) -> None:
    recognizer = Recognizer(bundle)
    photo = recognizer.open(sample / "scenes/scene_03.jpg")
    found = recognizer.find(photo)
    faces = recognizer.faces(photo)
    assert len(faces) > 2 and faces == sorted(faces, key=lambda face: face.box[0])
    assert not np.array_equal(found.boxes[:, 0], np.sort(found.boxes[:, 0])), "the detector has another order"
    for face in faces:
        (row,) = np.flatnonzero(found.boxes[:, 0] * photo.scale == face.box[0])
        assert face.raw.tobytes() == recognizer.embed(photo, found.landmarks[row]).tobytes()
    seen, steps = open_model(Settings("image:a", model=str(bundle))).look(photo)
    assert [(face.box, face.label) for face in seen] == [
        (person.face.box, person.name.shown) for person in recognizer.identify_photo(photo)
    ]
    assert list(steps) == ["detect", "align", "embed"] and all(ms > 0 for ms in steps.values())

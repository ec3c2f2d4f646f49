"""Messages: what reads those of the public component reads these, and no frame makes one too large."""

import json
from datetime import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from castline.edge.message import MAX_BYTES, Message, SeenFace, event_bytes

faces = st.builds(
    SeenFace,
    box=st.tuples(*[st.floats(-1e4, 1e4)] * 4),
    label=st.text(max_size=60),
    known=st.booleans(),
    score=st.floats(0, 1),
    similarity=st.floats(-1, 1),
)


def message(*seen: SeenFace) -> Message:
    return Message(seen, "1.2.3+abcdef12", {"decode": 1.234, "total": 20}, "camera:/dev/video0", 7, 8, "thing", 1, 2)


def face(label: str, known: bool, score: float) -> SeenFace:
    return SeenFace((1.04, 2, 3, 4), label, known, score, 0.5)


def test_it_holds_what_the_public_component_says_and_more() -> None:
    seen = [face("alma", True, 0.7), face("unknown", False, 0.9), face("kamal", True, 0.8), face("alma", True, 0.6)]
    said = json.loads(message(*seen).json_bytes())
    assert said["inference-type"] == "image-classification"
    assert said["inference-results"] == [{"Label": "kamal", "Score": "0.8000"}, {"Label": "alma", "Score": "0.7000"}]
    assert said["faces"][0] == {
        "box": [1.0, 2.0, 3.0, 4.0], "label": "alma", "known": True, "score": 0.7, "similarity": 0.5,
    }  # fmt: skip
    assert [told["label"] for told in said["faces"]] == ["alma", "unknown", "kamal", "alma"]
    assert datetime.fromisoformat(said["timestamp"]).utcoffset() is not None
    assert (said["model-version"], said["frame"], said["sequence"], said["skipped"], said["dropped"]) == (
        "1.2.3+abcdef12", 7, 8, 1, 2,
    )  # fmt: skip
    assert said["latency-ms"] == {"decode": 1.23, "total": 20.0}
    assert "faces-cut" not in said


def test_a_frame_without_faces_is_a_message_too() -> None:
    said = json.loads(message().json_bytes())
    assert (said["inference-results"], said["faces"]) == ([], [])


@settings(deadline=None)
@given(st.lists(faces, max_size=6))
def test_any_name_can_be_said(seen: list[SeenFace]) -> None:
    data = message(*seen).json_bytes()
    assert data.isascii()
    assert [told["label"] for told in json.loads(data)["faces"]] == [told.label for told in seen]


def test_a_crowd_is_cut_and_it_says_so() -> None:
    crowd = [face("unknown", False, i / 3000) for i in range(3000)] + [face("Ω" * 60, True, 0.4)]
    data = message(*crowd).json_bytes()
    assert len(data) <= MAX_BYTES
    said = json.loads(data)
    assert said["faces-cut"] == 3001 - len(said["faces"])
    assert len(said["faces"]) > 300
    assert said["faces"][-1]["known"], "a known face stays"
    assert said["faces"] == sorted(said["faces"], key=lambda told: (told["known"], told["score"])), "left to right"


def test_an_event_names_what_happened() -> None:
    said = json.loads(event_bytes("model-rollback", "thing", reason="too slow"))
    assert (said["event"], said["device"], said["reason"]) == ("model-rollback", "thing", "too slow")

"""What a device says: one JSON message a frame, and one for each event, such as an update.

A frame's message is a superset of what the public TFLite image classification component publishes, so what reads those
reads these. Source: AWS IoT Greengrass developer guide, tensorflow-lite-image-classification-component.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

__all__ = ["MAX_BYTES", "Message", "SeenFace", "event_bytes", "now"]

# AWS IoT Core takes 128 KiB.
MAX_BYTES = 128_000


def now() -> str:
    """The time as the public component writes it, but in UTC and saying so: 2026-11-22 09:30:00.000000+00:00."""
    return datetime.now(UTC).isoformat(" ", "microseconds")


@dataclass(frozen=True)
class SeenFace:
    """A face in a frame: box x1 y1 x2 y2, pixels of the upright frame; label: the name, or "unknown".

    known: whether it is like anybody of the cast. score: how likely it is the nearest of the cast, 0 to 1, given that
    it is one of them. similarity: to the nearest, 1 at most.
    """

    box: tuple[float, float, float, float]
    label: str
    known: bool
    score: float
    similarity: float


@dataclass(frozen=True)
class Message:
    """What was seen in one frame.

    faces: left to right. version: of the model that named them. latency: milliseconds by step. source: where the frame
    is from; frame: its number there, from 0. sequence: counts what the device has said, so that a gap can be seen.
    skipped: frames, since the start, that were not looked at because newer ones had come. dropped: messages, ever, that
    the device lost because it could not keep more of them.
    """

    faces: tuple[SeenFace, ...]
    version: str
    latency: Mapping[str, float]
    source: str
    frame: int
    sequence: int
    device: str
    skipped: int = 0
    dropped: int = 0
    timestamp: str = field(default_factory=now)

    def json_bytes(self) -> bytes:
        """The message in ASCII, at most MAX_BYTES: of too many faces the surest stay, `faces-cut` says how many don't.

        `inference-results` names each person of the cast once, the likeliest first.
        """
        scores: dict[str, float] = {}
        for face in self.faces:
            if face.known:
                scores[face.label] = max(face.score, scores.get(face.label, 0.0))
        results = [
            {"Label": label, "Score": f"{score:.4f}"}
            for label, score in sorted(scores.items(), key=lambda item: -item[1])
        ]
        faces = [_described(face) for face in self.faces]
        data = self._encoded(results, faces, 0)
        if len(data) > MAX_BYTES:
            # Names first, then whatever the detector saw first; half as many until they fit.
            order = sorted(range(len(faces)), key=lambda i: (not faces[i]["known"], -faces[i]["score"]))
            keep = len(faces)
            while len(data) > MAX_BYTES and keep:
                keep //= 2
                kept = sorted(order[:keep])
                data = self._encoded(results[:keep], [faces[i] for i in kept], len(faces) - keep)
        return data

    def _encoded(self, results: list[dict[str, str]], faces: list[dict[str, Any]], cut: int) -> bytes:
        said: dict[str, Any] = {
            "timestamp": self.timestamp,
            "inference-type": "image-classification",
            "inference-description": "People of the cast in this frame, the likeliest first",
            "inference-results": results,
            "faces": faces,
            "model-version": self.version,
            "latency-ms": {step: round(float(ms), 2) for step, ms in self.latency.items()},
            "source": self.source,
            "frame": self.frame,
            "sequence": self.sequence,
            "device": self.device,
            "skipped": self.skipped,
            "dropped": self.dropped,
        }
        if cut:
            said["faces-cut"] = cut
        return json.dumps(said, separators=(",", ":"), allow_nan=False).encode("ascii")


def event_bytes(event: str, device: str, **said: Any) -> bytes:
    """An event as a message: {"timestamp", "event", "device", ...}."""
    return json.dumps(
        {"timestamp": now(), "event": event, "device": device, **said}, separators=(",", ":"), default=str
    ).encode("ascii")


def _described(face: SeenFace) -> dict[str, Any]:
    return {
        "box": [round(float(edge), 1) for edge in face.box],
        "label": face.label,
        "known": face.known,
        "score": round(float(face.score), 4),
        "similarity": round(float(face.similarity), 4),
    }

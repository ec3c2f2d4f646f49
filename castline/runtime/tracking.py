"""Faces of one frame after another joined into tracks: one track is one face for as long as it can be followed.

Two faces belong together where their boxes overlap from one frame to the next (Bochinski et al., High-speed
tracking-by-detection without using image information, 2017), or where boxes do not tell, their embeddings do (Wojke et
al., Simple online and realtime tracking with a deep association metric, 2017). NumPy only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castline.faces.boxes import iou

__all__ = ["Track", "Tracker", "TrackingSettings"]

Embed = Callable[[int], NDArray[np.float32]]
Centre = Callable[[NDArray[np.float32]], NDArray[np.float32]]
# A new face is embedded in each of its first frames: who is seen for an instant only is named by these.
_FIRST_LOOKS = 3


@dataclass(frozen=True)
class TrackingSettings:
    """How faces are followed.

    min_overlap: intersection over union from one frame to the next, below which boxes are not of one face.
    stay, join: how alike a face has to be to a track whose place it has, and to one whose place it has not. 1 is as
        alike as the track's faces are among themselves: how large cosines are depends on the base model. Over a cut,
        another person in the same place was at 0.03; the same person, turning away, never below 0.58.
    gap: seconds that a face may be gone and still keep its track.
    look_every: seconds after which a face that is followed is embedded again. Its place says that it is the same face,
        its embedding whose it is.
    min_support: a track whose detector scores sum up to less is taken for noise. 0.9: one face that the detector is
        sure of, or two that it is not.
    """

    min_overlap: float = 0.3
    stay: float = 0.5
    join: float = 0.7
    gap: float = 0.5
    look_every: float = 0.25
    min_support: float = 0.9


@dataclass(eq=False)
class Track:
    """One face, followed. Its size does not depend on how long it was.

    number: counts from 1 in the order of appearance. start, end: seconds; the face is on screen from `start` until just
    before `end`, which is when the next frame came. box: (4,) float32, where it was last. frames: how often it was
    found. support: sum of the detector's scores. faces: how often it was embedded. raw: (D,) float32, sum of the raw
    embeddings. centred: (D,) float32, sum of the centred ones. similarities: (P,) float32, sum of those to the cast.
    looked: seconds, when it was last embedded.
    """

    number: int
    start: float
    end: float
    box: NDArray[np.float32]
    frames: int = 0
    support: float = 0.0
    faces: int = 0
    raw: NDArray[np.float32] | float = 0.0
    centred: NDArray[np.float32] | float = 0.0
    similarities: NDArray[np.float32] | float = 0.0
    looked: float = -np.inf

    @property
    def pooled(self) -> NDArray[np.float32]:
        """(D,) float32: the mean raw embedding."""
        return np.asarray(self.raw, np.float32) / np.float32(self.faces)

    @property
    def similar(self) -> NDArray[np.float32]:
        """(P,) float32: the mean similarity of its faces to each of the cast."""
        return np.asarray(self.similarities, np.float32) / np.float32(self.faces)

    def likeness(self, centred: NDArray[np.float32]) -> float:
        """How alike a face (D,) is to the faces of the track; 1 is as alike as they are among themselves."""
        mean = np.asarray(self.centred, np.float32) / np.float32(self.faces)
        return float(mean @ centred) / max(float(mean @ mean), 1e-6)


class Tracker:
    """Detections of one frame after another in, tracks out; it keeps the tracks and no frame.

    centre: takes raw embeddings (N, D) to what cosines are computed of, (N, D) of length 1: see Recognizer.centred.
    similarities: of a raw embedding (D,) to the cast, (P,).
    """

    def __init__(self, settings: TrackingSettings, centre: Centre, similarities: Centre) -> None:
        self._settings, self._centre, self._similarities = settings, centre, similarities
        self._followed: list[Track] = []
        self._ended: list[Track] = []
        self._last: set[int] = set()
        self._count = 0

    def update(
        self, time: float, boxes: NDArray[np.float32], scores: NDArray[np.float32], embed: Embed
    ) -> NDArray[np.int32]:
        """The number of the track that each face of the frame belongs to, (N,) int32; no two of them the same.

        time: seconds, later than the frame before. boxes: (N, 4), x1 y1 x2 y2. scores: (N,), of the detector. embed:
        gives the raw embedding (D,) of the face in a row of `boxes`; asked at most once for each, and only if needed.
        """
        self._hold(time)
        self._end(lambda track: time - track.end > self._settings.gap)
        frame = _Frame(boxes, embed, self._centre)
        tracks = self._matched(time, frame)
        for row, track in tracks.items():
            track.box, track.end = boxes[row], time
            track.frames += 1
            track.support += float(scores[row])
            if row in frame.raw:
                track.faces += 1
                track.raw = track.raw + frame.raw[row]
                track.centred = track.centred + frame.centred(row)
                track.similarities = track.similarities + self._similarities(frame.raw[row])
                track.looked = time
        self._last = {track.number for track in tracks.values()}
        return np.array([tracks[row].number for row in range(len(boxes))], np.int32)

    def finish(self, time: float) -> list[Track]:
        """All tracks that are no noise, in the order of appearance. time: seconds, the end of the last frame."""
        self._hold(time)
        self._end(lambda track: True)
        return sorted(self._ended, key=lambda track: track.number)

    def _hold(self, time: float) -> None:
        """Whoever was in the frame before was on screen until now: a frame is shown until the next one comes."""
        for track in self._followed:
            if track.number in self._last:
                track.end = time

    def _end(self, over: Callable[[Track], bool]) -> None:
        ended = [track for track in self._followed if over(track)]
        self._followed = [track for track in self._followed if not over(track)]
        self._ended += [track for track in ended if track.support >= self._settings.min_support]

    def _matched(self, time: float, frame: "_Frame") -> dict[int, Track]:
        """The track of each row of the frame, new ones included."""
        found: dict[int, Track] = {}
        for affinity in (self._by_place, self._by_looks):
            rows = [row for row in range(len(frame.boxes)) if row not in found]
            tracks = [track for track in self._followed if track not in found.values()]
            if rows and tracks:
                pairs = _best_pairs(affinity(time, frame, rows, tracks))
                found |= {rows[i]: tracks[j] for i, j in pairs}
        for row in range(len(frame.boxes)):
            if row not in found:
                self._count += 1
                found[row] = Track(self._count, time, time, frame.boxes[row])
                self._followed.append(found[row])
                frame.centred(row)
        return found

    def _by_place(self, time: float, frame: "_Frame", rows: list[int], tracks: list[Track]) -> NDArray[np.float32]:
        """(N, T): overlap; where several boxes or tracks compete, likeness is added; -inf where the two do not fit."""
        overlap = iou(frame.boxes[rows], np.stack([track.box for track in tracks]))
        near = overlap >= self._settings.min_overlap
        fit = np.where(near, overlap, -np.inf).astype(np.float32)
        contested = near & ((near.sum(1, keepdims=True) > 1) | (near.sum(0, keepdims=True) > 1))
        for i, j in zip(*np.nonzero(near), strict=True):
            if contested[i, j] or self._due(tracks[j], time):
                likeness = tracks[j].likeness(frame.centred(rows[i]))
                if likeness < self._settings.stay:
                    fit[i, j] = -np.inf
                elif contested[i, j]:
                    fit[i, j] += likeness
        return fit

    def _by_looks(self, time: float, frame: "_Frame", rows: list[int], tracks: list[Track]) -> NDArray[np.float32]:
        """(N, T): likeness, for faces that moved too fast or come back; -inf where they are not alike enough."""
        likeness = np.array([[track.likeness(frame.centred(row)) for track in tracks] for row in rows], np.float32)
        return np.where(likeness >= self._settings.join, likeness, -np.inf).astype(np.float32)

    def _due(self, track: Track, time: float) -> bool:
        return track.faces < _FIRST_LOOKS or time - track.looked >= self._settings.look_every - 1e-6


class _Frame:
    """The faces of one frame; each is embedded once, and only if somebody asks."""

    def __init__(self, boxes: NDArray[np.float32], embed: Embed, centre: Centre) -> None:
        self.boxes, self.raw = boxes, dict[int, NDArray[np.float32]]()
        self._embed, self._centre, self._centred = embed, centre, dict[int, NDArray[np.float32]]()

    def centred(self, row: int) -> NDArray[np.float32]:
        if row not in self._centred:
            self.raw[row] = self._embed(row)
            self._centred[row] = self._centre(self.raw[row][np.newaxis])[0]
        return self._centred[row]


def _best_pairs(affinity: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Pairs of a row and a column, best first, none in two pairs; what is -inf is no pair.

    >>> _best_pairs(np.array([[0.9, 0.8], [0.7, -np.inf]], np.float32))
    [(0, 0)]
    """
    pairs: list[tuple[int, int]] = []
    for place in np.argsort(-affinity, axis=None, kind="stable"):
        i, j = divmod(int(place), affinity.shape[1])
        if np.isfinite(affinity[i, j]) and all(i != row and j != column for row, column in pairs):
            pairs.append((i, j))
    return pairs

"""The self-test of a release: on the device it has to make of one picture what it made on the desktop.

The picture is a synthetic scene of three people who do not exist (CC0 1.0; castline's sample/scenes/scene_04.jpg,
reduced), so no photo of a cast member travels. Whom a release takes them for does not matter, only that it is the same
everywhere: another name, a score that is off, or a face that is not found means that the file, the interpreter or the
processor computes something else than what was measured and released.
"""

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from castline.edge.manifest import MANIFEST, Manifest
from castline.errors import CastlineError, DataError, ReleaseError
from castline.files.bundle import read_bundle
from castline.runtime import Person, Recognizer
from castline.text import short

__all__ = ["EXPECTED", "IMAGE", "Golden", "Seen", "Tolerance", "difference", "self_test", "write_golden"]

IMAGE, EXPECTED = "golden.jpg", "golden.json"

# Of a device, in milliseconds: a single-board computer's core is about ten times slower than a desktop's, and it has
# other work. The second number is multiplied by what a face took when the file was measured for its bundle.
_FLOOR_MS, _FACTOR = 5000, 30


@dataclass(frozen=True)
class Tolerance:
    """How far a device may be off. box: of the face's width, for each edge.

    Twice and more what float32, float16 and int8 of one base model differ by on the picture (0.03, 0.01, 0): devices
    differ less, in the order in which a sum is taken.
    """

    score: float = 0.1
    similarity: float = 0.03
    box: float = 0.05


@dataclass(frozen=True)
class Seen:
    """A face of the picture, and whose it is taken for.

    label: what is shown, "unknown" or the name. nearest: the likeliest person. score: how likely it is that person, 0
    to 1. similarity: to the most similar person. box: x1 y1 x2 y2, pixels of the picture.
    """

    label: str
    known: bool
    nearest: str
    score: float
    similarity: float
    box: tuple[int, int, int, int]

    @classmethod
    def of(cls, person: Person) -> "Seen":
        """What golden.json keeps of it: few digits, so that the same bundle gives the same bytes elsewhere, too."""
        name, (x1, y1, x2, y2) = person.name, map(round, person.face.box)
        score, similarity = round(name.confidence, 3), round(name.similarity, 3)
        return cls(name.shown, name.known, name.nearest, score, similarity, (x1, y1, x2, y2))


@dataclass(frozen=True)
class Golden:
    """What golden.json says. faces: left to right. budget_ms: for the picture, from its bytes to names."""

    faces: tuple[Seen, ...]
    tolerance: Tolerance
    budget_ms: float


def write_golden(folder: Path, model: str) -> None:
    """Add golden.jpg to a release that is being packed, and golden.json: what the release makes of it on this machine.

    model: which of the bundle's files it is, such as float16. Nothing is timed: the same bundle gives the same bytes.

    Raises: BundleError when the folder cannot be opened; DataError when its detector finds no face in the picture.
    """
    with resources.as_file(resources.files("castline.edge") / IMAGE) as picture:
        shutil.copyfile(picture, folder / IMAGE)
    recognizer, latency_ms = _opened(folder, model)
    faces = tuple(map(Seen.of, recognizer.identify(folder / IMAGE)))
    if not faces:
        raise DataError(
            "no face is found in the picture that releases are tested with", "lower detector.min_score, or dvc repro"
        )
    golden = Golden(faces, Tolerance(), _FLOOR_MS + round(_FACTOR * latency_ms * len(faces)))
    text = json.dumps(asdict(golden), indent=2, ensure_ascii=False)
    (folder / EXPECTED).write_text(text + "\n", encoding="utf-8")


def self_test(folder: Path, clock: Callable[[], float] = time.perf_counter) -> None:
    """See that an unpacked release names the people of its picture as it did where it was packed, and quickly enough.

    clock: seconds.

    Raises: ReleaseError with the reason.
    """
    golden = _read(folder / EXPECTED)
    try:
        recognizer, _ = _opened(folder, Manifest.parse((folder / MANIFEST).read_bytes()).model)
        took_ms = float("inf")
        for _ in range(3):  # the first also sets up, and another program may have had the processor
            start = clock()
            people = recognizer.identify(folder / IMAGE)
            took_ms = min(took_ms, 1000 * (clock() - start))
            if took_ms <= golden.budget_ms:
                break
    except OSError as error:
        raise ReleaseError(f"{error.filename}: {error.strerror}") from error
    except CastlineError as error:
        raise ReleaseError(f"it cannot be opened: {error.what}") from error
    if wrong := difference(golden, people, recognizer):
        raise ReleaseError(wrong)
    if took_ms > golden.budget_ms:
        raise ReleaseError(f"too slow: {took_ms:.0f} ms for the golden picture, at most {golden.budget_ms:.0f}")


def difference(golden: Golden, people: Sequence[Person], recognizer: Recognizer) -> str:
    """The first thing by which what was seen is not what was expected, or "".

    A name may be another, or known instead of unknown, only as far as a score or similarity within tolerance decides.
    """
    allowed = golden.tolerance
    if len(people) != len(golden.faces):
        return f"{len(people)} faces in the golden picture, expected {len(golden.faces)}"
    for wanted, person in zip(golden.faces, people, strict=True):
        where, name = f"the face at {wanted.box[0]},{wanted.box[1]}", person.name
        reach = allowed.box * (wanted.box[2] - wanted.box[0]) + 1  # expected boxes are whole pixels
        if any(abs(a - b) > reach for a, b in zip(wanted.box, person.face.box, strict=True)):
            return f"{where}: found at {tuple(map(round, person.face.box))}, expected {wanted.box}"
        if wanted.nearest not in recognizer.people:
            return f"{where}: expected {short(wanted.nearest)}, whom this release does not know"
        score = float(name.scores[recognizer.people.index(wanted.nearest)])
        if not abs(score - wanted.score) <= allowed.score:
            return f"{where}: {short(wanted.nearest)} has score {score:.3f}, expected {wanted.score:.3f}"
        if not abs(name.similarity - wanted.similarity) <= allowed.similarity:
            return f"{where}: similarity {name.similarity:.3f}, expected {wanted.similarity:.3f}"
        if name.nearest != wanted.nearest and not name.confidence - score <= allowed.score:
            return f"{where}: taken for {short(name.nearest)}, expected {short(wanted.nearest)}"
        if name.known != wanted.known and not _near_threshold(person, recognizer, allowed):
            return f"{where}: {'known' if name.known else 'unknown'}, expected {short(wanted.label)}"
    return ""


def _near_threshold(person: Person, recognizer: Recognizer, allowed: Tolerance) -> bool:
    if recognizer.threshold is None:
        return False
    if recognizer.bundle.unknown.get("by") == "confidence":
        return abs(person.name.confidence - recognizer.threshold) <= allowed.score
    return abs(person.name.similarity - recognizer.threshold) <= allowed.similarity


def _opened(folder: Path, model: str) -> tuple[Recognizer, float]:
    """The release, and what a face took when its file was measured, ms. Raises: BundleError, ReleaseError."""
    files = read_bundle(folder).files
    if files.keys() != {model}:
        raise ReleaseError(
            f"bundle.json lists {', '.join(map(short, files)) or 'no files'}, a release has {model} only"
        )
    return Recognizer(folder, model), files[model].latency_ms


def _read(path: Path) -> Golden:
    try:
        values = json.loads(path.read_bytes())
        faces = tuple(Seen(**{**face, "box": tuple(map(int, face["box"]))}) for face in values["faces"])
        golden = Golden(faces, Tolerance(**values["tolerance"]), float(values["budget_ms"]))
        if not faces or any(len(face.box) != 4 or not isinstance(face.nearest, str) for face in faces):
            raise ValueError("no faces")
        numbers = [*asdict(golden.tolerance).values(), *(n for face in faces for n in (face.score, face.similarity))]
        if not all(isinstance(number, float | int) for number in numbers):
            raise ValueError("no numbers")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ReleaseError(f"{path.name}: nothing to test against ({error})") from error
    return golden


def main() -> None:
    """FOLDER SECONDS: test the release in a folder. The reason why not goes to standard output, with exit code 1.

    After so many seconds the process is ended, also where Python itself hangs and who waited for it is gone.
    """
    folder, seconds = sys.argv[1:]
    signal.alarm(int(seconds))
    try:
        self_test(Path(folder))
    except ReleaseError as error:
        print(error.what)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()

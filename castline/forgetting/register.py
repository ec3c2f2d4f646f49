"""Who is forgotten: labels/forgotten.csv, kept by git, without a name in it.

    person,batch,sha256,face,box
    scrypt:SALT:HASH,first,55d3…,,
    scrypt:SALT:HASH,second,9a1c…,2,0.4100 0.2200 0.5300 0.4100
    scrypt:SALT:HASH,third,,,

A row without a face is a whole photo; one with, that face in a photo of other people, by its number and by where it is:
x1 y1 x2 y2 as fractions of the upright photo, since another detector numbers faces differently. A row without a photo
says that a batch has something of theirs, such as a folder in which no face was found.

person is a salted, slow hash of the name in its Unicode form NFC, so that a folder, a label or the class of an earlier
version is known again by it. It keeps a name from being read in passing. It does not keep one from being guessed:
whoever has a list of names can try them all. Rows share a salt, so that a name is hashed once; two that were begun on
two branches have two.
Source: scrypt, RFC 7914.
"""

import csv
import hashlib
import io
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from castline.errors import ConfigError, DataError
from castline.photos.batches import label_of

__all__ = ["FORGOTTEN", "Face", "ForgottenSettings", "Register", "Spot", "normal", "read_register"]

FORGOTTEN = Path("labels/forgotten.csv")
_COLUMNS = ["person", "batch", "sha256", "face", "box"]
_HOW = "git checkout labels/forgotten.csv; castline forget writes this file"

Face = tuple[str, int]
"""The photo's sha256 and the face's number in it."""


@dataclass(frozen=True)
class ForgottenSettings:
    """The `forgotten` section of params.yaml: digests of labels/forgotten.csv, "" of nothing. Composing fills it in.

    register: of all of it. batches: of the rows of each batch, so that the faces of one are found again only if
    somebody in it is forgotten.
    """

    register: str = ""
    batches: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class Spot:
    """A row. face: None for the whole photo, or where the detector found none in `box`. box: four numbers or none."""

    person: str
    batch: str
    sha256: str = ""
    face: int | None = None
    box: tuple[float, ...] = ()


@dataclass(frozen=True)
class Register:
    """What labels/forgotten.csv says. Without rows everything here is quick, and nobody is known."""

    spots: frozenset[Spot] = frozenset()

    def knows(self, name: str | None) -> bool:
        """Whether it is the name of somebody who is forgotten."""
        return bool(name) and self._known(name or "") is not None

    def knows_path(self, photo: str) -> bool:
        """Whether a photo, by its path below the batch, lies in such a person's folder."""
        label = label_of(photo)
        return label is not None and self.knows(label.person)

    def person(self, name: str) -> str:
        """The hash that stands for `name` here, or will."""
        return self._known(name) or _hashed(normal(name), min(_salts(self.spots), default=os.urandom(16).hex()))

    def _known(self, name: str) -> str | None:
        people = {spot.person for spot in self.spots}
        return next((one for salt in _salts(self.spots) if (one := _hashed(normal(name), salt)) in people), None)

    def without(self, faces: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of the faces table without forgotten people's; the others keep their numbers.

        A face is theirs if its centre lies in a box that is theirs, or the other way round: rather one too many.
        """
        return [face for face in faces if not any(_is_in(spot, face) for spot in self._of(face["photo_sha256"]))]

    def has(self, sha256: str, face: int) -> bool:
        """Whether a face is forgotten, of which only the number is known."""
        return any(spot.face == face or not (spot.box or spot.face is not None) for spot in self._of(sha256))

    def has_photo(self, sha256: str) -> bool:
        """Whether there is a forgotten face in a photo."""
        return bool(self._of(sha256))

    def digest(self, batch: str | None = None) -> str:
        """Of the rows of a batch, or of all: 16 hex digits, "" where there is none."""
        rows = sorted(_cells(spot) for spot in self.spots if batch in (None, spot.batch))
        return hashlib.sha256(repr(rows).encode()).hexdigest()[:16] if rows else ""

    def settings(self, batches: Iterable[str]) -> ForgottenSettings:
        """What params.yaml has to say of it."""
        return ForgottenSettings(self.digest(), {batch: self.digest(batch) for batch in batches})

    def check(self, settings: ForgottenSettings, batch: str | None = None) -> None:
        """Raises: ConfigError when params.yaml speaks of another register, so that DVC could not see a change."""
        said = settings.register if batch is None else settings.batches.get(batch, "")
        if said != self.digest(batch):
            raise ConfigError(f"params.yaml does not speak of the {FORGOTTEN} that lies here", "castline compose")

    def write(self, path: Path = FORGOTTEN) -> None:
        """Sorted, so that what two people add on two branches merges."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(sorted(_cells(spot) for spot in self.spots))
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.getvalue(), encoding="utf-8", newline="")

    def _of(self, sha256: str) -> list[Spot]:
        return self._by_photo.get(sha256, []) if self.spots else []

    @property
    def _by_photo(self) -> dict[str, list[Spot]]:
        return _by_photo(self.spots)


def read_register(path: Path = FORGOTTEN) -> Register:
    """The register; no file, nobody.

    Raises: DataError naming the line that does not fit.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != _COLUMNS:
                raise DataError(f"{path}: its first line is not {','.join(_COLUMNS)}", _HOW)
            spots = set()
            for row in reader:
                try:
                    spots.add(_spot(row))
                except (TypeError, ValueError, AttributeError) as error:
                    raise DataError(f"{path}, line {reader.line_num}: {error}", _HOW) from error
    except FileNotFoundError:
        return Register()
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not readable as CSV: {error}", _HOW) from error
    return Register(frozenset(spots))


def normal(name: str) -> str:
    """A name as folders are read: one Unicode form, no blanks around it."""
    return unicodedata.normalize("NFC", name).strip()


def _spot(row: dict[str, str]) -> Spot:
    kind, salt, digest = row["person"].split(":")
    if kind != "scrypt" or len(salt) != 32 or len(digest) != 32 or set(salt + digest) - set("0123456789abcdef"):
        raise ValueError(f"{row['person']!r} is not scrypt:SALT:HASH")
    if row["sha256"] and (len(row["sha256"]) != 64 or set(row["sha256"]) - set("0123456789abcdef")):
        raise ValueError(f"sha256 is {row['sha256']!r}, not 64 hexadecimal digits")
    box = tuple(float(number) for number in row["box"].split())
    if len(box) not in (0, 4):
        raise ValueError(f"box is {row['box']!r}, not four numbers")
    return Spot(row["person"], row["batch"], row["sha256"], int(row["face"]) if row["face"] else None, box)


def _cells(spot: Spot) -> list[str]:
    *texts, face, box = astuple(spot)
    return [*texts, "" if face is None else str(face), " ".join(f"{number:.4f}" for number in box)]


@lru_cache(maxsize=100_000)
def _hashed(name: str, salt: str) -> str:
    # 16 MB and about a twentieth of a second a name, as RFC 7914 has it for logins: enough for names of people.
    digest = hashlib.scrypt(
        name.encode("utf-8", "surrogatepass"), salt=bytes.fromhex(salt), n=2**14, r=8, p=1, dklen=16
    )
    return f"scrypt:{salt}:{digest.hex()}"


@lru_cache(maxsize=4)
def _salts(spots: frozenset[Spot]) -> frozenset[str]:
    return frozenset(spot.person.split(":")[1] for spot in spots)


@lru_cache(maxsize=4)
def _by_photo(spots: frozenset[Spot]) -> dict[str, list[Spot]]:
    found: dict[str, list[Spot]] = {}
    for spot in spots:
        if spot.sha256:
            found.setdefault(spot.sha256, []).append(spot)
    return found


def _is_in(spot: Spot, face: dict[str, Any]) -> bool:
    if not spot.box:
        return spot.face in (None, face["face"])
    width, height = face["photo_width"], face["photo_height"]
    box = [float(edge) / size for edge, size in zip(face["box"], (width, height) * 2, strict=True)]
    return _holds(spot.box, box) or _holds(box, spot.box)


def _holds(box: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the centre of the other box lies in the one."""
    x, y = (other[0] + other[2]) / 2, (other[1] + other[3]) / 2
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]

"""Photos of a cast, fetched one by one: each is recorded in the batch's manifest, and what was not taken with a reason.

The manifest is all that is remembered: what is in it is not fetched again, so a run that was broken off goes on.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from castline.collect import files
from castline.collect.cast import Person, folders_of
from castline.collect.polite import Polite, Refused
from castline.collect.wikimedia import TYPES, WIKIMEDIA, Found, Picture, Sites, files_of, look_up, picture_of
from castline.photos.batches import check_name
from castline.photos.decode import Rejected, decode
from castline.photos.origins import COLUMNS, MANIFESTS, Origin, read_origins
from castline.photos.settings import PhotoSettings

__all__ = ["CONSENT", "MANIFESTS", "Collected", "collect_photos"]

CONSENT = "none on record: the picture's licence is no consent of the person shown"
REJECTS = ("person", "wikidata", "source", "reason", "detail")
_LIMIT = 20_000_000  # bytes; scaled pictures have a few hundred thousand
_ENDINGS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png", b"RIFF": ".webp"}


@dataclass
class Collected:
    """What came of it. photos: of this cast in the manifest, fetched now or before. fetched: now. rejects: rows as in
    REJECTS. by_name: who was found by name alone. stopped: why it ended before its end."""

    photos: int = 0
    people: int = 0
    fetched: int = 0
    rejects: list[tuple[str, ...]] = field(default_factory=list)
    by_name: list[tuple[Person, Found]] = field(default_factory=list)
    stopped: Refused | None = None

    @property
    def reasons(self) -> Counter[str]:
        return Counter(row[3] for row in self.rejects)


def collect_photos(
    cast: Sequence[Person],
    out: Path,
    batch: str,
    polite: Polite,
    each: int = 20,
    consent: str = CONSENT,
    sites: Sites = WIKIMEDIA,
    forgotten: Callable[[str], bool] = lambda name: False,
) -> Collected:
    """Up to `each` photos of each of the cast, as out/PERSON/PAGE.jpg; recorded in labels/manifests/BATCH.csv.

    forgotten: whether somebody of that name asked not to be in it.

    Raises: CastlineError when a file cannot be read or written.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    manifest = MANIFESTS / f"{check_name(batch)}.csv"
    run = _Run(out, manifest, {row.photo: row for row in read_origins(manifest)}, polite, sites, consent, forgotten)
    folders = folders_of(cast)
    try:
        with tqdm(cast, desc="collecting", unit="person", disable=None) as bar:
            for person in bar:
                run.person(person, folders[person], each)
    except Refused as refused:
        run.found.stopped = refused
    finally:
        files.write_csv(Path(f"build/collect/{batch}.rejects.csv"), REJECTS, run.found.rejects)
    of_cast = [row for row in run.rows.values() if row.photo.partition("/")[0] in set(folders.values())]
    run.found.photos, run.found.people = len(of_cast), len({row.photo.partition("/")[0] for row in of_cast})
    return run.found


@dataclass
class _Run:
    out: Path
    manifest: Path
    rows: dict[str, Origin]
    polite: Polite
    sites: Sites
    consent: str
    forgotten: Callable[[str], bool]
    found: Collected = field(default_factory=Collected)

    def person(self, person: Person, folder: str, each: int) -> None:
        """Raises: Refused, DataError."""
        have = sum(photo.partition("/")[0] == folder for photo in self.rows)
        if have >= each:
            return
        entity = person.wikidata
        try:
            if not folder:
                raise Rejected("no_name", "no name for a folder is left of it, or a namesake has it: fill in wikidata")
            if self.forgotten(person.name) or self.forgotten(folder):
                raise Rejected("forgotten", "they asked not to be in it")
            found = look_up(self.polite, self.sites, person)
            entity = found.entity
            if found.by_name:
                self.found.by_name.append((person, found))
            for page in files_of(self.polite, self.sites, found):
                have += self._page(person, entity, folder, page)
                if have >= each:
                    break
            if not have:
                raise Rejected("no_photo", "Commons has none that may be used")
        except Rejected as rejected:
            self._reject(person, entity, "", rejected)

    def _page(self, person: Person, entity: str, folder: str, page: dict[str, Any]) -> bool:
        """Fetch a file, unless it is here or may not be used; whether it is one more."""
        source = ""
        try:
            picture = picture_of(page)
            source = picture.source
            if there := next((row for row in self.rows.values() if row.source == source), None):
                if there.photo.partition("/")[0] != folder:
                    raise Rejected("already_here", f"as {there.photo}: a photo counts for one person")
                return False
            data = self.polite.fetch(picture.url, TYPES, _LIMIT)
            row = self._kept(person, folder, picture, data)
        except Rejected as rejected:
            self._reject(person, entity, source or str(page.get("title", "")), rejected)
            return False
        self.rows[row.photo] = row
        ordered = sorted(self.rows.values(), key=lambda row: row.photo)
        files.write_csv(self.manifest, COLUMNS, [dataclasses.astuple(row) for row in ordered])
        self.found.fetched += 1
        return True

    def _kept(self, person: Person, folder: str, picture: Picture, data: bytes) -> Origin:
        photo = decode(data, PhotoSettings())
        ending = next((ending for magic, ending in _ENDINGS.items() if data.startswith(magic)), "")
        if not ending:
            raise Rejected("wrong_type", f"the file is none of {', '.join(TYPES)}")
        if there := next((row for row in self.rows.values() if row.sha256 == photo.sha256), None):
            raise Rejected("already_here", f"as {there.photo}, the same file")
        name = f"{folder}/{picture.page}{ending}"
        files.write(self.out / name, data)
        return Origin(
            photo=name,
            person=person.name,
            source=picture.source,
            author=picture.author,
            licence=picture.licence,
            licence_url=picture.licence_url,
            date=picture.date,
            sha256=photo.sha256,
            retrieved=datetime.now(UTC).date().isoformat(),
            consent=self.consent,
        )

    def _reject(self, person: Person, entity: str, source: str, why: Rejected) -> None:
        self.found.rejects.append((person.name, entity, source, why.reason, why.detail))

"""All faces and labels in; the dataset out: whose face each is, kept or not and why, which side of the split."""

from castline.stage import stage

import shlex
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castline.bars import Bar
from castline.curation.dataset import DatasetRow, FaceRow, Known, assemble
from castline.curation.decisions import read_decisions
from castline.curation.duplicates import neighbours
from castline.curation.registration import SIDE, inside_of, likeness, picture_of
from castline.curation.settings import CurationSettings, SplitSettings
from castline.curation.sources import read_shoots, read_sources
from castline.curation.wrong_labels import REASON, two_people
from castline.errors import DataError
from castline.faces.quality import Quality
from castline.files import params, tables
from castline.files.metrics import write_metrics
from castline.forgetting.register import read_register
from castline.labels.gather import COLUMNS, Heard, hear
from castline.labels.settings import LabelsSettings
from castline.photos.batches import DataSettings, label_of

QUALITY = ["eye_distance", "sharpness", "brightness", "contrast", "yaw", "roll"]
REVIEW, SOURCES = Path("labels/review.json"), Path("labels/sources.csv")


@stage
def main() -> None:
    batches = params.read("data", DataSettings).read
    curation, labels = params.read("curation", CurationSettings), params.read("labels", LabelsSettings)
    decisions, sources = read_decisions(REVIEW), read_sources(SOURCES)
    paths = [Path(f"build/faces/{batch}.parquet") for batch in batches]
    key = ["batch", "photo", "face"]
    table = tables.read_many(paths, [*key, "photo_sha256", "chip_hash", *QUALITY])
    embedded = tables.read_many([Path(f"build/embeddings/{batch}.parquet") for batch in batches])
    tables.check_same_rows(table, embedded)
    embeddings = tables.matrix(embedded, "feature")
    faces = [FaceRow(quality=Quality(*map(row.pop, QUALITY)), **row) for row in table.to_pylist()]
    seen = [DatasetRow(**row) for row in tables.read(Path("build/seen.parquet")).to_pylist()]
    alike = same_photos(paths, embeddings, curation.duplicate_likeness)
    rejects = tables.read_many([Path(f"build/faces/{batch}.rejects.parquet") for batch in batches]).to_pylist()
    heard = hear(batches, tables.read_many(paths, COLUMNS).to_pylist(), rejects, labels)
    write_metrics(Path("reports/labels.json"), heard.metrics(labels))
    tell(heard)

    known = Known(seen, alike, decisions, read_shoots(batches) | sources, heard.said, heard.first)
    rows = assemble(faces, embeddings, batches, curation, params.read("split", SplitSettings), known)
    check_forgotten(rows)
    tables.write(Path("build/dataset.parquet"), tables.DATASET, [vars(row) for row in rows])
    named = [None if row.stranger else row.person for row in rows]
    report(rows, rejects, two_people(embeddings, named, [REASON in row.reason + row.doubt for row in rows]))

    every = [*seen, *rows]
    unfit(REVIEW, decisions.keys() - {(row.photo_sha256, row.face) for row in every}, "no face that was found")
    unheard = {one.person for one in decisions.values()} - {
        "",
        *(label.person for row in every if (label := label_of(row.photo))),
        *(said.person for said in heard.said.values()),
    }
    if unheard:
        print(
            f"warning: {REVIEW} names people whom no folder or label names: {', '.join(map(repr, sorted(unheard)[:5]))}"
        )
    photos = {(row["batch"], row["photo"]) for row in rejects} | {(row.batch, row.photo) for row in every}
    unfit(SOURCES, {photo for photo in sources.keys() - photos if photo[0] in batches}, "no photo")


def same_photos(paths: list[Path], embeddings: NDArray[np.float32], least: float) -> NDArray[np.int64]:
    """Pairs of faces, as rows of the tables at `paths`, that lie on each other as those of one photo do: (M, 2)."""
    pictures, inside = (np.zeros((len(embeddings), SIDE, SIDE), kind) for kind in (np.uint8, np.bool_))
    batches: list[int] = []
    for number, path in enumerate(paths):
        for face in tables.read(path, ["chip", "landmarks", "photo_width", "photo_height"]).to_pylist():
            landmarks = np.array(face["landmarks"], np.float32).reshape(5, 2)
            pictures[len(batches)] = picture_of(face["chip"])
            inside[len(batches)] = inside_of(landmarks, face["photo_width"], face["photo_height"])
            batches.append(number)
    pairs = neighbours(embeddings, np.array(batches, np.int64))
    found = np.zeros(len(pairs), np.float32)
    with Bar("comparing faces", "pair", len(pairs)) as bar:
        for start in range(0, len(pairs), 128):
            block = slice(start, start + 128)
            found[block] = likeness(pictures, inside, pairs[block])
            bar.update(len(pairs[block]))
    return pairs[found >= least]


def tell(heard: Heard) -> None:
    """What labellers said, in a few lines."""
    said = heard.said.values()
    if heard.photos or heard.clusters:
        named, strangers = sum(bool(one.person) for one in said), sum(one.stranger for one in said)
        print(f"labels of {len(heard.photos)} photos and {heard.clusters} clusters: {named} faces named,", end=" ")
        print(f"{strangers} strangers', {sum(bool(one.problem) for one in said)} not settled")
    for problem, count in heard.problems.most_common():
        print(f"  not used: {count} × {problem}")
    for batch in sorted({photo.batch for photo in heard.photos}):
        if again := heard.to_label_again(batch):
            print(f"  labellers disagree on {len(again)} photos: castline label push --batch {batch} --disagreements")


def report(rows: list[DatasetRow], rejects: list[dict[str, Any]], second: dict[str, int]) -> None:
    reasons = Counter(row.reason.split(":")[0] for row in rows if row.reason)
    kept = [row for row in rows if row.kept and not row.stranger]
    sides = Counter(row.split for row in kept)
    people = {row.person for row in kept}
    in_group = Counter(row.group for row in kept)
    write_metrics(
        Path("reports/dataset.json"),
        {
            "photos": len({(row.batch, row.photo) for row in rows}) + len(rejects),
            "rejected": dict(Counter(row["reason"] for row in rejects)),
            "faces": len(rows),
            "left_out": dict(reasons),
            "kept": len(kept),
            "doubtful": sum(bool(row.doubt) for row in kept),
            "in_groups": sum(count for count in in_group.values() if count > 1),
            "people": len(people),
            "two_people_under_one_name": second,
            "splits": dict(sides),
        },
    )
    print(
        f"{len(rows)} faces: {len(kept)} of {len(people)} people kept, {sum(row.stranger for row in rows)} strangers'"
    )
    print(", ".join(f"{side} {sides[side]}" for side in ("train", "val", "test")))
    for reason, count in reasons.most_common():
        print(f"  left out: {count} × {reason}")
    for person, count in second.items():
        print(f"  two people under one name? {person!r}: {count} faces agree with each other and not with the rest")
    if second or reasons[REASON] or any(row.doubt for row in kept):
        print(f"{sum(bool(row.doubt) for row in kept)} kept in doubt; to look at them: castline review")


def check_forgotten(rows: list[DatasetRow]) -> None:
    """What was forgotten does not come back by a label. Folders were looked at where faces were found."""
    register = read_register()
    named = {row.person for row in rows if (label := label_of(row.photo)) is None or label.person != row.person}
    for person in sorted(filter(register.knows, filter(None, named))):
        raise DataError(f"labels/ names {person!r}, who is forgotten", f"castline forget {shlex.quote(person)} --yes")


def unfit(path: Path, keys: Collection[tuple[str, object]], what: str) -> None:
    """Say which entries of a file fit nothing: they may be of photos that are gone."""
    if keys:
        some = ", ".join(
            f"{str(name)[:12]}… {more}" if path == REVIEW else f"{name}/{more}"
            for name, more in sorted(keys, key=str)[:3]
        )
        print(f"warning: {path}: {len(keys)} of its entries fit {what}: {some}")


if __name__ == "__main__":
    main()

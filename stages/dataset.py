"""All faces and labels in; the dataset out: whose face each is, kept or not and why, which side of the split."""

from collections import Counter
from pathlib import Path

from castline import params, tables
from castline.curation.dataset import DatasetRow, FaceRow, assemble
from castline.curation.settings import CurationSettings, SplitSettings
from castline.errors import exits_cleanly
from castline.metrics import write_metrics
from castline.photos.batches import DataSettings


@exits_cleanly
def main() -> None:
    batches = params.read("data", DataSettings).read
    key = ["batch", "photo", "face"]
    faces = tables.read_many(
        [Path(f"build/faces/{batch}.parquet") for batch in batches], [*key, "photo_sha256", "chip_hash"]
    )
    embeddings = tables.read_many([Path(f"build/embeddings/{batch}.parquet") for batch in batches])
    tables.check_same_rows(faces, embeddings)

    rows = assemble(
        [FaceRow(**face) for face in faces.to_pylist()],
        tables.matrix(embeddings, "feature"),
        batches,
        params.read("curation", CurationSettings),
        params.read("split", SplitSettings),
        [DatasetRow(**row) for row in tables.read(Path("build/seen.parquet")).to_pylist()],
    )
    rejects = tables.read_many([Path(f"build/faces/{batch}.rejects.parquet") for batch in batches]).to_pylist()
    tables.write(Path("build/dataset.parquet"), tables.DATASET, [vars(row) for row in rows])

    reasons = Counter(row.reason.split(":")[0] for row in rows if row.reason)
    kept = [row for row in rows if row.kept and not row.stranger]
    sides = Counter(row.split for row in kept)
    people = {row.person for row in kept}
    write_metrics(
        Path("reports/dataset.json"),
        {
            "photos": len({(row.batch, row.photo) for row in rows}) + len(rejects),
            "rejected": dict(Counter(row["reason"] for row in rejects)),
            "faces": len(rows),
            "left_out": dict(reasons),
            "kept": len(kept),
            "people": len(people),
            "splits": dict(sides),
        },
    )
    print(
        f"{len(rows)} faces: {len(kept)} of {len(people)} people kept, {sum(row.stranger for row in rows)} strangers'"
    )
    print(", ".join(f"{side} {sides[side]}" for side in ("train", "val", "test")))
    for reason, count in reasons.most_common():
        print(f"  left out: {count} × {reason}")


if __name__ == "__main__":
    main()

"""A batch's faces in; what a frozen base model makes of each out; of several
views of each, if augmentation.views says so.

python stages/features.py reference BATCH    by the reference model → build/embeddings/BATCH.parquet
python stages/features.py base BATCH         by the base model      → build/features/BATCH.parquet
"""

from castline.stage import stage

import sys
from pathlib import Path

from castline.embedding.augment_settings import AugmentationSettings
from castline.embedding.feature_tables import write_features
from castline.files import params


@stage
def main(role: str, batch: str) -> None:
    embeddings, features = Path(f"build/embeddings/{batch}.parquet"), Path(f"build/features/{batch}.parquet")
    faces = Path(f"build/faces/{batch}.parquet")
    if role == "reference":
        target, how = embeddings, write_features(embeddings, Path("build/reference"), faces)
    else:
        augmentation = params.read("augmentation", AugmentationSettings)
        target, how = features, write_features(features, Path("build/base"), faces, embeddings, augmentation)
    print(f"{target}: {how}")


if __name__ == "__main__":
    main(*sys.argv[1:])

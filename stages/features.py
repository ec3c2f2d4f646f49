"""A batch's faces in; what a frozen base model makes of each out.

python stages/features.py reference BATCH    by the reference model → build/embeddings/BATCH.parquet
python stages/features.py base BATCH         by the base model      → build/features/BATCH.parquet
"""

import sys
from pathlib import Path

from castline.errors import exits_cleanly
from castline.training.feature_tables import write_features


@exits_cleanly
def main(role: str, batch: str) -> None:
    embeddings, features = Path(f"build/embeddings/{batch}.parquet"), Path(f"build/features/{batch}.parquet")
    target, known = (embeddings, None) if role == "reference" else (features, embeddings)
    how = write_features(target, Path("build", role), Path(f"build/faces/{batch}.parquet"), known)
    print(f"{target}: {how}")


if __name__ == "__main__":
    main(*sys.argv[1:])

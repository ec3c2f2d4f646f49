"""A batch of photos in, a table of its faces and a table of its rejected photos out.

python stages/faces.py BATCH
"""

from castline.stage import stage

import sys
from collections import Counter
from pathlib import Path

from castline import machine
from castline.bars import counted
from castline.errors import DataError
from castline.faces.extract import extract
from castline.faces.settings import DetectorSettings
from castline.forgetting.register import ForgottenSettings, read_register
from castline.photos.batches import DataSettings, check_batches, check_name, walk
from castline.photos.settings import PhotoSettings


@stage
def main(batch: str) -> None:
    # Not above: each worker process imports this file anew, and needs none of them.
    from castline.files import params, tables

    photos = params.read("photos", PhotoSettings)
    detector = params.read("detector", DetectorSettings)
    folder = Path("data", check_name(batch))
    if not folder.is_dir():
        raise DataError(f"{folder}: no such batch", f"castline data add PATH --batch {batch}")
    data = params.read("data", DataSettings)
    if data.read == data.batches:  # else a version knows others: one new person, or one photo of somebody, will do
        check_batches(Path("data", name) for name in data.batches)
    register = read_register()
    register.check(params.read("forgotten", ForgottenSettings), batch)

    faces, rejects, forgotten = [], [], 0
    entries = walk(folder)
    read = [entry for entry in entries if not register.knows_path(entry.name)]
    results = extract(read, photos, detector, machine.workers())
    for found in counted(results, f"faces of {batch}", "photo", len(read)):
        left = register.without(found.faces)
        forgotten += bool(found.faces and not left)
        faces += [{"batch": batch, **face} for face in left]
        rejects += [{"batch": batch, **found.reject}] if found.reject else []
    forgotten += len(entries) - len(read)
    # Counted, so that numbers add up; without the path, which may be a name.
    rejects += [{"batch": batch, "photo": "", "reason": "forgotten", "detail": ""}] * forgotten

    tables.write(Path(f"build/faces/{batch}.parquet"), tables.FACES, faces)
    tables.write(Path(f"build/faces/{batch}.rejects.parquet"), tables.REJECTS, rejects)
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(r["reason"] for r in rejects).most_common())
    print(
        f"{batch}: {len(entries)} files, {len(faces)} faces in {len(entries) - len(rejects)} of them"
        + (f"; rejected: {reasons}" if reasons else "")
    )


if __name__ == "__main__":
    main(sys.argv[1])

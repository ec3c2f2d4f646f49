"""The environment that Label Studio's server runs in, and the empty database that its first start needs."""

import shutil
import sys
import tempfile
from pathlib import Path

from castline.environments import Environment

__all__ = ["LABEL_STUDIO", "VERSION", "database"]

VERSION = "1.23.2"
LABEL_STUDIO = Environment(
    f"Label Studio {VERSION}", f"label-studio-{VERSION}", (__package__, "requirements.lock"), size=1_000_000_000
)


def database() -> Path:
    """An empty database in the shape that this version wants: what a minute of migrations makes, done once.

    No user, key or project is in it.

    Raises: CastlineError when it cannot be made.
    """
    made = LABEL_STUDIO.made()
    target = made / "empty.sqlite3"
    if not target.is_file():
        with LABEL_STUDIO.guarded() as guard, tempfile.TemporaryDirectory() as work:
            if not target.is_file():
                print("Label Studio: making an empty database, once (a minute) …", file=sys.stderr, flush=True)
                settings = {
                    "LABEL_STUDIO_BASE_DATA_DIR": work,
                    "LABEL_STUDIO_DATABASE_NAME": str(Path(work, target.name)),
                    "LABEL_STUDIO_DJANGO_DB": "sqlite",
                    "LABEL_STUDIO_SENTRY_DSN": "",
                    "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
                }
                LABEL_STUDIO.run([made / "bin" / "python", made / "bin" / "label-studio", "version"], guard, settings)
                unfinished = target.with_suffix(".part")
                shutil.copyfile(Path(work, target.name), unfinished)
                unfinished.replace(target)
    return target

"""The project's settings and data: params.yaml composed from conf/, and which folders of photos are its batches.

Photos stay where they are. A batch is a link, data/BATCH, to the folder they lie in, and DVC knows it by the hash of
what is in there; nothing is copied, neither into the project nor into DVC's cache. The link carries the path of this
machine, dvc.lock does not: where a colleague's photos lie elsewhere, `castline data use` there gives the same hashes.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from castline.errors import CastlineError, ConfigError, DataError
from castline.photos.batches import DataSettings, Entry, check_batches, check_name, label_of, walk

if TYPE_CHECKING:
    from castline.forgetting.register import Register

__all__ = [
    "Registered",
    "add_batch",
    "batches_to_read",
    "check_data",
    "check_in_project",
    "compose",
    "prune",
    "root",
    "settle_forgotten",
    "use_batch",
]

_aside = ContextVar("aside", default=False)  # whether what is composed are not the project's own settings
_CONF, _PARAMS, _IGNORE = Path("conf"), Path("params.yaml"), Path(".dvcignore")
_DATA, _IMPORT, _SAMPLE = Path("data"), Path("data.dvc"), Path("sample/photos")
# DVC stops at these instead of passing over them, so they are named in .dvcignore; the faces stage counts them.
_UNHASHABLE = ("broken_link", "not_a_file", "bad_name", "unreadable")


@dataclass(frozen=True)
class Registered:
    """What was found in a batch: photos by person, of strangers, without a label; and files that are no photos."""

    batch: str
    people: Counter[str]
    strangers: int
    unlabelled: int
    problems: Counter[str]


def compose(overrides: Sequence[str] = (), path: Path = _PARAMS) -> None:
    """Write params.yaml, or another `path`, from conf/, as `dvc exp run` would, once it is known to fit.

    overrides: Hydra's, such as `base_model=efficientnet_lite0`.

    Raises: ConfigError.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from castline import schema

    check_in_project()
    aside = _aside.set(path != _PARAMS)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "params.yaml")
        try:
            compose_and_dump(made, str(_CONF.absolute()), None, "config", str(Path.cwd()), list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            cause: BaseException | None = error
            while cause is not None:  # a word of ours on the way through Hydra
                if isinstance(cause, CastlineError):
                    raise cause from error
                cause = cause.__cause__ or cause.__context__
            raise ConfigError(f"conf/ cannot be composed: {error}", "look into conf/config.yaml") from error
        finally:
            _aside.reset(aside)
        schema.check(made)
        shutil.copyfile(made, path)


def settle_forgotten(register: "Register") -> None:
    """Write into params.yaml what the register says; other settings stay, those composed with overrides, too."""
    from omegaconf import OmegaConf

    values = OmegaConf.load(_PARAMS)
    OmegaConf.update(values, "forgotten", asdict(register.settings(_batches())), merge=False)
    _PARAMS.write_text(OmegaConf.to_yaml(values), encoding="utf-8")


def use_batch(photos: Path, batch: str | None) -> Registered:
    """Make the folder `photos` the project's only batch, in place of those it has. None: named like the folder.

    Raises: ConfigError, DataError; the project then is as it was.
    """
    return _register(photos, batch, keep=[])


def add_batch(photos: Path, batch: str) -> Registered:
    """Make the folder `photos` one more batch of the project, the newest.

    Raises: ConfigError, DataError; the project then is as it was.
    """
    check_in_project()
    return _register(photos, batch, keep=_batches())


def check_data() -> list[Registered]:
    """Look through all batches and list in .dvcignore what DVC cannot hash.

    Raises: DataError when they cannot be used as they are.
    """
    check_in_project()
    batches = _batches()
    missing = [batch for batch in batches if not (_DATA / batch).is_dir()]
    if missing:
        raise DataError(f"data/{missing[0]}: no such batch", f"castline data add PATH --batch {missing[0]}")
    check_batches(_DATA / batch for batch in batches)
    found = []
    for batch in batches:
        entries = walk(_DATA / batch)
        _pass_over(batch, _DATA / batch, entries)
        found.append(_registered(batch, entries))
    return found


def batches_to_read(batches: Sequence[str], mode: str, start: str) -> list[str]:
    """Those of `batches` that an experiment reads: all, or if it is incremental, what `start` has not seen.

    Raises: ConfigError when there is no such version, or nothing that it has not seen.
    """
    if mode != "incremental":
        return list(batches)
    if start in ("pretrained", "scratch"):
        raise ConfigError(
            "incremental training goes on from a released version",
            "-S training.start=recognizer@v1.0.0; `castline versions` lists them",
        )
    from castline import released

    seen = released.batches_of(start)
    read = [batch for batch in batches if batch not in seen]
    if not read:
        raise ConfigError(
            f"{start} has seen all batches there are: {', '.join(seen)}", "castline data add PATH --batch NAME"
        )
    return read


def prune(read: Sequence[str], *kinds: str) -> None:
    """Take from these folders of build/ the tables of batches that are not read there, or stages would depend on what
    happens to lie in them.

    DVC's cache has them, and a run that reads those batches again gets them from it. Nothing is taken when settings are
    composed that are not the project's.
    """
    if _aside.get():
        return
    project = root()
    for kind in kinds:
        for table in (project / "build" / kind).glob("*.parquet"):
            if table.name.removesuffix(".parquet").removesuffix(".rejects") not in read:
                table.unlink()


def root() -> Path:
    """The project's folder: the present one or the nearest above it. DVC composes from wherever it is called."""
    return next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / _CONF / "config.yaml").is_file())


def _register(photos: Path, batch: str | None, keep: list[str]) -> Registered:
    check_in_project()
    if not photos.is_dir():
        raise DataError(f"{photos}: no such folder", "name a folder that holds a folder of photos for each person")
    batch = check_name(batch if batch is not None else photos.resolve().name)
    if batch in keep:
        raise ConfigError(f"there is a batch {batch!r} already", "choose another name: new photos are a new batch")
    link = _DATA / batch
    in_place = link.is_dir() and not link.is_symlink() and photos.resolve() == link.resolve()
    if in_place and _imported():
        raise DataError(f"{link} is part of the sample, which data.dvc imports", "name a folder of your own")
    if link.exists() and not (in_place or link.is_symlink() or _imported()):
        raise DataError(f"{link}: there is a folder of that name already", "choose another name with --batch")
    check_batches([*(_DATA / name for name in keep), photos])
    entries = walk(photos)

    if _imported():
        _leave_sample(keep)
    if not in_place:
        _link(photos.resolve(), link)
    _pass_over(batch, photos, entries)
    _write_batches([*keep, batch])
    return _registered(batch, entries)


def _registered(batch: str, entries: Sequence[Entry]) -> Registered:
    labels = [label_of(entry.name) for entry in entries if not entry.problem]
    return Registered(
        batch,
        Counter(label.person for label in labels if label and not label.stranger),
        sum(label is not None and label.stranger for label in labels),
        labels.count(None),
        Counter(entry.problem for entry in entries if entry.problem),
    )


def check_in_project() -> None:
    """Raises: ConfigError when the working folder is no project."""
    if not (_CONF / "config.yaml").is_file():
        raise ConfigError(f"{Path.cwd()}: no Castline project here (no conf/config.yaml)", "cd into your clone")


def _batches() -> list[str]:
    from castline.files import params

    return params.read("data", DataSettings, _CONF / "data.yaml").batches


def _write_batches(batches: Sequence[str]) -> None:
    lines = "".join(f"    - {batch}\n" for batch in batches)
    (_CONF / "data.yaml").write_text(
        "# The batches under data/, oldest first. `castline data use` and `castline data add` write this file.\n"
        f"data:\n  batches:\n{lines}"
    )
    compose()


def _imported() -> bool:
    """Whether data/ is what data.dvc imported, and so DVC's to write."""
    return _IMPORT.is_file()


def _leave_sample(keep: Sequence[str]) -> None:
    """Give data/ back: what data.dvc put there goes, and batches that stay become links to the sample itself.

    Raises: DataError when there is something in data/ that data.dvc did not put there.
    """
    ours = {path.relative_to(_SAMPLE) for path in _SAMPLE.rglob("*")}
    extra = [path for path in _DATA.rglob("*") if path.relative_to(_DATA) not in ours] if _DATA.is_dir() else []
    if extra:
        raise DataError(
            f"{extra[0]}: data/ is a copy of the sample, made by data.dvc, and this is not in the sample",
            "move it out of data/ and name the folder that it then lies in",
        )
    _IMPORT.unlink()
    ignore = Path(".gitignore")
    if ignore.is_file():
        lines = ignore.read_text().splitlines(keepends=True)
        ignore.write_text("".join(line for line in lines if line.strip() != "/data"))
    if _DATA.is_dir():
        shutil.rmtree(_DATA)
    for batch in keep:
        _link(Path(os.path.relpath(_SAMPLE / batch, _DATA)), _DATA / batch)


def _link(target: Path, link: Path) -> None:
    link.parent.mkdir(exist_ok=True)
    if link.is_symlink():
        link.unlink()
    link.symlink_to(target, target_is_directory=True)


def _pass_over(batch: str, folder: Path, entries: Sequence[Entry]) -> None:
    """Name in .dvcignore what DVC cannot hash: one broken link would stop every DVC command."""
    ours = f"/data/{batch}/"
    before = _IGNORE.read_text().splitlines() if _IGNORE.is_file() else []
    lines = [line for line in before if not line.startswith(ours)]
    for entry in entries:
        if entry.problem in _UNHASHABLE:
            name = entry.path.relative_to(folder).as_posix()
            # As in .gitignore: a backslash takes a character literally, ? stands for any, also a byte that is no text.
            lines.append(ours + "".join(_literal(character) for character in name))
    if lines != before:
        _IGNORE.write_text("".join(f"{line}\n" for line in lines))


def _literal(character: str) -> str:
    if character == "\n" or "\udc80" <= character <= "\udcff":
        return "?"
    return f"\\{character}" if character in "\\*?[]!# " else character

"""Trouble planted into good photos, and how much of it curation finds: wrong labels, duplicates, ruined faces.

    python benchmarks/planted.py PHOTOS                  # a folder of photos for each person; it is not changed
    python benchmarks/planted.py PHOTOS --share 0.1      # of the photos, for each kind of trouble; 0.05 by default
    python benchmarks/planted.py PHOTOS --share 0        # nothing planted: what the defaults leave out as it is
    python benchmarks/planted.py PHOTOS --work DIR       # keep the project, and go on from it

Photos are copied, some copies are changed, and the stages up to `dataset` run on them in a project of their own. Prints
tables and appends to a CSV beside this file, with machine, versions and command. What is found without having been
planted counts against precision, though collections as they are hold trouble of their own; `--flagged FILE` lists it.
"""

import argparse
import csv
import hashlib
import random
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from pipeline import make_project, run
from record import command_line, record

ROOT = Path(__file__).parents[1]
BATCH = "planted"
COPIES = ("file", "recompressed", "cropped", "mirrored", "mirrored and cropped")
RUINS = ("blurred", "dark", "bright", "tiny", "covered")
POOR = ("too ", "turned away")  # how the reasons of the quality gate begin; "too few" is none of them


@dataclass(frozen=True)
class Planted:
    """One photo that was tampered with. kind: wrong label, duplicate or ruined. photo: where it lies now.

    how: what was done. original: of a duplicate, the photo that it is a copy of.
    """

    kind: str
    photo: str
    how: str
    original: str = ""


@dataclass
class Found:
    """What one detector of trouble found. by: planted and found of these, by what was done. wrongly: not planted."""

    planted: int = 0
    found: int = 0
    flagged: int = 0
    by: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    wrongly: list[tuple[str, str]] = field(default_factory=list)

    @property
    def recall(self) -> float:
        return self.found / self.planted if self.planted else float("nan")

    @property
    def precision(self) -> float:
        return self.found / self.flagged if self.flagged else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--share", type=float, default=0.05, help="of the photos, for each kind of trouble")
    parser.add_argument("--seed", type=int, default=0, help="which photos are chosen, and what is done to them")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="Hydra overrides")
    parser.add_argument("--flagged", type=Path, help="write what was found without having been planted to this CSV")
    parser.add_argument("--work", type=Path, help="the project's folder; a temporary one if left out")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "planted.csv", help="rows are appended")
    options = parser.parse_args()
    command = command_line(options.photos)
    with tempfile.TemporaryDirectory() as temporary:
        project = options.work or Path(temporary, "project")
        photos = project.with_name(f"{project.name}-photos")
        if photos.exists():
            shutil.rmtree(photos)
        planted = plant(options.photos, photos, options.share, options.seed)
        if not project.exists():
            make_project(project)
            run(project, "castline", "data", "use", str(photos), "--batch", BATCH)
        run(project, "castline", "compose", *options.set)
        run(project, "dvc", "repro", "dataset")
        rows = pq.read_table(project / "build" / "dataset.parquet").to_pylist()
        rejects = pq.read_table(project / "build" / "faces" / f"{BATCH}.rejects.parquet").to_pylist()
    print(f"$ {command}\n")
    measured: list[tuple[str, str, str, object]] = [("faces", "all", "count", len(rows))]
    measured += left_out(rows, rejects)
    if planted:
        found = {"wrong labels": wrong_labels(planted, rows), "duplicates": duplicates(planted, rows)}
        found["ruined faces"] = ruined(planted, rows, rejects)
        measured += show(found)
        if options.flagged:
            with options.flagged.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows((name, *one) for name, each in found.items() for one in each.wrongly)
    record(options.csv, command, measured)


def plant(photos: Path, target: Path, share: float, seed: int) -> list[Planted]:
    """Copy `photos` to `target`, of each kind of trouble with as many planted as `share` of the photos."""
    shutil.copytree(photos, target, ignore=shutil.ignore_patterns("*.csv"))
    dice = random.Random(seed)  # noqa: S311 - chance, not secrecy
    people = sorted(path.name for path in target.iterdir() if path.is_dir() and path.name != "_strangers")
    every = sorted(path.relative_to(target).as_posix() for person in people for path in target.glob(f"{person}/*.*"))
    dice.shuffle(every)
    count = round(share * len(every))
    wrong, copied, ruined = every[:count], every[count : 2 * count], every[2 * count : 3 * count]
    planted = []
    for number, photo in enumerate(wrong):
        person, name = photo.split("/")
        other = dice.choice([somebody for somebody in people if somebody != person])
        moved = f"{other}/{_unlike(name, number)}"
        shutil.move(target / photo, target / moved)
        planted.append(Planted("wrong label", moved, f"is {person}"))
    for number, photo in enumerate(copied):
        person, name = photo.split("/")
        others = [somebody for somebody in people if somebody != person]
        owner, whose = (person, "same name") if number // len(COPIES) % 2 else (dice.choice(others), "another name")
        how, copy = COPIES[number % len(COPIES)], f"{owner}/{_unlike(name, number)}"
        if how == "file":
            shutil.copy(target / photo, target / copy)
        else:
            _saved(_copied(_opened(target / photo), how, dice), target / copy, dice.randint(60, 90))
        planted.append(Planted("duplicate", copy, f"{how}, {whose}", photo))
    for number, photo in enumerate(ruined):
        how = RUINS[number % len(RUINS)]
        _saved(_ruined(_opened(target / photo), how), target / photo, 90)
        planted.append(Planted("ruined", photo, how))
    return planted


def _unlike(name: str, number: int) -> str:
    """A name that no photo of the folder has, in no place of the order that would tell it apart."""
    return f"{Path(name).stem}_{hashlib.sha256(f'{number}{name}'.encode()).hexdigest()[:6]}.jpg"


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _saved(image: Image.Image, path: Path, quality: int) -> None:
    image.save(path, "JPEG", quality=quality)


def _copied(image: Image.Image, how: str, dice: random.Random) -> Image.Image:
    if "mirrored" in how:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if "cropped" in how:  # up to a tenth off each side
        width, height = image.size
        left, top, right, bottom = (dice.uniform(0.02, 0.1) for _ in range(4))
        image = image.crop((int(left * width), int(top * height), int((1 - right) * width), int((1 - bottom) * height)))
    if how == "recompressed":
        scale = dice.uniform(0.6, 0.9)
        image = image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.BICUBIC)
    return image


def _ruined(image: Image.Image, how: str) -> Image.Image:
    width, height = image.size
    if how == "blurred":
        return image.filter(ImageFilter.GaussianBlur(max(width, height) / 30))
    if how == "dark":
        return ImageEnhance.Brightness(image).enhance(0.08)
    if how == "bright":
        return image.point(lambda value: min(255, 215 + value // 4))
    if how == "tiny":
        return image.resize((max(16, round(28 * width / height)), 28), Image.Resampling.BOX)
    changed = image.copy()  # covered from the eyes up, as by a hat or a hand
    ImageDraw.Draw(changed).rectangle((0, 0, width, round(0.55 * height)), fill=(96, 88, 80))
    return changed


def wrong_labels(planted: list[Planted], rows: list[dict[str, Any]]) -> Found:
    """Photos moved or copied under another name, against faces that are left out as somebody else's."""
    wrong = {one.photo: one for one in planted if one.kind == "wrong label" or one.how.endswith("another name")}
    flagged = {row["photo"]: row["reason"] for row in rows if row["reason"].startswith("may be somebody else")}
    return _found(wrong, flagged, lambda one: "moved" if one.kind == "wrong label" else "copied")


def duplicates(planted: list[Planted], rows: list[dict[str, Any]]) -> Found:
    """Copies, against photos beyond the first of each group; a copy is found when its original is in its group.

    A copy in which no face is found is none: it is not in the dataset.
    """
    groups = {row["photo"]: row["group"] for row in rows}
    photos_of = Counter(groups.values())
    found = Found(flagged=sum(count - 1 for count in photos_of.values()))
    for one in planted:
        if one.kind == "duplicate" and one.photo in groups and one.original in groups:
            together = groups[one.photo] == groups[one.original]
            found.planted, found.found = found.planted + 1, found.found + together
            found.by[one.how][0] += 1
            found.by[one.how][1] += together
    tampered = {photo for one in planted if one.kind == "duplicate" for photo in (one.photo, one.original)}
    for group, count in photos_of.items():
        alike = [photo for photo in groups if groups[photo] == group]
        if count > 1 and len(set(alike) - tampered) > 0:
            found.wrongly.append(("; ".join(alike), group[:12]))
    return found


def ruined(planted: list[Planted], rows: list[dict[str, Any]], rejects: list[dict[str, Any]]) -> Found:
    """Ruined photos, against faces that are too poor and photos without a face."""
    bad = {one.photo: one for one in planted if one.kind == "ruined"}
    flagged = {row["photo"]: row["reason"] for row in rows if is_poor(row["reason"])}
    flagged |= {row["photo"]: row["reason"] for row in rejects}
    return _found(bad, flagged, lambda one: one.how)


def is_poor(reason: str) -> bool:
    return reason.startswith(POOR) and not reason.startswith("too few")


def _found(planted: dict[str, Planted], flagged: dict[str, str], how: Callable[[Planted], str]) -> Found:
    found = Found(len(planted), len(planted.keys() & flagged.keys()), len(flagged))
    for photo, one in planted.items():
        found.by[how(one)][0] += 1
        found.by[how(one)][1] += photo in flagged
    found.wrongly = [(photo, reason) for photo, reason in flagged.items() if photo not in planted]
    return found


def left_out(rows: list[dict[str, Any]], rejects: list[dict[str, Any]]) -> list[tuple[str, str, str, object]]:
    reasons = Counter(row["reason"].split(":")[0] for row in rows if row["reason"])
    reasons.update(f"rejected: {row['reason']}" for row in rejects)
    reasons["kept in doubt"] = sum(bool(row["doubt"]) for row in rows)
    grouped = Counter(row["group"] for row in rows if row["kept"])
    reasons["kept, beyond the first of a group"] = sum(count - 1 for count in grouped.values())
    print(f"{len(rows)} faces, {sum(row['kept'] for row in rows)} kept")
    for reason, count in reasons.most_common():
        print(f"{count:>6}  {reason}")
    return [("fate", reason, "count", count) for reason, count in reasons.most_common()]


def show(found: dict[str, Found]) -> list[tuple[str, str, str, object]]:
    rows: list[tuple[str, str, str, object]] = []
    print(f"\n{'':<28}{'planted':>8}{'found':>7}{'recall':>8}{'flagged':>9}{'precision':>11}")
    for name, one in found.items():
        print(f"{name:<28}{one.planted:>8}{one.found:>7}{one.recall:>8.3f}{one.flagged:>9}{one.precision:>11.3f}")
        measures = ("planted", "found", "recall", "flagged", "precision")
        rows += [("detector", name, measure, round(getattr(one, measure), 4)) for measure in measures]
        for how, (planted, got) in sorted(one.by.items()):
            print(f"  {how:<26}{planted:>8}{got:>7}{got / planted:>8.3f}")
            rows.append((name, how, "recall", round(got / planted, 4)))
    return rows


if __name__ == "__main__":
    main()

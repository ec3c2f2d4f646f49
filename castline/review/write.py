"""`castline review`: the pages and files of a review, written beside each other."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from castline.review.cases import Person, read_people
from castline.review.sheet import render_sheet
from castline.review.tasks import LABEL_CONFIG, empty_decisions, label_studio_tasks

__all__ = ["PAGE", "write_review"]

PAGE = "review.html"


def write_review(build: Path, batches: Sequence[str], folder: Path, root: Path, limit: int) -> int:
    """Write review.html, review.json, tasks.json and label_config.xml into `folder`; how many faces are in them.

    build: of the project. root: the folder that Label Studio serves. limit: faces on the page, the least similar first.

    Raises: DataError, ConfigError.
    """
    people = read_people(build, batches)
    cases = [case for person in people for case in person.cases]
    shown = _first(people, limit)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "tasks.json": json.dumps(label_studio_tasks(cases, root), indent=1, ensure_ascii=False) + "\n",
        "label_config.xml": LABEL_CONFIG,
        "review.json": empty_decisions(cases),
        PAGE: render_sheet(shown, len(cases) - sum(len(person.cases) for person in shown)),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return len(cases)


def _first(people: Sequence[Person], limit: int) -> list[Person]:
    """The `limit` least similar cases, of whomever."""

    def order(place: tuple[int, int]) -> tuple[float, int, int]:
        score = people[place[0]].cases[place[1]].score
        return (1.0 if score is None else score, *place)

    places = sorted(((p, c) for p, person in enumerate(people) for c in range(len(person.cases))), key=order)
    chosen = set(places[:limit])
    cut = [
        replace(person, cases=[case for c, case in enumerate(person.cases) if (p, c) in chosen])
        for p, person in enumerate(people)
    ]
    return [person for person in cut if person.cases]

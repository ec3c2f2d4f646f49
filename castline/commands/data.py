"""`castline data`: which folders of photos the project learns from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from castline.commands.say import say_next

if TYPE_CHECKING:
    from castline.project import Registered

__all__ = ["data"]

data = typer.Typer(help="Which folders of photos the project learns from.", no_args_is_help=True)

Batch = Annotated[str | None, typer.Option(help="Name of the batch; by default the folder's.")]


@data.command("use")
def data_use(
    path: Annotated[Path, typer.Argument(help="A folder of photos, best with a folder for each person.")],
    batch: Batch = None,
) -> None:
    """Point the project at your own photos, in place of those it has. They stay where they are.

    People who have to stay unknown lie in PATH/_strangers/PERSON/. Photos in no person's folder can be labelled later.

    Example: castline data use ~/photos/cast --batch autumn
    """
    from castline import project

    found = project.use_batch(path, batch)
    _show(found)
    _say_next(found, "then: git add -A && git commit, to keep this state")


@data.command("add")
def data_add(
    path: Annotated[Path, typer.Argument(help="A folder of photos, best with a folder for each person.")],
    batch: Annotated[str, typer.Option(help="Name of the new batch.")],
) -> None:
    """Add a delivery of photos as a new batch. What was computed for the others stays as it is.

    Example: castline data add ~/photos/new --batch winter
    """
    from castline import project

    found = project.add_batch(path, batch)
    _show(found)
    _say_next(found, "it reads the new photos only, then trains on all")


@data.command("check")
def data_check() -> None:
    """Look through the batches for what cannot be used, and list in .dvcignore what DVC would stop at.

    Example: castline data check
    """
    from castline import project

    for found in project.check_data():
        _show(found)


def _say_next(found: "Registered", then: str) -> None:
    if found.unlabelled and not found.people:
        say_next("castline label start", f"elsewhere: castline label push --batch {found.batch}", "docs/labelling.md")
    else:
        say_next("dvc repro", then)


def _show(found: "Registered") -> None:
    photos = found.people.total()
    print(f"{found.batch}: {photos} photos of {len(found.people)} people", end="")
    print(f", {found.strangers} of strangers" if found.strangers else "", end="")
    print(f", {found.unlabelled} in no person's folder" if found.unlabelled else "")
    for problem, count in sorted(found.problems.items()):
        print(f"  not photos: {count} × {problem.replace('_', ' ')}")

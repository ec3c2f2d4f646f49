"""The `castline` command. Every command imports what it needs when it runs: `castline --help` has to be quick."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from castline.errors import CastlineError, exits_cleanly

if TYPE_CHECKING:
    from castline.project import Registered
    from castline.runtime import Person

__all__ = ["app", "main"]

app = typer.Typer(
    help="From photos of a cast of people to a small, versioned model that names them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data = typer.Typer(help="Which folders of photos the project learns from.", no_args_is_help=True)
app.add_typer(data, name="data")

Batch = Annotated[str | None, typer.Option(help="Name of the batch; by default the folder's.")]


@data.command("use")
def data_use(
    path: Annotated[Path, typer.Argument(help="A folder that holds a folder of photos for each person.")],
    batch: Batch = None,
) -> None:
    """Point the project at your own photos, in place of those it has. They stay where they are.

    People who have to stay unknown lie in PATH/_strangers/PERSON/.

    Example: castline data use ~/photos/cast --batch autumn
    """
    from castline import project

    _show(project.use_batch(path, batch))
    _next("dvc repro", "then: git add -A && git commit, to keep this state")


@data.command("add")
def data_add(
    path: Annotated[Path, typer.Argument(help="A folder that holds a folder of photos for each person.")],
    batch: Annotated[str, typer.Option(help="Name of the new batch.")],
) -> None:
    """Add a delivery of photos as a new batch. What was computed for the others stays as it is.

    Example: castline data add ~/photos/new --batch winter
    """
    from castline import project

    _show(project.add_batch(path, batch))
    _next("dvc repro", "it reads the new photos only, then trains on all")


@data.command("check")
def data_check() -> None:
    """Look through the batches for what cannot be used, and list in .dvcignore what DVC would stop at.

    Example: castline data check
    """
    from castline import project

    for found in project.check_data():
        _show(found)


@app.command()
def compose(
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides, such as base_model=NAME.")] = None,
) -> None:
    """Write params.yaml from conf/, checked.

    Example: castline compose base_model=efficientnet_lite0 training.lr=0.003
    """
    from castline import project

    project.compose(overrides or [])
    _next("dvc repro")


@app.command()
def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the base models: what each wants, what its licence allows, and whether its weights are here.

    Example: castline models
    """
    from castline import registry

    print(registry.as_json() if as_json else registry.as_table())


@app.command()
def identify(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photos.")],
    bundle: Annotated[Path, typer.Option(help="The released model.")] = Path("models/recognizer"),
    file: Annotated[str, typer.Option(help="Which of its files: float32, float16 or int8.")] = "float32",
    tiles: Annotated[
        int | None, typer.Option(help="Look again in so many tiles a side: 4 finds the small faces of group photos.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write each photo with names drawn on it into this folder.")] = None,
) -> None:
    """Name the people in photos.

    Example: castline identify sample/scenes/*.jpg --out named
    """
    from castline.runtime import Recognizer
    from castline.runtime.draw import draw

    recognizer = Recognizer(bundle, file, tiles=tiles)
    results, failed = [], 0
    for path in images:
        try:
            photo = recognizer.open(path)
            people = recognizer.identify_photo(photo)
        except CastlineError as error:
            failed += 1
            results.append({"image": str(path), "error": str(error)})
            print(f"error: {error}", file=sys.stderr)
            continue
        result: dict[str, Any] = {"image": str(path), "people": [_described(person) for person in people]}
        if out is not None:
            target = _free_name(out, path)
            draw(photo.image, people, photo.scale).save(target, quality=92)
            result["drawn"] = str(target)
        results.append(result)
        if not as_json:
            _print_people(path, people, result.get("drawn"))
    if as_json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    if failed:
        raise typer.Exit(1)


def _described(person: "Person") -> dict[str, Any]:
    return {
        "name": person.name,
        "confidence": round(person.confidence, 4),
        "box": [round(edge, 1) for edge in person.box],
        "landmarks": [[round(float(x), 1), round(float(y), 1)] for x, y in person.landmarks],
    }


def _print_people(path: Path, people: "list[Person]", drawn: str | None) -> None:
    from castline.runtime.draw import printable

    print(f"{printable(str(path), 200)}:{'' if people else ' no face'}{f' → {drawn}' if drawn else ''}")
    for person in people:
        x1, y1, x2, y2 = (round(edge) for edge in person.box)
        print(f"  {printable(person.name):<24} {person.confidence:>4.0%}   at {x1},{y1} to {x2},{y2}")


def _free_name(folder: Path, source: Path) -> Path:
    """A name in `folder` for the drawn photo that nothing has yet: nothing is ever overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1_000_000):
        target = folder / f"{source.stem}{'' if number == 1 else f'-{number}'}.named.jpg"
        if not target.exists():
            return target
    raise CastlineError(f"{folder}: no free name for {source.name}")


def _show(found: "Registered") -> None:
    photos = found.people.total()
    print(f"{found.batch}: {photos} photos of {len(found.people)} people", end="")
    print(f", {found.strangers} of strangers" if found.strangers else "", end="")
    print(f", {found.unlabelled} in no person's folder" if found.unlabelled else "")
    for problem, count in sorted(found.problems.items()):
        print(f"  not photos: {count} × {problem.replace('_', ' ')}")


def _next(*lines: str) -> None:
    print("next: " + "\n      ".join(lines))


@exits_cleanly
def main() -> None:
    """The entry point: a `CastlineError` becomes a message and exit code 1."""
    app()

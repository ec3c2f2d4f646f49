"""Commands around an experiment: its settings, its faces in doubt, base models, tuning."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from castline.commands.say import AsJson, say_next
from castline.errors import CastlineError

if TYPE_CHECKING:
    from castline.tuning.study import Study, Trial

__all__ = ["compose", "models", "review", "tune", "tuned"]


def compose(
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides, such as base_model=NAME.")] = None,
) -> None:
    """Write params.yaml from conf/, checked.

    Example: castline compose base_model=efficientnet_lite0 training.lr=0.003
    """
    from castline import project

    project.compose(overrides or [])
    say_next("dvc repro")


def review(
    out: Annotated[Path, typer.Option(help="The folder that everything is written into.")] = Path("build/review"),
    root: Annotated[Path, typer.Option(help="The folder of photos that Label Studio serves.")] = Path("data"),
    limit: Annotated[int, typer.Option(min=1, help="So many faces on the page, the least fitting ones.")] = 500,
) -> None:
    """Show the faces that are left out because of how they look, or kept in doubt, to decide about them.

    Writes a page to look at, a file to write decisions into, and tasks for Label Studio.

    Example: castline review
    """
    from castline.files import params
    from castline.photos.batches import DataSettings
    from castline.review.write import PAGE, write_review

    count = write_review(Path("build"), params.read("data", DataSettings).read, out, root, limit)
    print(f"{count} faces to look at: {out / PAGE}")
    if count:
        say_next(f"cp {out / 'review.json'} labels/review.json, fill in decisions", "dvc repro")


def models(as_json: AsJson = False) -> None:
    """List the base models: what each wants, what its licence allows, and whether its weights are here.

    Example: castline models
    """
    from castline import registry

    print(registry.as_json() if as_json else registry.as_table())


def tune(
    trials: Annotated[int, typer.Option(min=1, help="How many in all, earlier ones of the same study counted.")],
    search: Annotated[Path, typer.Option(help="The search-space file.")] = Path("search/head.yaml"),
    name: Annotated[str | None, typer.Option(help="Of the study; by default the file's.")] = None,
    timeout: Annotated[float | None, typer.Option(metavar="MIN", help="Begin no trial after so many minutes.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look for better settings: each trial is a DVC experiment, judged by the validation faces.

    Run again, it goes on. It starts from the last commit and leaves the project's files as they are.

    Example: castline tune --trials 20
    """
    tuned(name or search.stem, search, trials, as_json, lambda study: study.run(trials, timeout))


def tuned(name: str, search: Path, trials: int, as_json: bool, run: "Callable[[Study], Iterator[Trial]]") -> None:
    """A study from its opening to its table. run: tries, and yields each trial as it ends."""
    import signal

    from castline.tuning import show
    from castline.tuning.study import opened

    for ended in (signal.SIGTERM, signal.SIGHUP):  # as on Ctrl-C: the trial is ended and noted
        signal.signal(ended, signal.default_int_handler)
    with opened(name, search) as study:
        interrupted = False
        try:
            for trial in run(study):
                print(show.line(study, trial), file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            interrupted = True
        print(show.as_json(study) if as_json else show.table(study, trials))
        if interrupted:
            raise typer.Exit(130)
        if study.best is None:
            raise CastlineError("no trial came to a value", f"look into .castline/tune/{study.name}-*.log")

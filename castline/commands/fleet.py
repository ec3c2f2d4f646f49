"""`castline fleet`: stages and trials on other machines, or later on this one."""

from pathlib import Path
from typing import Annotated

import typer

from castline.commands.say import AsJson, say_next
from castline.errors import CastlineError

__all__ = ["fleet"]

fleet = typer.Typer(
    help="Run the pipeline, or a search, on a fleet of machines; or later on this one.", no_args_is_help=True
)

Orchestrator = Annotated[list[str] | None, typer.Argument(help="Hydra overrides, such as orchestrator=clearml.")]
Settings = Annotated[
    list[str] | None, typer.Option("-S", "--set-param", help="Of the experiment, as `dvc exp run` has it.")
]


@fleet.command("run")
def fleet_run(
    orchestrator: Orchestrator = None,
    settings: Settings = None,
    name: Annotated[str | None, typer.Option(help="Of the experiment; by default fleet-0001 and so on.")] = None,
) -> None:
    """Run the last commit, with other settings if given, as a DVC experiment; nothing of yours changes meanwhile.

    Example: castline fleet run orchestrator=clearml -S head.dropout=0.3
    """
    import signal

    from castline.fleet import run

    for ended in (signal.SIGTERM, signal.SIGHUP):  # as on Ctrl-C: what was sent is stopped
        signal.signal(ended, signal.default_int_handler)
    made = run.run(orchestrator or [], settings or [], name)
    if made is None:
        print("Everything is up to date: nothing was sent.")
    else:
        print("\n".join(made))
        say_next(f"dvc exp apply {made[0].split()[0]}", "dvc exp show --md --only-changed")


@fleet.command("tune")
def fleet_tune(
    trials: Annotated[int, typer.Option(min=1, help="How many in all, earlier ones of the same study counted.")],
    orchestrator: Orchestrator = None,
    search: Annotated[Path, typer.Option(help="The search-space file.")] = Path("search/head.yaml"),
    name: Annotated[str | None, typer.Option(help="Of the study; by default the file's.")] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Trials at once, where the orchestrator can do that.")] = 1,
    timeout: Annotated[float | None, typer.Option(metavar="MIN", help="Begin no trial after so many minutes.")] = None,
    as_json: AsJson = False,
) -> None:
    """`castline tune`, each trial a task of the fleet: the same study, judged the same way.

    Example: castline fleet tune orchestrator=clearml --trials 20 --parallel 4
    """
    from castline.commands.experiments import tuned
    from castline.fleet.tune import trials_of

    tuned(name or search.stem, search, trials, as_json, trials_of(orchestrator or [], trials, parallel, timeout))


@fleet.command("status")
def fleet_status(
    orchestrator: Orchestrator = None,
    name: Annotated[str, typer.Option(help="Of the run; by default the newest.")] = "",
    as_json: AsJson = False,
) -> None:
    """What the newest run's tasks are doing.

    Example: castline fleet status orchestrator=clearml
    """
    import json

    from castline.fleet import run

    rows = run.status(orchestrator or [], name)
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        widths = [max((len(row[key]) for row in rows), default=0) for key in ("name", "status")]
        for row in rows:
            print(f"{row['name']:<{widths[0]}}  {row['status']:<{widths[1]}}  {row['detail']}".rstrip())


@fleet.command("task", hidden=True)
def fleet_task(
    rev: Annotated[str, typer.Option(help="The commit.")],
    out: Annotated[Path, typer.Option(help="Where what came of it is written to, as JSON.")],
    stage: Annotated[
        str | None, typer.Option(help="As `dvc stage list` has it; by default the whole pipeline.")
    ] = None,
    settings: Settings = None,
    inputs: Annotated[list[Path] | None, typer.Option("--input", help="What came of a task before it.")] = None,
) -> None:
    """Do what a task does, by hand: check out, run, push, and write what belongs into dvc.lock.

    Example: castline fleet task --stage train --rev HEAD -S head.dropout=0.3 --out train.json
    """
    from castline.fleet.fragment import Fragment
    from castline.fleet.stage import Job, perform

    try:
        before = [Fragment.from_json(path.read_bytes()) for path in inputs or []]
        done = perform(Job(stage, rev, tuple(settings or [])), before)
        out.write_text(done.fragment.to_json(), encoding="utf-8")
    except OSError as error:
        raise CastlineError(f"{error.filename}: {error.strerror}") from error

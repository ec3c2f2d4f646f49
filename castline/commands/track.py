"""Commands about MLflow: deliver, look, and what is still to be delivered."""

from pathlib import Path
from typing import Annotated

import typer

from castline.commands.say import say_next
from castline.errors import CastlineError

__all__ = ["track"]

track = typer.Typer(help="Tell MLflow of runs and versions (tracking=mlflow).", no_args_is_help=True)


@track.command()
def sync(
    uri: Annotated[str, typer.Option(help="Deliver there, wherever it was to go: http://HOST:PORT.")] = "",
) -> None:
    """Deliver what could not be delivered: runs, and versions and stages as git has them.

    Run it as often as you like: what MLflow has is not sent again.

    Example: castline track sync
    """
    from castline.project import check_in_project
    from castline.tracking.deliver import deliver
    from castline.tracking.mirror import mirror
    from castline.tracking.settings import check_uri, chosen

    check_in_project()
    check_uri(uri, "--uri")
    done = deliver(Path.cwd(), uri)
    for page in done.runs:
        print(page)
    if done.problem:
        raise CastlineError(done.line(), "castline track sync, once it is there")
    settings = chosen()
    if settings.kind == "none":
        print("no versions are registered: tracking=none")
        return
    changes = mirror(settings, uri)
    print("\n".join(changes) if changes else "versions: as git has them")


@track.command()
def status() -> None:
    """Say where runs go, whether it answers, and what is still to be delivered.

    Example: castline track status
    """
    from castline.project import check_in_project
    from castline.tracking.deliver import records
    from castline.tracking.settings import chosen
    from castline.tracking.store import Away, probe, target

    check_in_project()
    settings = chosen()
    if settings.kind == "none":
        print("tracking=none: nothing is told to anybody")
    else:
        where = target(settings)
        try:
            probe(where, min(settings.timeout, 3.0))
            print(f"{where}, experiment {settings.experiment}")
        except Away as error:
            print(error.what)
    found = records(Path.cwd())
    waiting = [record for record in found if record.over]
    size = sum(path.stat().st_size for record in waiting for path in record.folder.rglob("*") if path.is_file())
    running = len(found) - len(waiting)
    print(f"{len(waiting)} to deliver, {size / 1e6:.1f} MB" + (f"; {running} still running" if running else ""))
    if waiting:
        say_next("castline track sync")


@track.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine; nobody else can reach it.")] = 5055,
) -> None:
    """Show runs and versions in a browser: MLflow's own server, installed on first use.

    Example: castline track ui
    """
    import signal

    from castline.project import check_in_project
    from castline.tracking.server import start

    check_in_project()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start(port)

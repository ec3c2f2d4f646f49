"""The `castline` command: what castline/commands/ holds, under one name."""

import typer

from castline.commands.app import app as serve_app
from castline.commands.collect import collect
from castline.commands.data import data
from castline.commands.edge import edge
from castline.commands.experiments import compose, models, review, tune
from castline.commands.fleet import fleet
from castline.commands.forget import forget
from castline.commands.identify import identify
from castline.commands.label import label
from castline.commands.lambda_function import lambda_function
from castline.commands.sagemaker import sagemaker
from castline.commands.share import share
from castline.commands.track import track
from castline.commands.versions import compare, promote, release, rollback, versions
from castline.errors import exits_cleanly

__all__ = ["app", "main"]

app = typer.Typer(
    help="From photos of a cast of people to a small, versioned model that names them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for name, group in {
    "collect": collect,
    "data": data,
    "edge": edge,
    "fleet": fleet,
    "label": label,
    "lambda": lambda_function,
    "sagemaker": sagemaker,
    "share": share,
    "track": track,
}.items():
    app.add_typer(group, name=name)
for command in (compose, review, models, tune, identify, release, promote, rollback, versions, compare, forget):
    app.command()(command)
app.command("app")(serve_app)


@exits_cleanly
def main() -> None:
    """The entry point: a `CastlineError` becomes a message and exit code 1."""
    app()

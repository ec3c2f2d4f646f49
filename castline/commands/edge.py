"""`castline edge`: the program that devices run, and bringing it to them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from castline.commands.say import say_next
from castline.errors import ConfigError

__all__ = ["edge"]

edge = typer.Typer(help="The program on devices: run it here, or bring it to them.", no_args_is_help=True)


@edge.command("run")
def run_edge(
    config: Annotated[Path, typer.Option(help="JSON, with the keys of the component's configuration.")],
    work: Annotated[Path, typer.Option(help="A folder for what waits to be sent, and state.")] = Path("edge-work"),
    once: Annotated[bool, typer.Option("--once", help="End when the source has been read.")] = False,
    install: Annotated[Path | None, typer.Option(help="A release, a zip, to bring into StorePath first.")] = None,
) -> None:
    """Run the program of a device on this machine; results go to standard output, or to the broker in Mqtt.

    Example: castline edge run --config edge.json
    """
    from castline.edge.__main__ import run

    raise typer.Exit(run(config, work, once, install))


@edge.command("publish")
def publish_edge(
    group: Annotated[str, typer.Option(help="The thing group of the devices: its name or ARN.")],
    bucket: Annotated[str, typer.Option(help="Of S3, for the artifacts: BUCKET or BUCKET/PREFIX.")],
    region: Annotated[str | None, typer.Option(help="By default that of the AWS configuration.")] = None,
    configuration: Annotated[Path | None, typer.Option(help="JSON: settings that these devices are to have.")] = None,
    version: Annotated[str, typer.Option(help="Deploy this one, published before: the way back.")] = "",
    per_minute: Annotated[int, typer.Option(help="Devices a minute to begin with; it doubles as they succeed.")] = 10,
    abort_percent: Annotated[float, typer.Option(help="Begin no more when so many failed.")] = 20.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look, and print what would be sent.")] = False,
    package: Annotated[Path, typer.Option(help="What the package stage made.")] = Path("build/edge"),
) -> None:
    """Bring what `dvc repro package` made to devices: artifacts to S3, a component version, a deployment.

    Whatever else is deployed to the group stays. A device that refuses the release goes back to what it had.

    Example: castline edge publish --group cameras --bucket our-artifacts --dry-run
    """
    from castline.edge.publish import Rollout, connect, open_package, publish

    rollout = Rollout(per_minute, abort_percent)
    publish(open_package(package), connect(region), bucket, group, rollout, _settings(configuration), version, dry_run)
    say_next("the same without --dry-run" if dry_run else "docs/edge.md says how to watch it, and how to go back")


def _settings(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no JSON that can be read ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: no JSON object", 'such as {"Source": "camera:/dev/video0"}')
    return values

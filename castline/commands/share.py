"""`castline share`: work shared between clones."""

from typing import Annotated

import typer

from castline.commands.say import say_next
from castline.errors import CastlineError

__all__ = ["share"]

share = typer.Typer(help="Work shared between clones, beyond what `dvc push` and `dvc pull` do.", no_args_is_help=True)


@share.command("check")
def share_check(
    everything: Annotated[bool, typer.Option("--all", help="All of the cache, not only the present state.")] = False,
) -> None:
    """Read the cached objects again, and move damaged ones aside: DVC itself does not notice them.

    Example: castline share check
    """
    from castline import sharing

    found = sharing.check(everything)
    print(f"{found.whole} objects are whole, {len(found.missing)} are not here")
    for oid, aside in found.damaged.items():
        print(f"damaged: {oid}, moved to {aside}")
    for path in found.removed:
        print(f"removed: {path}, which was a link to it or a copy")
    if found.damaged:
        raise CastlineError(f"{len(found.damaged)} objects were damaged", "dvc pull; if no remote has them: dvc repro")
    if found.missing:
        say_next("dvc pull")


@share.command("push")
def share_push(
    remote: Annotated[str | None, typer.Option(help="Which remote; by default DVC's default.")] = None,
) -> None:
    """Upload every run of this clone's run-cache with all it wrote, so that no other clone runs it again.

    Example: castline share push && dvc push
    """
    from castline import sharing

    print(f"{sharing.push(remote)} objects pushed")
    say_next("dvc push", "elsewhere: dvc pull --run-cache && dvc repro --pull")

"""Commands about released versions."""

import json
from typing import Annotated

import typer

from castline.commands.say import AsJson, say_next
from castline.errors import ConfigError

__all__ = ["compare", "promote", "release", "rollback", "versions"]


def release(
    part: Annotated[str, typer.Argument(metavar="patch|minor|major", help="Which part of the number is raised.")],
    message: Annotated[str, typer.Option(help="What is new in it; kept in the tag.")] = "",
    names: Annotated[bool, typer.Option("--names", help="List in the model card whom the model names.")] = False,
) -> None:
    """Make a version of the committed model: a model card, a commit, a tag recognizer@vX.Y.Z.

    Example: castline release minor --message "Ten more people"
    """
    from castline.versions.release import CARD, release

    made = release(part, message, names)
    print(f"{made.tag}: {made.commit[:7]}, {CARD}")
    _tell()
    say_next("git push --follow-tags && dvc push", f"castline promote {made.name} prod")


def promote(
    version: Annotated[str, typer.Argument(metavar="vX.Y.Z")],
    stage: Annotated[str, typer.Argument(help="Such as dev, staging, prod: any name will do.")],
) -> None:
    """Put a version into a stage, by a tag recognizer#STAGE#N.

    Example: castline promote v1.2.0 prod
    """
    from castline.versions.git import check_root
    from castline.versions.tags import promote

    check_root()
    held = promote(version, stage)
    if held == version:
        print(f"{version} is in {stage} already")
        return
    print(f"{stage}: {f'{held} → ' if held else ''}{version}")
    _tell()
    say_next("git push --tags")


def rollback(
    stage: Annotated[str, typer.Option(help="The stage whose version was a mistake.")] = "prod",
) -> None:
    """Put back the version that was in a stage before the one that is. No tag is removed.

    Example: castline rollback --stage prod
    """
    from castline.versions.git import check_root
    from castline.versions.tags import rollback

    check_root()
    left, back = rollback(stage)
    print(f"{stage}: {left} → {back}")
    _tell()
    say_next("git push --tags")


def versions(
    as_json: AsJson = False,
    check: Annotated[bool, typer.Option("--check", help="Say where MLflow differs from git's tags, instead.")] = False,
) -> None:
    """List the versions, newest first: stages, metrics, data, base model.

    Example: castline versions
    """
    if check:
        _check(as_json)
        return
    from castline.versions.git import check_root
    from castline.versions.listing import describe, print_versions
    from castline.versions.tags import read_registry

    check_root()
    found = describe(read_registry())
    if as_json:
        print(json.dumps(found, indent=2))
    elif found:
        print(print_versions(found))
    else:
        print("no version yet")
        say_next("castline release minor")


def compare(
    one: Annotated[str, typer.Argument(metavar="vA", help="A version, or `workspace`.")],
    other: Annotated[str, typer.Argument(metavar="vB", help="A version, or `workspace`.")],
    as_json: AsJson = False,
) -> None:
    """Show two versions side by side: what was measured, and which settings, photos and people differ.

    Example: castline compare v1.0.0 workspace
    """
    from castline.versions.git import check_root
    from castline.versions.listing import compare, print_comparison
    from castline.versions.tags import read_registry

    check_root()
    found = compare(read_registry(), one, other)
    print(json.dumps(found, indent=2, default=str) if as_json else print_comparison(found))


def _tell() -> None:
    """MLflow follows git's tags, if it is chosen."""
    from castline.tracking.settings import chosen

    if chosen().kind != "none":
        from castline.tracking.mirror import tell

        tell()


def _check(as_json: bool) -> None:
    from castline.tracking.mirror import check
    from castline.tracking.settings import chosen
    from castline.versions.git import check_root

    check_root()
    settings = chosen()
    if settings.kind == "none":
        raise ConfigError("no versions are registered anywhere but in git: tracking=none", "docs/tracking.md")
    found = check(settings)
    print(
        json.dumps(found, indent=2)
        if as_json
        else "\n".join(found) or "MLflow has the versions and stages that git has"
    )
    if found:
        if not as_json:
            say_next("castline track sync")
        raise typer.Exit(1)

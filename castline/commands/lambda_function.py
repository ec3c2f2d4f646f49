"""`castline lambda`: pictures and deliveries that arrive in S3, answered by a function there."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from castline.commands.say import say_next
from castline.errors import CastlineError
from castline.text import short, table

__all__ = ["lambda_function"]

lambda_function = typer.Typer(
    help="AWS Lambda: name who is in pictures that arrive in S3, queue deliveries.", no_args_is_help=True
)

BucketName = Annotated[str, typer.Option("--bucket", help="Of S3, in this account and region.")]
Region = Annotated[str | None, typer.Option(help="By default that of the AWS configuration.")]
Name = Annotated[str, typer.Option(help="Of the function, and of what belongs to it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only look, and print what would be sent.")]
Built = Path("build/lambda")


@lambda_function.command("build")
def build(
    image: Annotated[bool, typer.Option("--image", help="A folder to make a container image of.")] = False,
    architecture: Annotated[str, typer.Option(help="x86_64 or arm64.")] = "x86_64",
    package: Annotated[Path, typer.Option(help="What the package stage made.")] = Path("build/edge"),
    folder: Annotated[Path, typer.Option(help="Where it goes.")] = Built,
) -> None:
    """Make what the function runs: its code, the release of `dvc repro package`, and Python packages.

    Example: castline lambda build --architecture arm64
    """
    from castline.cloud.lambda_build import Target, build_image, build_zip

    target = Target(architecture)
    if image:
        made = build_image(package, folder, target)
        platform = "linux/arm64" if architecture == "arm64" else "linux/amd64"
        print(f"{made}: a folder for docker")
        say_next(
            f"docker build --platform {platform} --provenance=false -t REPOSITORY:TAG {quote(str(made))}",
            "docker push REPOSITORY:TAG, in ECR",
            "castline lambda publish --image REPOSITORY:TAG --bucket BUCKET",
        )
        return
    made = build_zip(package, folder, target)
    print(f"{made}: {made.stat().st_size / 1e6:.1f} MB")
    say_next(f"castline lambda publish --zip {quote(str(made))} --bucket BUCKET --dry-run")


@lambda_function.command("publish")
def publish(
    bucket: BucketName,
    zip: Annotated[Path | None, typer.Option(help="That `castline lambda build` made.")] = None,
    image: Annotated[str, typer.Option(help="In ECR, instead of a zip: REPOSITORY:TAG or @DIGEST.")] = "",
    architecture: Annotated[str, typer.Option(help="Of the image.")] = "x86_64",
    name: Name = "castline-recognizer",
    region: Region = None,
    memory: Annotated[int, typer.Option(help="MB; processors come with it.")] = 2048,
    timeout: Annotated[int, typer.Option(help="Seconds for ten pictures.")] = 120,
    concurrency: Annotated[int, typer.Option(help="Calls at once, at most.")] = 5,
    dry_run: DryRun = False,
) -> None:
    """Make the function, its role and its queues, or bring them up to date; S3 then tells it of what arrives.

    Example: castline lambda publish --zip build/lambda/castline-lambda-1.2.0-x86_64.zip --bucket our-photos --dry-run
    """
    from castline.cloud.lambda_publish import Code, Settings, connect, open_zip
    from castline.cloud.lambda_publish import publish as send

    if (zip is None) == (not image):
        raise CastlineError("one of --zip and --image says what the function runs", "castline lambda build")
    code = open_zip(zip) if zip else Code(image.rpartition(":")[2], architecture, image=image)
    send(code, connect(region), bucket, Settings(name, memory, timeout, concurrency), dry_run)
    say_next(
        "the same without --dry-run"
        if dry_run
        else f"aws s3 cp photo.jpg s3://{bucket}/inbox/; its result is s3://{bucket}/results/photo.jpg.json"
    )


@lambda_function.command("remove")
def remove(
    bucket: BucketName, name: Name = "castline-recognizer", region: Region = None, dry_run: DryRun = False
) -> None:
    """Take away what `publish` made, and nothing else. What is in the bucket stays.

    Example: castline lambda remove --bucket our-photos --dry-run
    """
    from castline.cloud.lambda_publish import Settings, connect
    from castline.cloud.lambda_publish import remove as take_away

    take_away(connect(region), bucket, Settings(name), dry_run)


@lambda_function.command("requests")
def requests(
    bucket: BucketName,
    region: Region = None,
    photos: Annotated[int, typer.Option(help="A delivery is complete when so many have come,")] = 500,
    minutes: Annotated[float, typer.Option(help="or none for so many minutes.")] = 15.0,
    take: Annotated[
        Path | None, typer.Option(help="Bring those that are complete into this folder, and print what to type then.")
    ] = None,
) -> None:
    """Deliveries that wait to be learned from. Nothing is trained by this.

    Example: castline lambda requests --bucket our-photos --take ~/deliveries
    """
    from castline.cloud.lambda_publish import connect
    from castline.cloud.lambda_requests import Debounce, waiting
    from castline.cloud.lambda_requests import take as bring

    debounce = Debounce(photos, minutes)
    ours = connect(region).bucket(bucket)
    found = waiting(ours)
    if not found:
        print(f"s3://{bucket}: no delivery waits")
        return
    if take is None:
        rows = [
            (one.batch, str(len(one.ids)), f"{one.latest:%Y-%m-%d %H:%M} UTC",
             "complete" if one.is_complete(debounce) else "more may come")
            for one in found
        ]  # fmt: skip
        print(table([("delivery", "photos", "last", ""), *rows], right={1}))
        say_next(f"castline lambda requests --bucket {bucket} --take FOLDER")
        return
    commands = []
    for one in found:
        if not one.is_complete(debounce):
            print(f"{short(one.batch)}: {len(one.ids)} photos, more may come")
            continue
        brought = bring(ours, one, take, lambda batch: Path("data", batch).exists())
        print(f"{short(brought.batch)}: {brought.photos} photos in {brought.folder}")
        for key, reason in brought.left:
            print(f"  left out: {key}: {reason}")
        if brought.photos:
            commands.append(f"castline data add {quote(str(brought.folder))} --batch {quote(brought.batch)}")
    if commands:
        say_next(*commands, "dvc exp run", "docs/incremental.md says how to learn from the new photos only")


@lambda_function.command("forget")
def forget(
    person: Annotated[str, typer.Argument(help="The name as results have it.")],
    bucket: BucketName,
    region: Region = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="Their pictures in the inbox, too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only shown.")] = False,
) -> None:
    """Remove the results in which any face was taken for a person, known or unknown.

    Example: castline lambda forget "Anna Berg" --bucket our-photos --pictures --yes
    """
    from castline.cloud.lambda_publish import connect
    from castline.cloud.lambda_results import naming
    from castline.cloud.lambda_results import remove as take_away

    ours = connect(region).bucket(bucket)
    count = 0
    for result, picture in naming(ours, person):
        # The result last: should this be stopped, it still says where the picture is.
        for key in (picture, result) if pictures and picture else (result,):
            if yes:
                take_away(ours, key)
            print(f"{'removed' if yes else 'would be removed'}: {short(key, 200)}")
        count += 1
    print(f"{count} results")
    say_next("castline forget: the model and what it learned from" if yes else "the same with --yes")

"""`castline sagemaker`: training on a machine of AWS's."""

import json
from dataclasses import replace
from typing import Annotated, Any

import typer

from castline.commands.say import say_next

__all__ = ["sagemaker"]

sagemaker = typer.Typer(help="Train on a machine of AWS SageMaker's, and take the model back.", no_args_is_help=True)

Region = Annotated[str, typer.Option(help="By default that of conf/sagemaker.yaml, or of the AWS configuration.")]


@sagemaker.command("train")
def train_there(
    overrides: Annotated[
        list[str] | None, typer.Option("-S", "--set", help="A Hydra override, such as training=last_block.")
    ] = None,
    instance_type: Annotated[str, typer.Option(help="Such as ml.m5.xlarge.")] = "",
    count: Annotated[int, typer.Option(help="Of machines: training runs on one.")] = 1,
    spot: Annotated[bool, typer.Option("--spot", help="On spare capacity: cheaper, and may be interrupted.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the request and an estimate; send nothing.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended, and take the model back.")] = False,
    role: Annotated[str, typer.Option(help="The ARN of the role that the job runs as.")] = "",
    image: Annotated[str, typer.Option(help="The container's URI.")] = "",
    region: Region = "",
    price: Annotated[float | None, typer.Option(min=0, help="Dollars an hour, for the estimate.")] = None,
    max_hours: Annotated[float | None, typer.Option(help="Stop it after so long.")] = None,
    remote: Annotated[str | None, typer.Option(help="The DVC remote, in S3; by default DVC's default.")] = None,
) -> None:
    """Send the training stages, as the last commit has them, to SageMaker.

    It reads faces and features from the DVC remote, no photos. What is not said here is in conf/sagemaker.yaml.

    Example: castline sagemaker train -S training=last_block --instance-type ml.c5.2xlarge --spot --dry-run
    """
    from castline.cloud.sagemaker_fetch import fetch
    from castline.cloud.sagemaker_plan import plan
    from castline.cloud.sagemaker_send import send
    from castline.cloud.sagemaker_send import wait as wait_for
    from castline.cloud.sagemaker_settings import PATH, SageMakerSettings, estimate
    from castline.files import params

    settings = params.read("sagemaker", SageMakerSettings, PATH)
    given: dict[str, Any] = {
        "instance_type": instance_type,
        "role": role,
        "image": image,
        "region": region,
        "max_hours": max_hours,
    }
    settings = replace(settings, **{name: value for name, value in given.items() if value not in ("", None)})
    job = plan(overrides or [])
    expected = estimate(job.work, settings, price, spot)
    print(f"{', '.join(job.stages)}: {len(job.objects)} objects to read, on {settings.instance_type}")
    print("\n".join(expected.lines()))
    if expected.seconds > settings.max_hours * 3600:
        print(f"warning: it may be stopped after {settings.max_hours:g} hours: --max-hours")
    answer = send(job, settings, remote, count, spot, dry_run)
    if dry_run:
        print(json.dumps(answer["request"], indent=2))
        say_next("the same without --dry-run")
        return
    print(f"sent: {answer['job']}")
    fetch_it = f"castline sagemaker fetch {answer['job']}"
    if not wait:
        say_next(fetch_it)
        return
    print(f"if this is interrupted: {fetch_it}")
    _taken(fetch(wait_for(answer["job"], settings.region).model, settings.region))


@sagemaker.command("fetch")
def fetch_back(
    job: Annotated[str, typer.Argument(help="Its name, as `train` has said it.")],
    region: Region = "",
) -> None:
    """Wait until a job has ended, and take what it trained into DVC, as if it had been trained here.

    Example: castline sagemaker fetch castline-0a1b2c3-20261122200236
    """
    from castline.cloud.sagemaker_fetch import fetch
    from castline.cloud.sagemaker_send import wait
    from castline.cloud.sagemaker_settings import PATH, SageMakerSettings
    from castline.files import params

    region = region or params.read("sagemaker", SageMakerSettings, PATH).region
    ended = wait(job, region)
    if ended.seconds:
        print(f"{ended.seconds} s are paid for")
    _taken(fetch(ended.model, region))


def _taken(stages: list[str]) -> None:
    print(f"trained there, and here now: {', '.join(stages)}")
    say_next("dvc repro", "git commit -a; dvc push")

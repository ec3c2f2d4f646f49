"""`castline label`: Label Studio started, filled and emptied."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from castline.commands.label_backend import backend, connect
from castline.commands.say import say_next

if TYPE_CHECKING:
    from castline.label_studio.client import Client
    from castline.label_studio.push import Found
    from castline.runtime import Name

__all__ = ["label"]

label = typer.Typer(help="Label photos in Label Studio, alone or as a team.", no_args_is_help=True)
for command in (backend, connect):
    label.command()(command)
Batch = Annotated[str, typer.Option(help="Which batch.")]
Url = Annotated[str | None, typer.Option(help="A server of your team's; by default the project's own, which must run.")]
TokenEnv = Annotated[str, typer.Option(help="With --url: the environment's variable that holds your token there.")]
Root = Annotated[
    Path, typer.Option(help="With --url: the server's document root for local files, which has this path there too.")
]
_TOKEN = "CASTLINE_LABEL_TOKEN"  # noqa: S105 (a variable's name)


@label.command()
def start(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it listens.")] = 8090,
    host: Annotated[
        str, typer.Option(help="The address it listens on: 0.0.0.0 lets other machines in, unencrypted.")
    ] = "127.0.0.1",
    allow_backend: Annotated[
        bool,
        typer.Option(
            "--allow-backend",
            help="Let it ask a model on this machine (castline label backend), "
            "which its protection against requests into the network forbids.",
        ),
    ] = False,
) -> None:
    """Run this project's Label Studio until Ctrl-C. Installed on first use, into an environment of its own.

    Example: castline label start --port 8090
    """
    import signal

    from castline.label_studio import server

    for ended in (signal.SIGTERM, signal.SIGHUP):  # as on Ctrl-C: the server ends too
        if signal.getsignal(ended) is not signal.SIG_IGN:  # as under nohup
            signal.signal(ended, signal.default_int_handler)
    server.start(port, host, allow_backend)


@label.command()
def push(
    batch: Batch,
    url: Url = None,
    token_env: TokenEnv = _TOKEN,
    root: Root = Path(),
    overlap: Annotated[
        int | None, typer.Option(min=1, help="How many people label each photo; by default as it was, at first 1.")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option("--pick", help="Only photos whose labels help most: uncertain, diverse, unknown or random."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="With --pick: how many photos.")] = 100,
    disagreements: Annotated[
        bool, typer.Option("--disagreements", help="Instead: have photos labelled once more whose labels disagree.")
    ] = False,
) -> None:
    """Bring a batch into Label Studio: a task a photo, with the faces boxed and, where a model can, named.

    Doing it again adds what is new, and never takes away or overwrites what people said.

    Example: castline label push --batch first --overlap 2
    """
    from castline.label_studio.client import connect
    from castline.label_studio.projects import MODEL
    from castline.label_studio.push import Place, ask_again, faces_of
    from castline.label_studio.push import push as pushed
    from castline.text import shown

    client = connect(url, token_env)
    if disagreements:
        print(f"{batch}: {ask_again(client, batch)} photos wait for one more labeller")
        say_next(f"castline label pull --batch {batch}", "once they are labelled")
        return
    found = faces_of(batch)
    only, named = _picked(client, rule, count, batch, found) if rule else (None, None)
    if only == []:
        print(f"{batch}: nothing to pick: each photo is labelled, pushed already, a copy of such a one, or has no face")
        return
    done = pushed(client, batch, Place(root if url else None), overlap, only, named, found)
    tasks = done.filled
    print(f"{batch}: {tasks.new} new tasks, {tasks.changed} changed, {tasks.kept} kept", end="")
    print(f"; {done.copies} photos are copies of others" if done.copies else "", end="")
    print("".join(f"; {number} × {reason.replace('_', ' ')}" for reason, number in sorted(found.unusable.items())))
    words = {"folder": "named by their folder", "model": "by the model", "nobody": "left to name"}
    print("faces: " + ", ".join(f"{done.labels[word]} {text}" for word, text in words.items()))
    if tasks.shows not in ("", MODEL):
        print(f"labellers see the predictions of {shown(tasks.shows)!r}, not these: the project's settings say which")
    print(f"label at {done.project.url}")
    say_next(f"castline label pull --batch {batch}", "whenever you like: it takes what is there")


@label.command()
def pull(
    batch: Batch,
    url: Url = None,
    token_env: TokenEnv = _TOKEN,
    clusters: Annotated[
        bool, typer.Option("--clusters", help="What was said of clusters, into labels/clusters/BATCH.json.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Even if labels/ loses answers that it has.")] = False,
) -> None:
    """Fetch what people said into labels/batches/BATCH.json, which the pipeline reads.

    Example: castline label pull --batch first
    """
    from castline.label_studio.client import connect
    from castline.label_studio.pull import pull as pulled

    done = pulled(connect(url, token_env), batch, force=force, clusters=clusters)
    states = ("labelled", "skipped", "begun", "not yet")
    print(
        f"{done.path}: {'sheets' if clusters else 'photos'}: "
        + ", ".join(f"{done.states[state]} {state}" for state in states)
    )
    for who, said in done.labellers.items():
        print(f"  {who}: {said['labelled']} labelled, {said['skipped']} skipped")
    say_next("dvc repro", f"then: git add {done.path} && git commit")


@label.command()
def clusters(
    batch: Batch,
    url: Url = None,
    token_env: TokenEnv = _TOKEN,
    root: Root = Path(),
    overlap: Annotated[
        int | None, typer.Option(min=1, help="How many people name each cluster; by default as it was, at first 1.")
    ] = None,
    min_faces: Annotated[int, typer.Option(min=2, help="Smaller clusters are left out.")] = 3,
) -> None:
    """Bring faces that nobody has named into Label Studio, those that are alike on one sheet: naming one names many.

    Example: castline label clusters --batch first
    """
    from castline.label_studio.client import connect
    from castline.label_studio.push import Place, push_clusters

    done = push_clusters(connect(url, token_env), batch, Place(root if url else None), overlap, min_faces)
    print(f"{batch}: {done.sheets} sheets with {done.faces} faces, {done.filled.new} of them new")
    if not done.sheets:
        print(f"of those that nobody has named, no {min_faces} are alike")
        return
    print(f"name them at {done.project.url}")
    say_next(f"castline label pull --batch {batch} --clusters", "whenever you like, and before the next clusters")


def _picked(
    client: "Client", rule: str, count: int, batch: str, found: "Found"
) -> "tuple[list[str], list[Name] | None]":
    """The photos to label next, and what the model says of each row of the face table, if there is one."""
    from castline.curation.settings import CurationSettings
    from castline.files import params
    from castline.label_studio.naming import names
    from castline.label_studio.pick import pick
    from castline.label_studio.projects import find
    from castline.label_studio.push import BUNDLE, find_faces, labelled
    from castline.photos.batches import DataSettings

    batches = params.read("data", DataSettings).read
    find_faces(batches, "embeddings")
    project = find(client, batch)
    tasks = client.pages("/api/tasks", project=project.id, resolve_uri="false") if project else ()
    done = {task["data"].get("sha256") for task in tasks} | labelled(batches)
    named = names(found.faces, BUNDLE) if (BUNDLE / "bundle.json").is_file() else None
    return pick(rule, count, batch, batches, done, named, settings=params.read("curation", CurationSettings)), named

"""`castline label backend` and `connect`: the project's model names faces in Label Studio."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from castline.commands.say import say_next
from castline.errors import ConfigError

__all__ = ["backend", "connect"]

_PASSWORD = "CASTLINE_BACKEND_PASSWORD"  # noqa: S105 (the name of a variable)


def backend(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where it listens; 0 takes a free one.")] = 9090,
    host: Annotated[
        str, typer.Option(help="The address it listens on: 0.0.0.0 lets other machines in, unencrypted.")
    ] = "127.0.0.1",
    bundle: Annotated[Path, typer.Option(help="The released model.")] = Path("models/recognizer"),
    root: Annotated[Path, typer.Option(help="The project: of its folder, the batches in data/ are read.")] = Path(),
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another name than localhost by which Label Studio asks for it."),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help=f"Want this user's password, which {_PASSWORD} holds, from Label Studio.")
    ] = None,
) -> None:
    """Run the model as a backend of Label Studio, until Ctrl-C: it finds and names the faces of tasks.

    Label Studio asks it only if it runs with castline label start --allow-backend.

    Example: castline label backend --port 9090
    """
    from castline import machine
    from castline.label_studio.backend import Backend, is_loopback, serve
    from castline.label_studio.naming import model_version
    from castline.label_studio.prelabels import Prelabeller
    from castline.runtime import Recognizer
    from castline.sharing import cache_of

    login = _login(user)
    # Loaded before it listens: Label Studio waits a second for an answer.
    version, cache = model_version(bundle), cache_of(root)
    prelabeller = Prelabeller(Recognizer(bundle, threads=machine.threads()), version, root, [cache])
    server = Backend(prelabeller, host, port, allow_host or (), login)
    print(f"{version} answers at {server.url}")
    if not is_loopback(host):
        print("it can be reached from other machines, unencrypted: docs/labelling_backend.md says what follows")
    if not is_loopback(host) and login is None:
        print(f"and by anybody: --user NAME and {_PASSWORD} shut the others out")
    say_next("castline label start --allow-backend", f"castline label connect --batch NAME --backend {server.url}")
    sys.stdout.flush()
    serve(server)


def connect(
    batch: Annotated[str, typer.Option(help="The batch whose project on Label Studio it is.")],
    backend: Annotated[str, typer.Option(help="Where castline label backend answers.")] = "http://127.0.0.1:9090",
    url: Annotated[str | None, typer.Option(help="A team's Label Studio; by default this project's own.")] = None,
    user: Annotated[
        str | None, typer.Option(help=f"Whom the backend wants the password of, which {_PASSWORD} holds.")
    ] = None,
) -> None:
    """Let Label Studio ask the backend about each photo that a labeller opens. Safe to repeat.

    Example: castline label connect --batch first
    """
    from castline.label_studio import client, projects
    from castline.label_studio.attach import attach

    login, server = _login(user), client.connect(url)
    project = projects.find(server, batch)
    if project is None:
        raise ConfigError(f"{server.url} has no project for {batch}", f"castline label push --batch {batch}")
    print(f"{project.title} asks {backend}: {attach(server, project, backend, login)}")
    say_next(f"label at {project.url}")


def _login(user: str | None) -> tuple[str, str] | None:
    """Raises: ConfigError when one half is missing, or cannot be sent."""
    password = os.environ.get(_PASSWORD, "")
    if user is None and not password:
        return None
    if not (user and password and f"{user}{password}".isascii() and ":" not in user):
        raise ConfigError(
            f"--user NAME and {_PASSWORD} belong together, in ASCII and the name without a colon",
            f"{_PASSWORD}=… castline label backend --user castline",
        )
    return user, password

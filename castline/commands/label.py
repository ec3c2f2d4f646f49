"""`castline label`: Label Studio started, filled and emptied."""

from typing import Annotated

import typer

__all__ = ["label"]

label = typer.Typer(help="Label photos in Label Studio, alone or as a team.", no_args_is_help=True)


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
            help="Let it ask a model on this machine or network (castline label backend), "
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
        signal.signal(ended, signal.default_int_handler)
    server.start(port, host, allow_backend)

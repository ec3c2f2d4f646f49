"""`castline app`: a page to try the model on."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]


def app(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it listens.")] = 8501,
    host: Annotated[
        str,
        typer.Option(
            help="The address it listens on. 0.0.0.0 lets other machines in, without a password and unencrypted."
        ),
    ] = "127.0.0.1",
    version: Annotated[str, typer.Option(help="A released version to begin with, such as v1.2.0.")] = "",
    bundle: Annotated[Path, typer.Option(help="The working model.")] = Path("models/recognizer"),
    picture_mb: Annotated[float, typer.Option(help="The largest picture.")] = 25.0,
    video_mb: Annotated[float, typer.Option(help="The largest video.")] = 200.0,
    video_minutes: Annotated[float, typer.Option(help="The longest video.")] = 15.0,
    processes: Annotated[int, typer.Option(help="That look at pictures and videos.")] = 2,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve a page to try the model on, until Ctrl-C.

    Example: castline app --port 8501 --open
    """
    from castline.app.limits import Limits
    from castline.app.serve import serve
    from castline.app.settings import AppSettings

    limits = Limits(picture_mb=picture_mb, video_mb=video_mb, video_minutes=video_minutes, processes=processes)
    print(f"http://{f'[{host}]' if ':' in host else host}:{port}    Ctrl-C ends it", flush=True)
    serve(AppSettings(str(bundle), version, limits), host, port, open_browser)

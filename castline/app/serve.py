"""Streamlit started on the app's script, closed against everything that the app does not need."""

import os
import socket
import sys
from pathlib import Path

from castline.app.settings import AppSettings
from castline.errors import ConfigError, optional_import

__all__ = ["command", "serve"]

_SCRIPT = Path(__file__).with_name("script") / "main.py"


def serve(settings: AppSettings, host: str, port: int, open_browser: bool) -> None:
    """Become the app's server; this returns only if it cannot.

    Raises: MissingExtra without Streamlit; ConfigError when the port is taken.
    """
    optional_import("streamlit", "app")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"{host}:{port}: {error.strerror}", "castline app --port 8502") from error
    words = command(settings, host, port, open_browser)
    os.execv(words[0], words)  # noqa: S606 (a list of words, and no shell, is what is meant)


def command(settings: AppSettings, host: str, port: int, open_browser: bool) -> list[str]:
    """What is run, as words. The options outrank a .streamlit/config.toml that lies about."""
    options = {
        "browser.gatherUsageStats": "false",
        "browser.serverAddress": host,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "global.developmentMode": "false",
        "runner.magicEnabled": "false",
        "server.address": host,
        "server.enableAgentApi": "false",
        "server.enableCORS": "true",
        "server.enableStaticServing": "false",
        "server.enableXsrfProtection": "true",
        "server.fileWatcherType": "none",
        "server.headless": "false" if open_browser else "true",
        "server.maxUploadSize": str(int(max(settings.limits.picture_mb, settings.limits.video_mb))),
        "server.port": str(port),
        "server.showEmailPrompt": "false",
        # Streamlit's own text, made fainter for captions, is too faint to read (WCAG 2, contrast of 4.5 to 1).
        "theme.dark.primaryColor": "#56b4e9",
        "theme.light.primaryColor": "#0072b2",
        "theme.light.textColor": "#0b0d10",
    }
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    return [sys.executable, "-m", "streamlit", "run", str(_SCRIPT), *flags, "--", settings.as_argument()]

"""How the app is started: what it is told, and what it is closed against."""

import builtins
import socket
import sys
from typing import Any

import pytest

from castline.app.limits import Limits
from castline.app.serve import command, serve
from castline.app.settings import AppSettings
from castline.errors import CastlineError, ConfigError, MissingExtra


def test_what_it_is_told_arrives() -> None:
    settings = AppSettings("a folder/with 'quotes'", "v1.2.0", Limits(video_minutes=0.5))
    words = command(settings, "127.0.0.1", 8501, open_browser=False)
    assert AppSettings.of_arguments(words[words.index("--") + 1 :]) == settings
    assert AppSettings.of_arguments([]) == AppSettings()


def test_it_is_closed_whatever_a_file_of_settings_says() -> None:
    words = command(AppSettings(), "127.0.0.1", 8501, open_browser=False)
    options = words[words.index("run") + 2 : words.index("--")]
    flags = dict(zip(options[::2], options[1::2], strict=True))
    assert flags["--server.address"] == "127.0.0.1"
    assert flags["--browser.gatherUsageStats"] == "false"
    assert flags["--server.enableXsrfProtection"] == flags["--server.enableCORS"] == "true"
    assert flags["--server.enableStaticServing"] == "false"
    assert flags["--client.showErrorDetails"] == "none"
    assert words[0] == sys.executable


def test_a_port_that_is_taken_has_words() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match="in use"):
            serve(AppSettings(), "127.0.0.1", other.getsockname()[1], open_browser=False)


def test_without_streamlit_the_way_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    before = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("streamlit"):
            raise ImportError("No module named 'streamlit'")
        return before(name, *arguments, **named)

    for name in [name for name in sys.modules if name.partition(".")[0] == "streamlit"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"castline\[app\]"):
        serve(AppSettings(), "127.0.0.1", 0, open_browser=False)


@pytest.mark.parametrize("limits", [{"picture_mb": 0}, {"video_minutes": -1}, {"processes": 1}])
def test_limits_that_cannot_be_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(CastlineError):
        Limits(**limits)  # type: ignore[arg-type]

"""Who is told of runs. No stage lists this section: choosing a server makes nothing stale and changes no output."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from castline.errors import ConfigError
from castline.files import params

__all__ = ["TrackingSettings", "chosen"]

_NAME = re.compile(r"[^\x00-\x1f\x7f'\"`/:.%&]{1,200}")  # what MLflow takes for a registered model, and its filters


@dataclass(frozen=True)
class TrackingSettings:
    """The `tracking` section of params.yaml.

    kind: none, or mlflow. uri: of MLflow's server, http:// or https://, or of a database, sqlite:///PATH, a relative
    one below the project; "" is what MLFLOW_TRACKING_URI says, else a database below .castline/tracking.
    experiment: MLflow's name for what these runs belong to. model: under which name versions are registered.
    report: whether the report goes along, which has faces and names in it.
    timeout: seconds that a stage waits for a delivery in its end, and that a server has to answer.

    Raises: ConfigError for a value that is not allowed.
    """

    kind: str = "none"
    uri: str = ""
    experiment: str = "castline"
    model: str = "recognizer"
    report: bool = True
    timeout: float = 10.0

    def __post_init__(self) -> None:
        if self.kind not in ("none", "mlflow"):
            raise ConfigError(f"tracking.kind={self.kind}, allowed are none, mlflow")
        check_uri(self.uri, "tracking.uri")
        for key, value in (("experiment", self.experiment), ("model", self.model)):
            if not _NAME.fullmatch(value) or value != value.strip():
                raise ConfigError(
                    f"tracking.{key}={value!r}: no quotes, / : . % & or control characters, and not empty"
                )
        if not 0 < self.timeout <= 600:
            raise ConfigError(f"tracking.timeout={self.timeout:g}, allowed is more than 0, up to 600 seconds")


def check_uri(uri: str, where: str) -> None:
    """Raises: ConfigError for an address that is neither a server's nor an SQLite database's."""
    try:
        parts = urlsplit(uri)
        served = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        served = False
    database = re.fullmatch(r"sqlite:///[^?#\x00]+", uri)
    if "@" in (parts.netloc if served else uri) and not database:
        raise ConfigError(
            f"{where} has a password in it", "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
        )
    if uri and not served and not database:
        raise ConfigError(f"{where}={uri!r}: wanted is http://HOST:PORT, https://HOST or sqlite:///PATH")


def chosen() -> TrackingSettings:
    """What the present params.yaml says; kind none where it has no such section, as those of older versions.

    Raises: ConfigError.
    """
    return params.read("tracking", TrackingSettings) if "tracking" in params.load() else TrackingSettings()

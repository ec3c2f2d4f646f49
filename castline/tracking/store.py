"""MLflow's client, set up so that it neither phones home, nor waits long, nor unpickles."""

import fcntl
import os
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from castline.errors import CastlineError, optional_import
from castline.tracking.settings import TrackingSettings, check_uri

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

__all__ = ["ARTIFACTS", "DATABASE", "HOME", "Away", "Store", "find_run", "opened", "probe", "target"]

HOME = Path(".castline/tracking")
DATABASE, ARTIFACTS = HOME / "mlflow.db", HOME / "artifacts"
_KEY = "castline.run"


class Away(CastlineError):
    """Nothing answers where MLflow should be."""


def target(settings: TrackingSettings) -> str:
    """The address that `settings` come to, in the project's folder.

    Raises: ConfigError when MLFLOW_TRACKING_URI has one that cannot be.
    """
    uri = settings.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    check_uri(uri, "tracking.uri" if settings.uri else "MLFLOW_TRACKING_URI")
    if not uri:
        return f"sqlite:///{DATABASE.absolute()}"
    return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}" if uri.startswith("sqlite:") else uri


class Store:
    """Where runs go: MLflow's client, and an experiment of it."""

    def __init__(self, uri: str, client: "MlflowClient") -> None:
        self.uri, self.client = uri, client

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, made if need be."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            place = None
            if self.uri.startswith("sqlite:"):  # beside the database
                place = (Path(self.uri.removeprefix("sqlite:///")).parent / ARTIFACTS.name).as_uri()
            try:
                return self.client.create_experiment(name, artifact_location=place)
            except MlflowException:  # somebody else was quicker
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise CastlineError(
                f"MLflow's experiment {name!r} is deleted",
                "restore it there, or choose another: tracking.experiment=NAME",
            )
        return found.experiment_id

    def run(self, experiment: str, key: str, name: str, started: int) -> "Run":
        """The run of that key, made if there is none yet. Of two that were made at once, the earlier one is it."""
        if found := find_run(self.client, experiment, _KEY, key):
            return found
        made = self.client.create_run(experiment, start_time=started, tags={_KEY: key}, run_name=name)
        found = find_run(self.client, experiment, _KEY, key) or made
        if found.info.run_id != made.info.run_id:
            self.client.delete_run(made.info.run_id)
        return found

    def page(self, run: "Run") -> str:
        """Where a person can look at a run."""
        if self.uri.startswith("sqlite:"):
            return "castline track ui shows it"
        return f"{self.uri.rstrip('/')}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"


def find_run(client: "MlflowClient", experiment: str, tag: str, value: str) -> "Run | None":
    """The first run of an experiment that has a tag of that value, which must have no quote in it."""
    found = client.search_runs(
        [experiment], f"tags.`{tag}` = '{value}'", max_results=1, order_by=["attributes.start_time ASC", "run_id ASC"]
    )
    return found[0] if found else None


@contextmanager
def opened(settings: TrackingSettings) -> Iterator[Store]:
    """MLflow, where the settings say. To a database, one process at a time.

    Raises: Away when no server is there; CastlineError for what MLflow, its server or its database raise; MissingExtra;
    ConfigError.
    """
    uri = target(settings)
    try:
        yield from _opened(uri, settings.timeout)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("mlflow", "requests", "sqlalchemy"):
            raise
        raise CastlineError(
            f"MLflow at {uri}: {str(error).strip().partition(chr(10))[0][:300] or type(error).__name__}",
            "castline track status; MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, if it asks for them",
        ) from error


def _opened(uri: str, timeout: float) -> Iterator[Store]:
    if uri.startswith("http"):
        probe(uri, min(timeout, 3.0))
        yield Store(uri, _client(uri, timeout))
        return
    database = Path(uri.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{database}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database.exists():
            # Tables are made in many steps; a database that is there has them all, whoever is killed.
            unfinished = Path(f"{database}.part")
            unfinished.unlink(missing_ok=True)
            _client(f"sqlite:///{unfinished}", timeout).search_experiments(max_results=1)
            unfinished.replace(database)
        yield Store(uri, _client(uri, timeout))


def _client(uri: str, timeout: float) -> "MlflowClient":
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "_MLFLOW_TELEMETRY_PRE_WARM_DATABRICKS_SDK": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, round(timeout))),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tracking = optional_import("mlflow.tracking", "mlflow")
    make: Callable[..., MlflowClient] = tracking.MlflowClient
    return make(tracking_uri=uri, registry_uri=uri)


def probe(uri: str, seconds: float) -> None:
    """Raises: Away. MLflow's own client takes seconds to be imported, and longer to say so."""
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        return
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), seconds).close()
    except (OSError, UnicodeError) as error:  # the latter of a name that can be none
        why = getattr(error, "strerror", None) or error
        raise Away(f"{parts.scheme}://{parts.netloc} is away ({why})") from error

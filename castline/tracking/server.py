"""MLflow's server for this project: started and stopped here, on loopback, with nothing phoning home.

.castline/tracking/
    mlflow.db     runs and versions; also without a server, what stages write into
    artifacts/    what belongs to them: reports, models
    server.json   where it runs, while it does
    server.log    what it said since it was started
"""

import fcntl
import json
from pathlib import Path

from castline.environments import clean
from castline.servers import Server, check_free
from castline.tracking.environment import MLFLOW
from castline.tracking.settings import TrackingSettings
from castline.tracking.store import ARTIFACTS, DATABASE, HOME, opened

__all__ = ["start"]

_STATE, _LOG, _LOCK = HOME / "server.json", HOME / "server.log", HOME / "server.lock"
_SERVER = Server("MLflow", _LOG, _STATE)
_HOST = "127.0.0.1"


def start(port: int) -> None:
    """Run the server until it is interrupted; return at once if it runs already. Says on stdout where it is.

    Raises: CastlineError when it cannot be installed, the port is taken, or it does not come up.
    """
    made = MLFLOW.made()
    HOME.mkdir(parents=True, exist_ok=True)
    HOME.chmod(0o700)
    with _LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"MLflow runs already: {_SERVER.url() or 'it is starting'}")
            return
        check_free(_HOST, port, "castline track ui")
        database = f"sqlite:///{DATABASE.absolute()}"
        with opened(TrackingSettings("mlflow", database)):  # makes the tables, alone, if there are none
            pass
        command: list[Path | str] = [made / "bin" / "python", made / "bin" / "mlflow", "server"]
        command += ["--backend-store-uri", database, "--default-artifact-root", ARTIFACTS.absolute().as_uri()]
        # Stages write into the folder themselves, with a server and without.
        command += ["--no-serve-artifacts", "--host", _HOST, "--port", str(port), "--workers", "1"]
        with _SERVER.running(command, _variables(), lock.fileno()) as server:
            _SERVER.wait(server, _HOST, port)
            url = f"http://{_HOST}:{port}"
            _STATE.write_text(json.dumps({"url": url}), encoding="utf-8")
            print(f"MLflow: {url}")
            print("click an experiment, then `Training runs` on the left; on top, choose `Model training`")
            print("Ctrl-C stops it", flush=True)
            _SERVER.outlast(server)


def _variables() -> dict[str, str]:
    """Its environment: no job runner, which is eight processes more, and nobody told that it runs."""
    inner = {name: value for name, value in clean().items() if not name.startswith(("MLFLOW_", "_MLFLOW_"))}
    return inner | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "_MLFLOW_TELEMETRY_PRE_WARM_DATABRICKS_SDK": "false",
    }

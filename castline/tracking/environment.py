"""The environment that MLflow's server runs in."""

from castline.environments import Environment

__all__ = ["MLFLOW", "VERSION"]

VERSION = "3.17.2"
MLFLOW = Environment(f"MLflow {VERSION}", f"mlflow-{VERSION}", (__package__, "requirements.lock"), size=400_000_000)

"""A version as MLflow runs it: pictures in, named people out. MLflow copies this file into the model ("from code")."""

from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class Pictures(PythonModel):
    """A row a picture, its file's bytes in the column `image`; a list of people for each, as `castline identify --json`
    has them: name, known, nearest, confidence, similarity, box, landmarks."""

    def load_context(self, context: Any) -> None:
        from castline.files.bundle import read_bundle
        from castline.runtime import Recognizer

        folder = Path(context.artifacts["bundle"])
        there = [name for name, file in read_bundle(folder).files.items() if (folder / file.file).is_file()]
        self.recognizer = Recognizer(folder, there[0])

    # Without types: MLflow would take them for the signature.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """model_input: a DataFrame."""
        return [[person.described() for person in self.recognizer.identify(image)] for image in model_input["image"]]


set_model(Pictures())

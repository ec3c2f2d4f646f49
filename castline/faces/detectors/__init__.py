"""Face detectors, each in a module of its own that is imported when it is asked for.

blazeface   the default: LiteRT alone, so it runs wherever a released model runs
mtcnn       PyTorch
yunet       OpenCV, its weights are a download
haar        OpenCV 4; the baseline of 2001, boxes only
"""

from pathlib import Path

from castline.errors import ConfigError
from castline.faces.detection import Detector
from castline.faces.settings import DetectorSettings

__all__ = ["NAMES", "build", "detector_file"]

NAMES = ("blazeface", "mtcnn", "yunet", "haar")


def build(settings: DetectorSettings) -> Detector:
    """The detector that `settings` names, its weights checked and loaded.

    Raises: ConfigError for a name that is not in NAMES, MissingExtra, WeightsError.
    """
    match settings.name:
        case "blazeface":
            from castline.faces.detectors.blazeface import BlazeFace

            return BlazeFace(settings)
        case "mtcnn":
            from castline.faces.detectors.mtcnn import Mtcnn

            return Mtcnn(settings)
        case "yunet":
            from castline.faces.detectors.yunet import YuNet

            return YuNet(settings)
        case "haar":
            from castline.faces.detectors.haar import Haar

            return Haar(settings)
    raise _unknown(settings.name)


def detector_file(settings: DetectorSettings) -> Path | None:
    """The weight file, checked, that has to travel with a released model, whose `file` setting then points at it.

    None for mtcnn and haar: the package that runs them carries their weights.

    Raises: ConfigError for a name that is not in NAMES, WeightsError.
    """
    match settings.name:
        case "blazeface":
            from castline.faces.detectors import blazeface

            return blazeface.weights(settings)
        case "yunet":
            from castline.faces.detectors import yunet

            return yunet.weights(settings)
        case "mtcnn" | "haar":
            return None
    raise _unknown(settings.name)


def _unknown(name: str) -> ConfigError:
    return ConfigError(f"detector.name: {name!r} is no detector", f"choose one of {', '.join(NAMES)}")

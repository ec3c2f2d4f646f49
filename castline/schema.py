"""Every section of params.yaml and the dataclass that it has to fit."""

from pathlib import Path
from typing import Any

from castline.curation.settings import CurationSettings, SplitSettings
from castline.edge.recipes import PackageSettings
from castline.embedding.augment_settings import AugmentationSettings
from castline.embedding.base_settings import BaseModelSettings, FeatureSettings, LicenceSettings
from castline.embedding.entries import check_licence
from castline.errors import ConfigError
from castline.evaluation.settings import OpenSetSettings, ReportSettings
from castline.export.settings import ExportSettings
from castline.faces.settings import DetectorSettings
from castline.files import params
from castline.forgetting.register import ForgottenSettings
from castline.labels.settings import LabelsSettings
from castline.photos.batches import DataSettings
from castline.photos.settings import PhotoSettings
from castline.tracking.settings import TrackingSettings
from castline.training.settings import HeadSettings, TrainerSettings, TrainingSettings

__all__ = ["SECTIONS", "check"]

SECTIONS: dict[str, type] = {
    "data": DataSettings,
    "photos": PhotoSettings,
    "detector": DetectorSettings,
    "reference_model": BaseModelSettings,
    "labels": LabelsSettings,
    "curation": CurationSettings,
    "split": SplitSettings,
    "base_model": BaseModelSettings,
    "features": FeatureSettings,
    "augmentation": AugmentationSettings,
    "head": HeadSettings,
    "training": TrainingSettings,
    "trainer": TrainerSettings,
    "open_set": OpenSetSettings,
    "export": ExportSettings,
    "licence": LicenceSettings,
    "package": PackageSettings,
    "report": ReportSettings,
    "forgotten": ForgottenSettings,
    "tracking": TrackingSettings,
}


def check(path: Path) -> None:
    """See that a composed params.yaml has every section, each as its dataclass wants it, and no other.

    Raises: ConfigError.
    """
    if unknown := sorted(params.load(path).keys() - SECTIONS.keys()):
        raise ConfigError(f"conf/: unknown sections {', '.join(unknown)}", f"known are {', '.join(SECTIONS)}")
    read: dict[str, Any] = {section: params.read(section, settings, path) for section, settings in SECTIONS.items()}
    check_licence("reference_model", read["reference_model"], read["licence"])
    if read["training"].start != "scratch":
        check_licence("base_model", read["base_model"], read["licence"])

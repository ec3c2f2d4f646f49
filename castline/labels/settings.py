"""What may be set of labels."""

from dataclasses import dataclass, field

from castline.errors import ConfigError

__all__ = ["RULES", "LabelsSettings"]

RULES = ("majority", "reviewer", "unanimous")
_MEND = "edit conf/labels.yaml, then: castline compose"


@dataclass(frozen=True)
class LabelsSettings:
    """The `labels` section of params.yaml.

    rule: whose word counts where several people labelled a face. majority: the name that more than half of those gave
        who named it. unanimous: the name that everybody gave who finished the photo. reviewer: what a reviewer says
        stands; photos that no reviewer has seen go by `unanimous`.
    reviewers: their numbers in Label Studio. Annotations marked as ground truth are a reviewer's too.
    min_iou: boxes that overlap at least this much, intersection over union, 0 to 1, are of one face. People draw heads
        where a detector draws faces, so it is less than is usual between detectors.
    """

    rule: str = "majority"
    reviewers: list[int] = field(default_factory=list)
    min_iou: float = 0.3

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ConfigError(f"labels.rule is {self.rule!r}: known are {', '.join(RULES)}", _MEND)
        if not 0 < self.min_iou <= 1:
            raise ConfigError(f"labels.min_iou is {self.min_iou:g}: it has to be above 0 and at most 1", _MEND)

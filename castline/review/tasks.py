"""Faces to decide about, for Label Studio, whose export labels/review.json may be; and as a file to write into by hand.

Label Studio serves photos from where they lie: `/data/local-files/?d=PATH`, below its
LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT. Nothing is copied or uploaded.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from castline.curation.decisions import IT_IS, KEEP, LEAVE_OUT
from castline.label_studio.tasks import below, photo_address, rectangle
from castline.review.cases import Case
from castline.text import short

__all__ = ["LABEL_CONFIG", "empty_decisions", "label_studio_tasks"]

LABEL_CONFIG = f"""<View>
  <Header value="$question"/>
  <Image name="image" value="$image" zoom="true" zoomControl="true"/>
  <RectangleLabels name="face" toName="image"><Label value="this face"/></RectangleLabels>
  <Choices name="decision" toName="image" choice="single" required="true">
    <Choice value="{KEEP}"/><Choice value="{LEAVE_OUT}"/><Choice value="{IT_IS}"/>
  </Choices>
  <TextArea name="person" toName="image" maxSubmissions="1" placeholder="who it is, as the folder is called"/>
</View>
"""


def label_studio_tasks(cases: Sequence[Case], root: Path, data: Path = Path("data")) -> list[dict[str, Any]]:
    """Tasks as Label Studio imports them, a face each, with its box as a prediction.

    root: the folder that Label Studio serves. data: where the batches are.

    Raises: ConfigError when a photo does not lie below `root`.
    """
    return [
        {
            "data": {
                "image": photo_address(below(root, data / case.batch / case.photo)),
                "question": f"{f'Is this {short(case.name)}' if case.name else 'Who is this'}? {short(case.why, 140)}",
                "photo": f"{case.batch}/{case.photo}",
                "sha256": case.sha256,
                "face": case.face,
                "name": case.name,
            },
            "predictions": [
                {
                    "model_version": "castline",
                    "result": [rectangle(case.face, "face", "this face", case.box.tolist(), case.size)],
                }
            ],
        }
        for case in cases
    ]


def empty_decisions(cases: Sequence[Case]) -> str:
    """A labels/review.json to write decisions into."""
    entries = [
        {
            "photo": f"{case.batch}/{case.photo}",
            "why": case.why,
            "sha256": case.sha256,
            "face": case.face,
            "decision": "",
            "person": "",
        }
        for case in cases
    ]
    lines = ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    return f'{{"decisions": [\n  {lines}\n]}}\n' if entries else '{"decisions": []}\n'

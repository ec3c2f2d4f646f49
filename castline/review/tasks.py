"""Faces to decide about, for Label Studio, whose export labels/review.json may be; and as a file to write into by hand.

Label Studio serves photos from where they lie: `/data/local-files/?d=PATH`, below its
LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT. Nothing is copied or uploaded.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from castline.curation.decisions import IT_IS, KEEP, LEAVE_OUT
from castline.errors import ConfigError
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
                "image": f"/data/local-files/?d={quote(_below(root, data / case.batch / case.photo), safe='/')}",
                "question": f"{f'Is this {short(case.name)}' if case.name else 'Who is this'}? {short(case.why, 140)}",
                "photo": f"{case.batch}/{case.photo}",
                "sha256": case.sha256,
                "face": case.face,
                "name": case.name,
            },
            "predictions": [{"model_version": "castline", "result": [_rectangle(case)]}],
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


def _below(root: Path, photo: Path) -> str:
    """The path of `photo` below `root`: as it is written, or else as links lead."""
    for top, path in ((root, photo), (root.absolute(), photo.absolute()), (root.resolve(), photo.resolve())):
        if path.is_relative_to(top):
            return path.relative_to(top).as_posix()
    raise ConfigError(f"{photo.resolve()} does not lie below {root}", "--root FOLDER: the one that Label Studio serves")


def _rectangle(case: Case) -> dict[str, Any]:
    width, height = case.size
    x1, x2 = (min(max(float(x) / width, 0.0), 1.0) * 100 for x in case.box[[0, 2]])
    y1, y2 = (min(max(float(y) / height, 0.0), 1.0) * 100 for y in case.box[[1, 3]])
    box = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
    return {
        "id": f"face{case.face}",
        "type": "rectanglelabels",
        "from_name": "face",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            **{key: round(value, 3) for key, value in box.items()},
            "rotation": 0,
            "rectanglelabels": ["this face"],
        },
    }

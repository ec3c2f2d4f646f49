"""Who is on screen when, as bars; a bar brings the player to its moment."""

from castline.app.components import load, picture_url
from castline.app.results import rows, span
from castline.app.seen import Footage
from castline.text import certainty, short

__all__ = ["timeline"]

_mount = load("timeline")


def timeline(key: str, footage: Footage, player: str) -> None:
    """Show who is in a video. player: the key of the container that the video's player is in."""
    shown = [
        {
            "label": short(label),
            "known": known,
            "still": picture_url(still),
            "bars": [
                {
                    "start": seen.start,
                    "end": seen.end,
                    "label": f"{short(label)}, {span(seen)}{f', {certainty(seen.confidence)}' if known else ''}",
                }
                for seen in appearances
            ],
        }
        for label, known, still, appearances in rows(footage)
    ]
    _mount(key=key, data={"rows": shown, "length": footage.length, "player": player})

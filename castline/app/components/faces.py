"""A picture with a button over each face."""

from collections.abc import Callable, Sequence

from castline.app.components import load, picture_url
from castline.app.results import label
from castline.app.seen import Picture
from castline.runtime import Person

__all__ = ["faces"]

_mount = load("faces")


def faces(
    key: str, picture: Picture, people: Sequence[Person], chosen: int | None, on_chosen: Callable[[], None]
) -> None:
    """Show a picture. chosen: the face that is marked, from 0. on_chosen: called when a visitor chose one, which is
    then in `st.session_state[key].chosen`.
    """
    frames = []
    for person in people:
        x1, y1, x2, y2 = person.face.box
        frames.append(
            {
                "left": x1 / picture.width,
                "top": y1 / picture.height,
                "width": (x2 - x1) / picture.width,
                "height": (y2 - y1) / picture.height,
                "known": person.name.known,
                "label": label(person.name),
            }
        )
    _mount(
        key=key,
        data={
            "picture": picture_url(picture.shown),
            "ratio": picture.width / picture.height,
            "faces": frames,
            "chosen": chosen,
        },
        on_chosen_change=on_chosen,
    )

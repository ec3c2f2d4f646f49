"""People named by a released model, in photos and video. NumPy, Pillow and LiteRT only; for video, PyAV.

>>> from castline.runtime import Recognizer
>>> recognizer = Recognizer("models/recognizer")    # doctest: +SKIP
>>> [person.name.shown for person in recognizer.identify("photo.jpg")]    # doctest: +SKIP
"""

from castline.runtime.appearances import Appearance, Timeline, watch
from castline.runtime.cast import UNKNOWN, Cast, Name
from castline.runtime.recognizer import Face, Person, Recognizer

__all__ = ["UNKNOWN", "Appearance", "Cast", "Face", "Name", "Person", "Recognizer", "Timeline", "watch"]

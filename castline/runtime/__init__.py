"""People named by a released model. NumPy, Pillow and LiteRT only.

>>> from castline.runtime import Recognizer
>>> recognizer = Recognizer("models/recognizer")    # doctest: +SKIP
>>> [person.name.shown for person in recognizer.identify("photo.jpg")]    # doctest: +SKIP
"""

from castline.runtime.recognizer import UNKNOWN, Face, Name, Person, Recognizer

__all__ = ["UNKNOWN", "Face", "Name", "Person", "Recognizer"]

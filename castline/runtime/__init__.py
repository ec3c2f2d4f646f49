"""People named by a released model. NumPy, Pillow and LiteRT only.

>>> from castline.runtime import Recognizer
>>> recognizer = Recognizer("models/recognizer")    # doctest: +SKIP
>>> [person.name for person in recognizer.identify("photo.jpg")]    # doctest: +SKIP
"""

from castline.runtime.recognizer import Person, Recognizer

__all__ = ["Person", "Recognizer"]

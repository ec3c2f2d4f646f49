"""What labels say about a face that was found."""

from dataclasses import dataclass

__all__ = ["Said"]


@dataclass(frozen=True)
class Said:
    """person: whose face it is, empty where nobody is named. stranger: nobody's of the cast.

    problem: why the face is left out although somebody labelled it, such as labellers who disagree; else empty.
    """

    person: str = ""
    stranger: bool = False
    problem: str = ""

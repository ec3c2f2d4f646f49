"""Whose word counts where several people labelled a face."""

from collections import Counter
from collections.abc import Collection, Mapping

from castline.labels.form import STRANGER
from castline.labels.said import Said

__all__ = ["DISAGREE", "NAMELESS", "resolve"]

DISAGREE, NAMELESS = "labellers disagree", "boxed, but with no name to use"


def resolve(names: Mapping[int, str], finished: Collection[int], deciding: Collection[int], rule: str) -> Said:
    """What a face's labels come to.

    names: what each labeller who boxed the face called it, empty where that cannot be used. finished: all who finished
    the photo. deciding: those of them whose word is a reviewer's. rule: see LabelsSettings.

    >>> resolve({6: "alma", 7: "alma", 8: "bruno"}, {6, 7, 8}, (), "majority")
    Said(person='alma', stranger=False, problem='')
    >>> resolve({6: "alma", 7: "alma"}, {6, 7, 8}, (), "unanimous").problem
    'labellers disagree: alma, no box'
    """
    if rule == "reviewer" and deciding:
        names, finished = {who: name for who, name in names.items() if who in deciding}, deciding
    if not names:
        return Said()
    if not any(names.values()):
        return Said(problem=NAMELESS)
    votes = Counter(name for name in names.values() if name)
    name, count = max(votes.items(), key=lambda vote: vote[1])
    if count > votes.total() / 2 if rule == "majority" else count == len(set(finished)):
        return Said(stranger=True) if name == STRANGER else Said(person=name)
    said = sorted(votes)
    if rule != "majority":
        said += ["no name"] * ("" in names.values()) + ["no box"] * (len(names) < len(set(finished)))
    return Said(problem=f"{DISAGREE}: {', '.join(said)}")

"""How far labellers agree on names, beyond chance.

Units are faces, values are names; a labeller who did not box a face, or gave it no name that can be used, has no value
there. Sources: Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011 (nominal data, any number of observers,
missing values); Cohen, A Coefficient of Agreement for Nominal Scales, 1960.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

__all__ = ["cohens_kappa", "krippendorffs_alpha", "specific_agreement"]


def krippendorffs_alpha(units: Iterable[Mapping[int, Hashable]]) -> float | None:
    """1 where everybody agrees, 0 where chance alone would agree as often, below 0 where they agree less than that.

    units: what each observer said of each unit. None where it is not defined: no unit has two values, or all values
    are one.

    >>> krippendorffs_alpha([{1: "a", 2: "a"}, {1: "b", 2: "b"}, {1: "a", 2: "b"}])
    0.4444444444444444
    """
    total: Counter[Hashable] = Counter()
    observed = 0.0
    for unit in units:
        counts = Counter(unit.values())
        values = counts.total()
        if values < 2:
            continue
        total += counts
        observed += (values**2 - sum(count**2 for count in counts.values())) / (values - 1)
    n = total.total()
    expected = n**2 - sum(count**2 for count in total.values())
    return 1 - (n - 1) * observed / expected if expected else None


def cohens_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Of two observers, on what both have a value for. None where it is not defined: nothing is, or both always say
    one and the same.

    >>> cohens_kappa([("a", "a"), ("b", "b"), ("a", "b"), ("b", "b")])
    0.5
    """
    n = len(pairs)
    one, other = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(count * other[value] for value, count in one.items())  # times n²
    if chance == n**2:
        return None
    return (n * sum(a == b for a, b in pairs) - chance) / (n**2 - chance)


def specific_agreement(pairs: Sequence[tuple[Hashable, Hashable]], value: Hashable) -> tuple[int, int]:
    """Of how many times that either observer said `value`, the other said it too: a share of them is agreement on it.

    >>> specific_agreement([("a", "a"), ("a", "b"), ("b", "b")], "a")
    (2, 3)
    """
    said = sum((a == value) + (b == value) for a, b in pairs)
    return 2 * sum(a == b == value for a, b in pairs), said

"""Numbers said so that somebody who is not an engineer reads them right, and no mistake is rounded away."""

from castline.evaluation.calibration import Reliability
from castline.evaluation.open_set import OperatingPoint

__all__ = ["in_plain_words", "lean", "number", "out_of", "percent", "strangers_in_plain_words"]


def in_plain_words(correct: int, n: int) -> str:
    """A proportion as a sentence that never rounds a mistake away.

    >>> in_plain_words(66, 67), in_plain_words(2231, 2300)
    ('Of 67 test faces, 66 are named right.', 'Of every 100 test faces, about 97 are named right.')
    >>> in_plain_words(9999, 10000)
    'All but 1 of 10,000 test faces are named right.'
    """
    if correct == n:
        return f"All {n:,} test faces are named right." if n > 1 else "The only test face is named right."
    if n > 200:
        for whole in (100, 1000):
            if 0 < (named := round(whole * correct / n)) < whole:
                return f"Of every {whole:,} test faces, about {named} {'is' if named == 1 else 'are'} named right."
        if correct > n / 2:
            return f"All but {n - correct} of {n:,} test faces are named right."
    faces, verb = "face" if n == 1 else "faces", "is" if correct == 1 else "are"
    return f"Of {n:,} test {faces}, {correct} {verb} named right."


def strangers_in_plain_words(point: OperatingPoint) -> str:
    """What a threshold does, for those who do not know what an FPIR is.

    >>> strangers_in_plain_words(OperatingPoint(0.01, 0.4, 1.0))
    "Of 100 strangers' faces, about 1 is given a name; of 100 faces of the cast, 100 are still named right."
    """
    if point.threshold is None or point.tpir is None:
        return f"Nothing can be said of strangers: {point.refusal or 'there is no test face'}."
    strangers, whole = out_of(point.fpir)
    named, of = out_of(point.tpir)
    rest = of - named
    return (
        f"Of {whole:,} strangers' faces, about {strangers:,} {'is' if strangers == 1 else 'are'} given a name; "
        f"of {of:,} faces of the cast, {named:,} {'is' if named == 1 else 'are'} still named right"
        + (f", and {rest:,} {'is' if rest == 1 else 'are'} called unknown or somebody else." if rest else ".")
    )


def lean(measured: Reliability) -> str:
    """Which way confidence errs on the whole."""
    faces = sum(found.count for found in measured.bins)
    error = sum(found.count * (found.confidence - found.accuracy) for found in measured.bins) / max(1, faces)
    return "too sure" if error > 0.005 else "too modest" if error < -0.005 else "neither too sure nor too modest"


def out_of(share: float) -> tuple[int, int]:
    """A share as so many of 100, or of 1,000 and more where that would round it to none or all.

    >>> out_of(0.974), out_of(0.9974), out_of(1.0)
    ((97, 100), (997, 1000), (100, 100))
    """
    for whole in (100, 1000, 10_000):
        if share in (0, 1) or 0 < round(share * whole) < whole:
            return round(share * whole), whole
    return round(share * 100_000), 100_000


def percent(share: float | None) -> str:
    """A share with one digit, never rounded up to 100 % or down to 0 %.

    >>> percent(0.975), percent(1.0), percent(0.9999), percent(None)
    ('97.5 %', '100 %', '99.9 %', '–')
    """
    if share is None:
        return "–"
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    return f"{min(max(100 * share, 0.1), 99.9):.1f} %"


def number(value: float | None) -> str:
    """Of a metric."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"

"""Numbers in words: what is rare is never rounded away."""

import pytest

from castline.evaluation.calibration import Bin, Reliability
from castline.evaluation.open_set import OperatingPoint
from castline.evaluation.words import in_plain_words, lean, out_of, percent, strangers_in_plain_words


@pytest.mark.parametrize(
    ("correct", "n", "says"),
    [
        (0, 1, "Of 1 test face, 0 are named right."),
        (1, 1, "The only test face is named right."),
        (1, 50, "Of 50 test faces, 1 is named right."),
        (50, 50, "All 50 test faces are named right."),
        (194, 200, "Of 200 test faces, 194 are named right."),
        (970, 1000, "Of every 100 test faces, about 97 are named right."),
        (1998, 2000, "Of every 1,000 test faces, about 999 are named right."),
        (9999, 10_000, "All but 1 of 10,000 test faces are named right."),
        (1, 10_000, "Of 10,000 test faces, 1 is named right."),
    ],
)
def test_in_plain_words(correct: int, n: int, says: str) -> None:
    assert in_plain_words(correct, n) == says


@pytest.mark.parametrize(
    ("share", "says"),
    [(None, "–"), (0.0, "0 %"), (1.0, "100 %"), (0.99999, "99.9 %"), (0.00001, "0.1 %"), (0.5, "50.0 %")],
)
def test_percent_never_rounds_a_mistake_away(share: float | None, says: str) -> None:
    assert percent(share) == says


@pytest.mark.parametrize(
    ("tpir", "fpir", "says"),
    [
        (0.97, 0.01, "Of 100 strangers' faces, about 1 is given a name; of 100 faces of the cast, 97 are still named"),
        (0.9996, 0.001, "Of 1,000 strangers' faces, about 1 is given a name; of 10,000 faces of the cast, 9,996 are"),
        (1.0, 0.1, "about 10 are given a name; of 100 faces of the cast, 100 are still named right."),
        (0.99, 0.1, "99 are still named right, and 1 is called unknown or somebody else."),
    ],
)
def test_strangers_in_plain_words(tpir: float, fpir: float, says: str) -> None:
    assert says in strangers_in_plain_words(OperatingPoint(fpir, 0.5, tpir))


@pytest.mark.parametrize("share", [0.0, 1e-7, 1e-4, 0.004, 0.5, 0.996, 0.99999, 1.0])
def test_a_share_out_of_a_whole_number_keeps_what_is_rare(share: float) -> None:
    part, whole = out_of(share)
    assert 0 <= part <= whole
    if 1e-5 <= share <= 1 - 1e-5:
        assert (part > 0, part < whole) == (share > 0, share < 1)


@pytest.mark.parametrize(
    ("confidence", "says"), [(0.9, "too sure"), (0.8, "neither too sure nor too modest"), (0.6, "too modest")]
)
def test_which_way_confidence_errs(confidence: float, says: str) -> None:
    assert lean(Reliability(0.1, (Bin(10, confidence, 0.8, (0.5, 0.9)), Bin(2, 1.0, 1.0, (0.3, 1.0))))) == says

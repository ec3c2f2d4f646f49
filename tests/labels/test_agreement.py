"""Agreement beyond chance: published worked examples, and what has to hold whatever is labelled."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castline.labels.agreement import cohens_kappa, krippendorffs_alpha, specific_agreement


def units(*observers: str) -> list[dict[int, str]]:
    """Units from observers' lines of single letters; a dot is no value."""
    return [{who: value for who, value in enumerate(values) if value != "."} for values in zip(*observers, strict=True)]


@pytest.mark.parametrize(
    ("observers", "alpha"),
    [
        # Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): A, B and C, all nominal.
        (("0100000010", "1110010000"), 0.095),
        (("aabbdcccedda", "babbbccceddd"), 0.692),
        (("123321412...", "1233224125.3", ".3332342251.", "12332441251."), 0.743),
    ],
)
def test_alpha_of_the_published_examples(observers: tuple[str, ...], alpha: float) -> None:
    assert krippendorffs_alpha(units(*observers)) == pytest.approx(alpha, abs=0.0005)


@pytest.mark.parametrize(
    ("both_yes", "yes_no", "no_yes", "both_no", "kappa"),
    [(20, 5, 10, 15, 0.4), (45, 15, 25, 15, 0.1304), (25, 35, 5, 35, 0.2593), (5, 0, 0, 5, 1.0), (0, 5, 5, 0, -1.0)],
)
def test_kappa_of_published_tables(both_yes: int, yes_no: int, no_yes: int, both_no: int, kappa: float) -> None:
    pairs = [("y", "y")] * both_yes + [("y", "n")] * yes_no + [("n", "y")] * no_yes + [("n", "n")] * both_no
    assert cohens_kappa(pairs) == pytest.approx(kappa, abs=0.00005)


def test_where_nothing_can_be_said_nothing_is() -> None:
    assert krippendorffs_alpha([]) is None
    assert krippendorffs_alpha([{1: "a"}, {2: "b"}]) is None, "no unit has two values"
    assert krippendorffs_alpha([{1: "a", 2: "a"}]) is None, "one value: no chance to disagree"
    assert cohens_kappa([]) is None and cohens_kappa([("a", "a")] * 3) is None


UNITS = st.lists(st.dictionaries(st.integers(0, 4), st.sampled_from("abc"), max_size=5), max_size=12)


@given(UNITS, st.permutations("abc"), st.permutations(range(5)), st.randoms(use_true_random=False))
def test_alpha_is_of_what_was_said_and_not_of_who_or_in_what_words(
    said: list[dict[int, str]], words: list[str], people: list[int], random: Random
) -> None:
    alpha = krippendorffs_alpha(said)
    other = [{people[who]: words["abc".index(value)] for who, value in unit.items()} for unit in said]
    random.shuffle(other)
    assert krippendorffs_alpha(other) == (alpha if alpha is None else pytest.approx(alpha))
    assert alpha is None or alpha <= 1
    single = [{0: "a"}] * 3
    assert krippendorffs_alpha(said + single) == alpha, "a value that nothing can be held against says nothing"
    shared = [unit for unit in said if len(unit) > 1]
    if alpha is not None:
        assert (alpha == pytest.approx(1)) == all(len(set(unit.values())) == 1 for unit in shared)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), max_size=20))
def test_agreement_of_two_is_the_same_from_either_side(pairs: list[tuple[str, str]]) -> None:
    turned = [(b, a) for a, b in pairs]
    kappa = cohens_kappa(pairs)
    assert cohens_kappa(turned) == (kappa if kappa is None else pytest.approx(kappa))
    assert specific_agreement(pairs, "a") == specific_agreement(turned, "a")
    both, said = specific_agreement(pairs, "a")
    assert 0 <= both <= said and said == sum(pair.count("a") for pair in pairs)

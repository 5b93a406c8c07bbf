import math

import pytest

from results.fits.bracket import Bracket, bracketed_interval, exact_values, exactly, in_words
from results.statistics import geometric_mean_interval, mean_interval


@pytest.mark.parametrize(("scale", "reference"), [("linear", mean_interval), ("log", geometric_mean_interval)])
def test_known_numbers_get_the_ordinary_interval(scale, reference):
    values = [2.0, 3.0, 5.0, 4.0]
    interval = bracketed_interval({key: exactly(value) for key, value in enumerate(values)}, scale, 0.9)
    assert interval == reference(values, 0.9)


def test_a_bracket_opens_its_end_and_bounds_the_other():
    known = {0: exactly(2.0), 1: exactly(3.0)}
    above = bracketed_interval({**known, 2: Bracket(4.0, math.inf)}, "linear")
    assert (above.low, above.high, above.n) == (mean_interval([2, 3, 4]).low, math.inf, 3)
    assert math.isnan(above.mean)
    below = bracketed_interval({**known, 2: Bracket(0.0, 1.0)}, "log")
    assert (below.low, below.high) == (0.0, geometric_mean_interval([2, 3, 1]).high)
    between = bracketed_interval({**known, 2: Bracket(3.0, 5.0)}, "linear")
    assert (between.low, between.high) == (mean_interval([2, 3, 3]).low, mean_interval([2, 3, 5]).high)


def test_nothing_known_bounds_nothing_and_no_replicate_gives_no_interval():
    assert bracketed_interval({}, "log") is None
    unknown = bracketed_interval({0: Bracket(0, math.inf), 1: Bracket(0, math.inf)}, "log")
    assert (unknown.low, unknown.high) == (0.0, math.inf)


@pytest.mark.parametrize("ends", [(2.0, 1.0), (math.nan, 1.0)])
def test_a_bracket_has_ordered_ends(ends):
    with pytest.raises(ValueError, match=r"low and high are .*; they must be numbers with low <= high"):
        Bracket(*ends)


def test_values_for_a_contrast_are_none_where_only_a_bracket_is_known():
    assert exact_values({3: exactly(2.0), 4: Bracket(1.0, math.inf)}) == {3: 2.0, 4: None}


def test_words_count_what_lies_beyond_the_range():
    known = {0: exactly(2.0), 1: exactly(8.0)}
    assert in_words(known, bracketed_interval(known, "log")).startswith("4 (95 % ")
    some = {**known, 2: Bracket(16.0, math.inf), 3: Bracket(16.0, math.inf), 4: Bracket(0.0, 1.0)}
    words = in_words(some, bracketed_interval(some, "log"))
    assert words == "above 16 in 2 of 5, below 1 in 1 of 5, 2 to 8 in 2 of 5 (95 % 0 to inf, n=5)"
    nothing = {0: Bracket(0.0, math.inf)}
    assert in_words(nothing, bracketed_interval(nothing, "log")).startswith("unknown in 1 of 1 (")
    assert in_words({}, None) == "not measured"

import math

import numpy as np
import pytest
from scipy import stats

from results.statistics import BestOf, Contrast, best_of, counted, mean_interval, replicate_interval, share_above


def contrast(ours, theirs, partner="plain"):
    return Contrast(partner, dict(enumerate(ours)), dict(enumerate(theirs)), tuple(range(len(ours))))


def test_interval_of_three_numbers_by_hand():
    # Mean 2, deviation 1, standard error 1/sqrt(3); the 97.5 % point of t with 2 degrees of freedom is 4.302653.
    interval = mean_interval([1.0, 2.0, 3.0], confidence=0.95)
    assert (interval.mean, interval.n, interval.confidence) == (2.0, 3, 0.95)
    assert interval.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert interval.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("n", [2, 5, 8])
def test_interval_agrees_with_scipy(confidence, n):
    values = np.random.default_rng(n).normal(3, 2, n)
    interval = mean_interval(values, confidence)
    reference = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high), rel=1e-12)


def test_one_value_bounds_nothing_and_equal_values_have_no_width():
    one = mean_interval([0.7])
    assert (one.mean, one.low, one.high, one.n) == (0.7, -math.inf, math.inf, 1)
    same = mean_interval([0.1, 0.1, 0.1])
    assert same.high - same.low == 0
    assert same.mean == pytest.approx(0.1, rel=1e-15)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 1.0], [[1.0, 2.0]]])
def test_interval_refuses_what_is_not_a_list_of_numbers(values):
    with pytest.raises(ValueError, match=r"values are .*; they must be at least one finite number"):
        mean_interval(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_share(confidence):
    for call in (
        lambda: mean_interval([1.0, 2.0], confidence),
        lambda: contrast([1.0, 2.0], [None, 1.0]).ratio(confidence),
        lambda: share_above([1.0], 0.5, confidence),
    ):
        with pytest.raises(ValueError, match=r"confidence is .*; it must be between 0 and 1, exclusive"):
            call()


def test_pairing_removes_what_the_replicates_share():
    worlds = np.random.default_rng(0).normal(0, 100, 6)
    noise = np.array([0.1, -0.1, 0.2, -0.2, 0.0, 0.3])
    interval = contrast(worlds + 5 + noise, worlds).difference(worst=0)
    reference = stats.ttest_rel(worlds + 5 + noise, worlds).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high), rel=1e-9)
    assert interval.high - interval.low < 0.5


def test_replicates_are_joined_by_number_and_only_those_named_count():
    ours, theirs = {2: 0.9, 0: 0.5, 1: 0.7, 9: 0.0}, {0: 0.4, 1: 0.5, 2: 0.6}
    interval = Contrast("plain", ours, theirs, (0, 1, 2)).difference(worst=0)
    assert interval.mean == pytest.approx((0.1 + 0.2 + 0.3) / 3)
    assert interval.n == 3


def test_a_failed_cell_stays_in_the_denominator_as_the_worst_value():
    assert counted({0: 0.8, 1: None}, (0, 1, 2), worst=0.25).tolist() == [0.8, 0.25, 0.25]
    difference = contrast([0.8, None, 0.9], [0.5, 0.5, None]).difference(worst=0.0)
    assert difference.mean == pytest.approx((0.3 - 0.5 + 0.9) / 3)
    assert difference.n == 3


def test_ratio_is_the_exponential_of_the_interval_of_logs():
    ours, theirs = np.array([2.0, 2.2, 1.9, 2.4]), np.array([1.0, 1.0, 1.1, 1.2])
    interval = contrast(ours, theirs).ratio(0.9)
    reference = stats.ttest_1samp(np.log(ours / theirs), 0).confidence_interval(0.9)
    assert (interval.low, interval.high) == pytest.approx((math.exp(reference.low), math.exp(reference.high)))
    assert interval.mean == pytest.approx(stats.gmean(ours / theirs))


def test_ratio_does_not_depend_on_which_arm_is_below_the_line():
    ours, theirs = [1.0, 1.2, 0.9], [1.1, 1.0, 1.0]
    up, down = contrast(ours, theirs).ratio(), contrast(theirs, ours).ratio()
    assert (up.mean, up.low, up.high) == pytest.approx((1 / down.mean, 1 / down.high, 1 / down.low))


@pytest.mark.parametrize(("ours", "theirs"), [([1.0, None], [1.0, 1.0]), ([1.0, 1.0], [0.0, 1.0]), ([-1, 1], [1, 1])])
def test_a_ratio_that_cannot_be_formed_bounds_nothing(ours, theirs):
    interval = contrast(ours, theirs).ratio()
    assert math.isnan(interval.mean)
    assert (interval.low, interval.high, interval.n) == (0.0, math.inf, 2)
    assert contrast(ours, theirs).equivalence_p(0.9, 1.1) == 1.0


def test_one_ratio_bounds_nothing():
    interval = contrast([1.0], [1.0]).ratio()
    assert (interval.mean, interval.low, interval.high) == (1.0, 0.0, math.inf)
    assert contrast([1.0], [1.0]).equivalence_p(0.9, 1.1) == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_equivalence_is_two_one_sided_tests_and_matches_the_interval(seed):
    rng = np.random.default_rng(seed)
    logs = rng.normal(rng.uniform(-0.1, 0.1), 0.05, 6)
    pair = contrast(np.exp(logs), np.ones(6))
    p = pair.equivalence_p(0.9, 1.1)
    above = stats.ttest_1samp(logs, math.log(0.9), alternative="greater").pvalue
    below = stats.ttest_1samp(logs, math.log(1.1), alternative="less").pvalue
    assert p == pytest.approx(max(above, below), rel=1e-9)
    assert (p < 0.05) == pair.ratio(0.9).inside(0.9, 1.1)


def test_equivalence_of_ratios_without_any_spread():
    assert contrast([2.0, 4.0], [2.0, 4.0]).equivalence_p(0.9, 1.1) == 0.0
    assert contrast([3.0, 3.0], [2.0, 2.0]).equivalence_p(0.9, 1.1) == 1.0


@pytest.mark.parametrize("bounds", [(0, 1.1), (1.1, 0.9), (1, 1)])
def test_equivalence_refuses_bounds_that_hold_nothing(bounds):
    with pytest.raises(ValueError, match=r"bounds are .* 0 < low < high"):
        contrast([1.0, 1.0], [1.0, 1.0]).equivalence_p(*bounds)


def test_inside_and_outside():
    interval = mean_interval([1.0, 2.0, 3.0])  # -0.48 to 4.48
    assert interval.inside(-1, 5)
    assert not interval.inside(0, 5)
    assert interval.outside(5, 6)
    assert interval.outside(-3, -1)
    assert not interval.outside(4, 6)


def test_a_replicate_without_a_value_counts_as_the_worst_or_is_left_out():
    values = {0: 1.0, 1: None, 2: 3.0}
    assert replicate_interval(values, 0.0) == mean_interval([1.0, 0.0, 3.0])
    rest = replicate_interval(values, None)
    assert (rest.n, rest.left_out) == (2, 1)
    assert (rest.mean, rest.low, rest.high) == (2.0, mean_interval([1.0, 3.0]).low, mean_interval([1.0, 3.0]).high)
    assert replicate_interval({0: 1.0, 2: 3.0}, None) == mean_interval([1.0, 3.0])
    none = replicate_interval({0: None, 1: None}, None)
    assert (math.isnan(none.mean), none.n, none.left_out) == (True, 0, 2)


def test_best_of_names_its_n():
    assert best_of([0.2, 0.9, 0.4]) == BestOf(value=0.9, n=3)
    with pytest.raises(ValueError, match="values are empty"):
        best_of([])


@pytest.mark.parametrize("above", range(6))
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_share_above_is_exact(above, confidence):
    share = share_above([0.51] * above + [0.5] * (5 - above), threshold=0.5, confidence=confidence)
    exact = stats.binomtest(above, 5).proportion_ci(confidence, method="exact")
    assert (share.mean, share.n) == (above / 5, 5)
    assert (share.low, share.high) == pytest.approx((exact.low, exact.high))


def test_a_share_of_none_is_bounded_and_of_nothing_refused():
    # None of 8: the upper end solves (1 - p)^8 = 0.025.
    none = share_above(np.zeros(8), 0.5)
    assert (none.low, none.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 8)))
    with pytest.raises(ValueError, match="values are empty"):
        share_above([], 0.5)

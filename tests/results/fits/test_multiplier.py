import math

import numpy as np
import pytest
from scipy import stats

from results.fits.multiplier import parameter_multiplier

SIZES = (1000, 2000, 4000, 8000)


def plain_curve(slope=0.2, worlds=(0.0, 0.02, -0.02, 0.01), noise=0.0, seed=0):
    """Accuracies that are linear in the logarithm of the size, shifted by world."""
    rng = np.random.default_rng(seed)
    return {
        size: {i: 0.2 + slope * math.log(size / 1000) + world + rng.normal(0, noise) for i, world in enumerate(worlds)}
        for size in SIZES
    }


@pytest.mark.parametrize("times", [1.2, 2.0, 3.3, 7.0])
def test_a_planted_multiplier_is_found(times):
    worlds = (0.0, 0.02, -0.02, 0.01)
    looped = {i: 0.2 + 0.2 * math.log(times) + world for i, world in enumerate(worlds)}
    found = parameter_multiplier(looped, 1000, plain_curve(worlds=worlds))
    assert found.interval.mean == pytest.approx(times, rel=1e-6)
    # What the worlds share cancels, and nothing else varies.
    assert (found.interval.low, found.interval.high) == pytest.approx((times, times), rel=1e-6)
    assert (found.range, found.reason, found.interval.n) == ((1.0, 8.0), None, 4)


def test_the_interval_is_the_t_test_inverted():
    rng = np.random.default_rng(3)
    plain = plain_curve(noise=0.02)
    looped = {i: 0.2 + 0.2 * math.log(3.0) + rng.normal(0, 0.02) for i in range(4)}
    found = parameter_multiplier(looped, 1000, plain).interval
    for end in (found.low, found.high):
        at = [np.interp(math.log(1000 * end), np.log(SIZES), [plain[size][i] for size in SIZES]) for i in range(4)]
        assert stats.ttest_rel([looped[i] for i in range(4)], at).pvalue == pytest.approx(0.05, abs=1e-3)


def test_beyond_range_is_said_and_not_extrapolated():
    worse = parameter_multiplier({i: 0.9 + 0.01 * i for i in range(4)}, 1000, plain_curve())
    assert (worse.interval.low, worse.interval.high) == (pytest.approx(8.0), math.inf)
    assert math.isnan(worse.interval.mean)
    assert worse.reading == "above 8: beyond range (95 % 8 to inf, n=4)"
    better = parameter_multiplier({i: 0.01 * i for i in range(4)}, 2000, plain_curve())
    assert (better.interval.low, better.interval.high) == (0.0, pytest.approx(0.5))
    assert math.isnan(better.interval.mean)
    assert better.reading == "below 0.5: beyond range (95 % 0 to 0.5, n=4)"


def test_an_end_is_open_where_the_test_cannot_tell():
    noisy = {0: 0.2, 1: 0.9, 2: 0.3, 3: 0.8}
    found = parameter_multiplier(noisy, 1000, plain_curve())
    assert (found.interval.low, found.interval.high) == (0.0, math.inf)
    assert found.interval.mean == pytest.approx(math.exp((0.55 - 0.2025) / 0.2), rel=1e-3)
    flat = parameter_multiplier({0: 0.7, 1: 0.2}, 1000, {size: {0: 0.4, 1: 0.3} for size in SIZES})
    assert flat.reading == "no match from 1 to 8 (95 % 0 to inf, n=2)"


def test_bits_at_the_ceiling_give_no_multiplier():
    plain = {size: {i: min(2.0 * size, 1e4) for i in range(3)} for size in SIZES}
    looped = dict.fromkeys(range(3), 4000.0)
    assert parameter_multiplier(looped, 1000, plain, ceiling=1e4).interval.mean == pytest.approx(2.0)
    full = parameter_multiplier(dict.fromkeys(range(3), 9000.0), 1000, plain, ceiling=1e4)
    assert full.interval is None
    assert full.reading == "90 % of the ceiling is reached, more than 80 %: sizes cannot be told apart"


def test_replicates_are_those_that_ended_everywhere_and_failed_ones_count_as_worst():
    plain = plain_curve()
    del plain[4000][3]
    looped = {0: 0.5, 1: None, 2: 0.5, 3: 0.5, 4: 0.5}
    found = parameter_multiplier(looped, 1000, plain)
    zero = parameter_multiplier({**looped, 1: 0.0}, 1000, plain)
    assert found == zero
    assert found.interval.n == 3
    few = parameter_multiplier({0: 0.5}, 1000, plain)
    assert (few.interval, few.reading) == (None, "1 replicates have ended at every size; there must be 2")


@pytest.mark.parametrize(("parameters", "sizes"), [(0, SIZES), (1000, (1000,)), (1000, (0, 1000))])
def test_bad_sizes_are_named(parameters, sizes):
    with pytest.raises(ValueError, match="parameters and sizes of plain are"):
        parameter_multiplier({0: 0.5, 1: 0.5}, parameters, {size: {0: 0.5, 1: 0.5} for size in sizes})
    with pytest.raises(ValueError, match="confidence is 95"):
        parameter_multiplier({0: 0.5, 1: 0.5}, 1000, plain_curve(), confidence=95)

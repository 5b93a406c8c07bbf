import numpy as np
import pytest
from scipy import stats

from results.fits.gap import gap_closed

EVERY = (0, 1, 2, 3, 4)


def by_replicate(values):
    return dict(enumerate(values))


def drawn(seed=0, noise=0.02):
    rng = np.random.default_rng(seed)
    world = rng.normal(0, 0.1, 5)
    return [by_replicate(world + mean + rng.normal(0, noise, 5)) for mean in (0.55, 0.4, 0.6)]


def test_published_numbers_give_the_published_percentages():
    # arXiv 2502.17416, table of language models: 12⊗2, 12⊗1 and 24⊗1 on closed book and on reasoning primitives.
    for numbers, percent in (((9.3, 8.2, 11.2), 37), ((51.2, 35.7, 47.5), 131)):
        arms = [by_replicate([number, number]) for number in numbers]
        found = gap_closed(*arms, (0, 1), least=0.5)
        assert 100 * found.interval.mean == pytest.approx(percent, abs=0.5)
        assert found.interval.low == pytest.approx(found.interval.mean)
        assert found.reason is None


def test_fieller_keeps_the_ratios_that_a_t_test_lets_stand():
    looped, plain, deep = drawn()
    found = gap_closed(looped, plain, deep, EVERY, least=0.05)
    over = np.array([looped[i] - plain[i] for i in EVERY])
    under = np.array([deep[i] - plain[i] for i in EVERY])
    assert found.interval.mean == pytest.approx(over.mean() / under.mean())
    for end in (found.interval.low, found.interval.high):
        assert stats.ttest_1samp(over - end * under, 0).pvalue == pytest.approx(0.05, rel=1e-6)
    assert stats.ttest_1samp(over - found.interval.mean * under, 0).pvalue == pytest.approx(1.0)
    assert found.interval.low < 0.75 < found.interval.high


def test_what_worlds_share_cancels():
    arms = drawn(noise=0.0)
    found = gap_closed(*arms, EVERY, least=0.05)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.75, 0.75))


def test_it_is_suppressed_with_a_reason_where_there_is_no_gap_to_close():
    looped, plain, deep = drawn()
    noisy = by_replicate([plain[i] + (0.5 if i % 2 else -0.4) for i in EVERY])
    for other in (plain, noisy):
        found = gap_closed(looped, plain, other, EVERY, least=0.0)
        assert found.interval is None
        assert found.reason.startswith("the gap between equal FLOPs and equal parameters, ")
        assert found.reason.endswith("is not above 0")
    assert gap_closed(looped, deep, plain, EVERY, least=0.0).reason.endswith("is not above 0")
    small = gap_closed(looped, plain, deep, EVERY, least=0.3)
    assert small.interval is None
    assert small.reason.endswith("is below 0.3")
    assert gap_closed({0: 0.5}, {0: 0.4}, {0: 0.6}, (0,), least=0.0).interval is None


def test_failed_cells_count_as_worst():
    looped, plain, deep = drawn()
    failed = gap_closed({**looped, 2: None}, plain, deep, EVERY, least=0.05)
    assert failed == gap_closed({**looped, 2: 0.0}, plain, deep, EVERY, least=0.05)


def test_least_is_checked():
    with pytest.raises(ValueError, match=r"least is -1; it must be at least 0"):
        gap_closed(*drawn(), EVERY, least=-1)

import math

import numpy as np
import pytest
from scipy import stats

from results.fits.bracket import Bracket, exactly
from results.fits.survival import restricted, steps_to, survival
from results.statistics import Contrast


def test_the_first_measured_step_at_the_level():
    metric = {300: 0.95, 100: 0.1, 200: 0.9, 400: 0.2}
    assert steps_to(0.9, metric) == exactly(200)
    assert steps_to(0.99, metric) == Bracket(400, math.inf)
    with pytest.raises(ValueError, match="metric is empty"):
        steps_to(0.5, {})


def test_the_curve_by_hand():
    # Of five, two at 10; one lost sight of at 15; of the remaining two one at 20: 3/5, then 3/5 x 1/2.
    times = {0: exactly(10), 1: exactly(10), 2: Bracket(15, math.inf), 3: exactly(20), 4: Bracket(30, math.inf)}
    found = survival(times)
    assert (found.steps, found.share) == ((0, 10, 20), (1.0, pytest.approx(0.6), pytest.approx(0.3)))
    assert (found.median.mean, found.reached, found.watched) == (20, 3, 30)


def test_the_curve_agrees_with_scipy():
    rng = np.random.default_rng(0)
    times, ends = np.round(rng.exponential(100, 40)) + 1, np.round(rng.exponential(150, 40)) + 1
    found = survival(
        {
            i: exactly(t) if t <= end else Bracket(end, math.inf)
            for i, (t, end) in enumerate(zip(times, ends, strict=True))
        }
    )
    data = stats.CensoredData(times[times <= ends], right=ends[times > ends])
    reference = stats.ecdf(data).sf
    assert found.share[1:] == pytest.approx(reference.evaluate(np.array(found.steps[1:])).tolist(), abs=1e-12)


def test_a_median_is_bounded_by_order_statistics_where_replicates_suffice():
    times = {i: exactly(10.0 * (i + 1)) for i in range(8)}
    # 8 of a fair coin: P(0) = 0.4 %, P(at most 1) = 3.5 %.
    assert (survival(times).median.low, survival(times).median.high) == (10, 80)
    assert (survival(times, 0.90).median.low, survival(times, 0.90).median.high) == (20, 70)
    assert survival(times).median.mean == 40
    five = {i: times[i] for i in range(5)}
    assert (survival(five).median.low, survival(five).median.high) == (0, math.inf)
    assert (survival(five, 0.90).median.low, survival(five, 0.90).median.high) == (10, 50)


def test_runs_that_never_got_there_and_failed_ones_stay_in_the_denominator():
    times = {
        **{i: exactly(10.0 * (i + 1)) for i in range(3)},
        **dict.fromkeys(range(3, 7), Bracket(100, math.inf)),
        7: None,
    }
    found = survival(times)
    assert math.isnan(found.median.mean)
    assert (found.median.low, found.median.high, found.median.n) == (10, math.inf, 8)
    assert found.share[-1] == pytest.approx(5 / 8)
    assert (found.reached, found.watched) == (3, 100)


def test_restricted_times_go_to_a_contrast():
    late = {0: exactly(80), 1: Bracket(100, math.inf), 2: None}
    early = {0: exactly(20), 1: exactly(30), 2: exactly(40)}
    assert restricted(late, 90) == {0: 80, 1: 90, 2: None}
    pair = Contrast("early", restricted(late, 90), restricted(early, 90), (0, 1, 2))
    assert pair.difference(worst=90).mean == pytest.approx((60 + 60 + 50) / 3)


def test_a_horizon_lies_within_what_was_watched():
    with pytest.raises(ValueError, match=r"horizon is 120; it must be at most 100, where replicate 1 ended"):
        restricted({0: exactly(80), 1: Bracket(100, math.inf)}, 120)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="times hold no replicate that ran"):
        survival({0: None})
    with pytest.raises(ValueError, match=r"times of replicate 1 are .*; they must be exact or open above"):
        survival({0: exactly(1), 1: Bracket(1, 2)})
    with pytest.raises(ValueError, match="confidence is 95"):
        survival({0: exactly(1)}, confidence=95)

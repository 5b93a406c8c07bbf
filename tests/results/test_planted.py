import numpy as np
import pytest

from results import planted


@pytest.mark.parametrize("kind", planted.PLANTED, ids=lambda kind: f"{kind.outcomes} {kind.method}")
def test_many_replicates_close_in_on_what_is_planted(kind):
    interval = kind.draw(np.random.default_rng(0), 40)(0.999)
    assert interval.low <= kind.truth <= interval.high


def test_the_restricted_mean_is_that_of_the_times():
    times = planted.times(np.random.default_rng(0), 4_000, planted.LATE)
    values = planted.restricted(times, planted.HORIZON)
    assert np.mean(list(values.values())) == pytest.approx(planted.restricted_mean(planted.LATE), rel=0.02)
    censored = sum(not bracket.exact for bracket in times.values()) / len(times)
    assert censored == pytest.approx(1 / 3, abs=0.02)

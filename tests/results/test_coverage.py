import itertools
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from results import coverage
from results.planted import PLANTED, Planted
from results.statistics import Interval

COMMITTED = Path(coverage.__file__).parent / "reference" / "coverage.csv"


def test_a_small_simulation_repeats_and_adds_up(monkeypatch):
    monkeypatch.setattr(coverage, "SHARES", (0.5,))
    monkeypatch.setattr(coverage, "RESAMPLES", 50)
    table = coverage.simulate(trials=20, seed=1)
    assert_frame_equal(table, coverage.simulate(trials=20, seed=1))
    assert len(table) == 3 * 2 * (2 + 3)
    sums = table["coverage"] + table["too_high"] + table["too_low"]
    assert sums.to_numpy() == pytest.approx(np.ones(len(table)), abs=1e-4)
    assert table.columns == pl.read_csv(COMMITTED).columns


def test_outcomes_have_the_mean_that_the_simulation_counts_as_true():
    rng = np.random.default_rng(0)
    for share in (None, 0.1, 0.5):
        values = coverage.outcomes(rng, share, (400, 500))
        assert values.mean() == pytest.approx(coverage.true_mean(share), abs=0.003)


def test_the_committed_table_shows_what_the_intervals_are_trusted_for():
    table = pl.read_csv(COMMITTED).filter(pl.col("confidence") == 0.95)
    normal = table.filter(pl.col("outcomes") == "normal")
    student = normal.filter(pl.col("method") == "student_t")["coverage"]
    assert student.to_numpy() == pytest.approx(0.95, abs=0.015)
    bootstrap = dict(normal.filter(pl.col("method") == "percentile_bootstrap").select("n", "coverage").rows())
    assert bootstrap[5] < 0.88
    exact = table.filter(pl.col("method") == "exact_share")["coverage"]
    assert exact.min() >= 0.94


def experiment(*ends, truth=1.0):
    """A planted experiment whose intervals come from a list, in turn."""
    given = itertools.cycle(ends)

    def draw(rng, n):
        pair = next(given)
        return lambda confidence: None if pair is None else Interval(1.0, *pair, confidence, n)

    return Planted("a list", "ends", truth, draw)


def test_the_rows_of_a_fit_count_misses_open_ends_and_suppressed_intervals():
    # Held, too high, too low, open above, open below at 0, suppressed.
    kind = experiment((0.5, 2.0), (1.5, 2.0), (0.5, 0.75), (0.5, math.inf), (0.0, 2.0), None)
    table = coverage.simulate_fits([kind], trials=60, seed=0)
    assert table["n"].to_list() == [3, 3, 4, 4, 5, 5, 8, 8]
    for row in table.iter_rows(named=True):
        assert (row["trials"], row["coverage"], row["too_high"], row["too_low"]) == (50, 0.6, 0.2, 0.2)
        assert row["unbounded"] == 0.4
        assert row["mean_width"] == pytest.approx((1.5 + 0.5 + 0.25) / 3)
    assert coverage.simulate_fits([experiment((0.0, math.inf))], trials=2, seed=0)["mean_width"].to_list() == [None] * 8


def test_the_rows_of_fits_repeat_and_fit_below_the_others():
    kinds = [kind for kind in PLANTED if kind.method in ("gap_closed", "multiplier")][:2]
    table = coverage.simulate_fits(kinds, trials=5, seed=1)
    assert_frame_equal(table, coverage.simulate_fits(kinds, trials=5, seed=1))
    assert table.columns == pl.read_csv(COMMITTED).columns


def test_the_committed_table_has_every_planted_experiment():
    table = pl.read_csv(COMMITTED)
    found = set(table.select("outcomes", "method", "n", "confidence").rows())
    for kind, n, confidence in itertools.product(PLANTED, coverage.FIT_REPLICATES, coverage.CONFIDENCES):
        assert (kind.outcomes, kind.method, n, confidence) in found


def test_the_committed_table_shows_what_the_fits_are_trusted_for():
    table = pl.read_csv(COMMITTED).filter(pl.col("confidence") == 0.95)
    fits = table.filter(pl.col("method").is_in([kind.method for kind in PLANTED]))
    poor = fits.filter(pl.col("coverage") < 0.90).select("outcomes", "method").unique().rows()
    assert set(poor) <= {("all or nothing", "gap_closed"), ("graded, at the edge", "threshold")}
    closed = fits.filter(pl.col("outcomes") == "law")
    assert closed["coverage"].to_numpy() == pytest.approx(0.95, abs=0.025)
    assert (closed["unbounded"] == 0).all()

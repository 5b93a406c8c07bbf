from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from results import coverage

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

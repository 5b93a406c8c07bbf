import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import results
from results.fits.bracket import Bracket
from results.fits.capacity_law import SHARPNESS, CapacityPoint, fit_capacity_laws, soft_minimum
from results.statistics import Contrast, geometric_mean_interval

CELLS = [(parameters, ceiling) for parameters in (10_000, 20_000, 40_000) for ceiling in (3e4, 6e4)]


def planted(rho, sharpness, noise=0.0, seed=0, cells=CELLS):
    """Points of one arm; `rho` by replicate."""
    rng = np.random.default_rng(seed)
    return [
        CapacityPoint(replicate, size, top, soft_minimum(each * size, top, sharpness) * math.exp(rng.normal(0, noise)))
        for replicate, each in enumerate(rho)
        for size, top in cells
    ]


def test_soft_minimum_is_below_both_and_near_the_smaller_by_hand():
    assert soft_minimum(2.0, 2.0, 1.0) == pytest.approx(1.0)  # (1/2 + 1/2)^-1
    assert soft_minimum(3.0, 4.0, 2.0) == pytest.approx(12 / 5)  # (1/9 + 1/16)^(-1/2)
    assert soft_minimum(1.0, 1e6, 4.0) == pytest.approx(1.0)
    assert soft_minimum(1e6, [1.0, 2.0], 4.0) == pytest.approx([1.0, 2.0])
    assert soft_minimum(2.0, 3.0, 64.0) == pytest.approx(2.0, rel=1e-9)


@pytest.mark.parametrize("sharpness", [1.5, 5.0, 20.0])
def test_the_fit_finds_what_was_planted(sharpness):
    rho = {"looped": [2.0, 1.9, 2.2], "plain": [1.0, 1.1, 0.9]}
    laws = fit_capacity_laws({arm: planted(values, sharpness) for arm, values in rho.items()})
    for arm, values in rho.items():
        law = laws[arm]
        assert list(law.values.values()) == pytest.approx(values, rel=1e-4)
        assert list(law.sharpness.values()) == pytest.approx([sharpness] * 3, rel=1e-2)
        assert law.misfit < 1e-4
        reference = geometric_mean_interval(values)
        assert (law.interval.mean, law.interval.low, law.interval.high) == pytest.approx(
            (reference.mean, reference.low, reference.high), rel=1e-3
        )
        assert law.left_out == ()
        expected = soft_minimum(law.interval.mean * 15_000, 4e4, sharpness)
        assert law.bits(15_000, 4e4) == pytest.approx(float(expected), rel=1e-3)


def test_noise_shows_as_misfit_and_moves_rho_by_as_little_as_it_should():
    law = fit_capacity_laws({"plain": planted([2.0] * 40, 5.0, noise=0.03, cells=CELLS * 4)})["plain"]
    assert law.misfit == pytest.approx(0.03, rel=0.15)
    assert law.interval.mean == pytest.approx(2.0, rel=0.01)


def test_the_ratio_of_arms_is_that_of_the_verdicts():
    arms = {"looped": planted([2.0, 2.2, 1.8], 5.0), "plain": planted([1.0, 1.1, 0.9], 5.0)}
    laws = fit_capacity_laws(arms)
    pair = Contrast("plain", laws["looped"].values, laws["plain"].values, (0, 1, 2))
    assert pair.ratio().mean == pytest.approx(2.0, rel=1e-4)
    assert pair.equivalence_p(1.9, 2.1) < 0.01


def test_far_below_the_ceiling_rho_is_bits_per_parameter():
    law = fit_capacity_laws({"plain": [CapacityPoint(0, 1000, 1e9, 1500.0), CapacityPoint(0, 2000, 1e9, 3000.0)]})
    assert law["plain"].values == {0: pytest.approx(1.5, rel=1e-3)}


def test_a_replicate_at_the_ceiling_bounds_rho_from_below_and_a_failed_one_bounds_nothing():
    points = planted([2.0], 5.0)
    points += [CapacityPoint(1, 10_000, 1e4, 0.9e4), CapacityPoint(1, 20_000, 1e4, 0.99e4)]
    points += [CapacityPoint(2, 10_000, 1e5, None), CapacityPoint(2, 20_000, 1e5, 4e4)]
    points += [CapacityPoint(3, 10_000, 1e5, -5.0), CapacityPoint(3, 20_000, 1e5, 4e4)]
    points += [CapacityPoint(4, 10_000, 1e5, 2e4)]
    law = fit_capacity_laws({"plain": points})["plain"]
    assert law.rho[1] == Bracket(0.9, math.inf)
    assert law.rho[2] == law.rho[3] == Bracket(0.0, math.inf)
    assert law.left_out == (4,)
    assert (law.interval.low, law.interval.high, law.interval.n) == (0.0, math.inf, 4)
    assert law.values[1] is None
    assert list(law.sharpness) == [0]
    assert math.isnan(law.bits(10_000, 1e5))


def test_one_arm_that_cannot_be_fitted_leaves_the_other_as_it_was():
    sound = planted([2.0, 2.1], 5.0)
    alone = fit_capacity_laws({"plain": sound})["plain"]
    broken = [CapacityPoint(replicate, 10_000, 1e5, None) for replicate in (0, 1)] + planted([1.0, 1.0], 5.0)
    assert fit_capacity_laws({"plain": sound, "looped": broken})["plain"] == alone
    empty = fit_capacity_laws({"plain": sound, "looped": []})["looped"]
    assert (empty.interval, empty.rho) == (None, {})
    assert math.isnan(empty.misfit)


def test_published_curves_have_the_sharpness_that_is_said_of_them():
    table = pl.read_csv(Path(results.__file__).parent / "published" / "physics33_capacity.csv")
    # Def. 4.3: 1.6e8 names; two genders, dates, cities, universities, majors and employers.
    value_bits = math.log2(2 * 12 * 28 * 200 * 200 * 300 * 100 * 263)
    points = [
        CapacityPoint(people, round(1e6 * size), people * (math.log2(1.6e8 / people) + value_bits), 1e6 * megabits)
        for people, size, megabits in table.select("people", "parameters_millions", "stored_megabits").iter_rows()
    ]
    law = fit_capacity_laws({"GPT-2": points})["GPT-2"]
    assert min(law.sharpness.values()) == pytest.approx(3.5, abs=0.1)
    assert max(law.sharpness.values()) == pytest.approx(8.9, abs=0.1)
    assert SHARPNESS[0] < 3 < 10 < SHARPNESS[1]
    assert [value for value in law.values.values()] == pytest.approx([1.75, 2.14, 2.33, 2.74], abs=0.02)


@pytest.mark.parametrize(
    ("parameters", "ceiling", "message"), [(0, 1.0, "parameters is 0"), (1, 0.0, "ceiling is 0"), (1, math.inf, "inf")]
)
def test_points_are_checked(parameters, ceiling, message):
    with pytest.raises(ValueError, match=message):
        CapacityPoint(0, parameters, ceiling, 1.0)

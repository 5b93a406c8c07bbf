import math

import numpy as np
import pytest

from results.fits.bracket import Bracket
from results.fits.threshold import Logistic, fit_threshold
from results.statistics import Contrast, geometric_mean_interval, mean_interval

SIZES = (1.0, 2.0, 4.0, 8.0, 16.0)
HOPS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def sweep(points, middles, width, scale, direction, floor=0.1, ceiling=0.9):
    """Accuracies on exact logistic curves, `middles` by replicate in units of the covariate."""
    on = math.log if scale == "log" else float
    return {
        x: {
            replicate: float(Logistic(on(middle), width, floor, ceiling, direction, scale).accuracy(x))
            for replicate, middle in enumerate(middles)
        }
        for x in points
    }


def test_the_curve_by_hand():
    falling = Logistic(math.log(4.0), 0.5, 0.2, 0.8, "falling", "log")
    assert falling.accuracy(4.0) == pytest.approx(0.5)
    # One scale e^0.5 to the right the logistic function is 1 / (1 + e).
    assert falling.accuracy(4.0 * math.exp(0.5)) == pytest.approx(0.2 + 0.6 / (1 + math.e))
    assert falling.accuracy([1e-9, 1e9]) == pytest.approx([0.8, 0.2])


@pytest.mark.parametrize("direction", ["rising", "falling"])
@pytest.mark.parametrize(
    ("scale", "points", "middles", "width", "reference"),
    [
        ("log", SIZES, [3.0, 4.0, 6.0], 0.5, geometric_mean_interval),
        ("linear", HOPS, [2.5, 3.0, 4.2], 0.6, mean_interval),
    ],
)
def test_the_fit_finds_planted_thresholds(direction, scale, points, middles, width, reference):
    found = fit_threshold(sweep(points, middles, width, scale, direction), direction, scale, 0.1, 0.9)
    assert [bracket.low for bracket in found.crossings.values()] == pytest.approx(middles, rel=1e-4)
    assert [curve.width for curve in found.curves.values()] == pytest.approx([width] * 3, rel=1e-3)
    expected = reference(middles)
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high), rel=1e-2)
    assert found.range == (points[0], points[-1])


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_step_is_found_half_way_between_failure_and_success(at):
    steps = {x: {0: 0.0 if index <= at else 1.0} for index, x in enumerate(SIZES)}
    found = fit_threshold(steps, "rising", "log", 0.0)
    assert found.crossings[0].low == pytest.approx(SIZES[at] * math.sqrt(2), rel=0.05)


@pytest.mark.parametrize(("scale", "points", "left"), [("log", SIZES, 0.0), ("linear", HOPS, -math.inf)])
@pytest.mark.parametrize("direction", ["rising", "falling"])
def test_a_curve_that_does_not_cross_is_censored_at_the_edge_and_never_extrapolated(scale, points, left, direction):
    # Replicate 0 crosses; 1 would to the right of the range and 2 to its left.
    given = sweep(points, [3.0, 40.0, 0.02], 0.4, scale, direction)
    found = fit_threshold(given, direction, scale, 0.1, 0.9)
    assert found.crossings[0].exact
    assert found.crossings[1] == Bracket(points[-1], math.inf)
    assert found.crossings[2] == Bracket(left, points[0])
    assert (found.interval.low, found.interval.high) == (left, math.inf)
    assert math.isnan(found.interval.mean)
    assert "above" in found.reading
    assert "below" in found.reading


@pytest.mark.parametrize(("accuracy", "expected"), [(0.05, Bracket(16.0, math.inf)), (0.97, Bracket(0.0, 1.0))])
def test_flat_curves_are_censored(accuracy, expected):
    found = fit_threshold({x: {0: accuracy, 1: accuracy} for x in SIZES}, "rising", "log", 0.05)
    assert found.crossings == {0: expected, 1: expected}


def test_noise_is_averaged_over():
    rng = np.random.default_rng(0)
    given = sweep(SIZES, [4.0] * 60, 0.5, "log", "rising")
    noisy = {x: {key: value + rng.normal(0, 0.03) for key, value in values.items()} for x, values in given.items()}
    found = fit_threshold(noisy, "rising", "log", 0.1, 0.9)
    assert found.interval.low < 4.0 < found.interval.high
    assert found.interval.mean == pytest.approx(4.0, rel=0.02)


def test_failed_cells_count_as_worst_and_missing_ones_leave_their_replicate_out():
    steps = {x: {0: 0.0 if x < 4 else 1.0} for x in SIZES}
    failed = {x: {0: None if x < 4 else 1.0} for x in SIZES}
    assert fit_threshold(failed, "rising", "log", 0.0).crossings == fit_threshold(steps, "rising", "log", 0.0).crossings
    partial = {x: {**values, **({1: 0.5} if x < 4 else {})} for x, values in steps.items()}
    found = fit_threshold(partial, "rising", "log", 0.0)
    assert (list(found.crossings), found.left_out) == ([0], (1,))
    none = fit_threshold({1.0: {0: 0.5}, 2.0: {0: 0.5}, 4.0: {}}, "rising", "log", 0.0)
    assert (none.interval, none.left_out, none.reading) == (None, (0,), "not measured")


def test_thresholds_are_compared_over_the_replicates_they_share():
    ours = fit_threshold(sweep(SIZES, [3.0, 4.0, 6.0], 0.5, "log", "rising"), "rising", "log", 0.1, 0.9)
    theirs = fit_threshold(sweep(SIZES, [6.0, 8.0, 9.0, 2.0], 0.5, "log", "rising"), "rising", "log", 0.1, 0.9)
    expected = Contrast("", {0: 3.0, 1: 4.0, 2: 6.0}, {0: 6.0, 1: 8.0, 2: 9.0}, (0, 1, 2)).ratio()
    found = ours.against(theirs)
    assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high), rel=1e-2)
    hops = [
        fit_threshold(sweep(HOPS, at, 0.5, "linear", "falling"), "falling", "linear", 0.1, 0.9)
        for at in ([2, 3], [3, 5])
    ]
    assert hops[1].against(hops[0]).mean == pytest.approx(1.5, rel=1e-3)
    with pytest.raises(ValueError, match=r"scale is 'linear'; it must be 'log'"):
        ours.against(hops[0])


def test_a_censored_arm_bounds_the_comparison_on_one_side():
    beyond = fit_threshold(sweep(SIZES, [40.0, 40.0], 0.3, "log", "rising"), "rising", "log", 0.1, 0.9)
    within = fit_threshold(sweep(SIZES, [4.0, 4.0], 0.3, "log", "rising"), "rising", "log", 0.1, 0.9)
    more = beyond.against(within)
    assert more.low == pytest.approx(4.0, rel=1e-3)
    assert more.high == math.inf
    less = within.against(beyond)
    assert (less.low, less.high) == (0.0, pytest.approx(0.25, rel=1e-3))
    alike = beyond.against(beyond)
    assert (alike.low, alike.high) == (0.0, math.inf)
    assert beyond.against(fit_threshold({x: {7: 0.5} for x in SIZES}, "rising", "log", 0.1, 0.9)) is None


@pytest.mark.parametrize(
    ("points", "scale", "floor", "ceiling", "message"),
    [
        ((1.0, 2.0), "log", 0.0, 1.0, "at least three"),
        ((0.0, 1.0, 2.0), "log", 0.0, 1.0, "above 0 on a log scale"),
        ((math.nan, 1.0, 2.0), "linear", 0.0, 1.0, "must be finite"),
        (SIZES, "log", 0.9, 0.1, "floor < ceiling"),
        (SIZES, "log", 0.0, 1.5, "floor < ceiling"),
    ],
)
def test_bad_input_is_named(points, scale, floor, ceiling, message):
    with pytest.raises(ValueError, match=message):
        fit_threshold({x: {0: 0.5} for x in points}, "rising", scale, floor, ceiling)

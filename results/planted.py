"""Simulated experiments with a planted answer, one kind for each interval of `results.fits`; `coverage.py` runs them.

Each draws what n paired replicates would give and returns the interval by the function that reports use. Sizes, spread
and noise are those of small sweeps: six cells a replicate, replicates a few per cent apart in bits per parameter and
a factor 1.35 apart in thresholds, accuracies that scatter by three points, or by everything where they are all or
nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import expit

from results.fits.bracket import bracketed_interval
from results.fits.capacity_law import CapacityLaw, CapacityPoint, fit_capacity_laws, soft_minimum
from results.fits.gap import gap_closed
from results.fits.multiplier import parameter_multiplier
from results.fits.survival import Times, restricted, steps_to, survival
from results.fits.threshold import fit_threshold
from results.statistics import Contrast, Interval, Values

FLOOR, NOISE, SPREAD = 0.05, 0.03, 0.3
RHO, SHARPNESS = 2.0, 5.0
SIZES = (1, 2, 4, 8, 16, 32)
"""In units of the smallest."""

Intervals = Callable[[float], Interval | None]
"""The interval of one simulated experiment at a confidence; None where it is suppressed."""


@dataclass(frozen=True)
class Planted:
    """A kind of experiment.

    Attributes:
        outcomes: what is drawn, in words.
        method: what the interval is of.
        truth: the planted answer.
        draw: one experiment of n replicates.
        positive: whether the answer can only be positive, so that an interval that starts at 0 is open below.
    """

    outcomes: str
    method: str
    truth: float
    draw: Callable[[np.random.Generator, int], Intervals]
    positive: bool = True


def capacity_law(rng: np.random.Generator, n: int) -> dict[str, CapacityLaw]:
    """Two arms with the same rho, three sizes and two amounts of knowledge, half of the cells near the ceiling."""
    world = rng.normal(0, 0.03, n)
    cells = [(10_000 * size, 30_000.0 * amount) for size in SIZES[:3] for amount in (1, 2)]
    arms = {}
    for arm in ("looped", "plain"):
        rho = RHO * np.exp(world + rng.normal(0, 0.02, n))
        arms[arm] = [
            CapacityPoint(
                replicate,
                parameters,
                ceiling,
                float(soft_minimum(rho[replicate] * parameters, ceiling, SHARPNESS)) * math.exp(rng.normal(0, NOISE)),
            )
            for replicate in range(n)
            for parameters, ceiling in cells
        ]
    return fit_capacity_laws(arms)


def capacity_rho(rng: np.random.Generator, n: int) -> Intervals:
    """Bits per parameter of one arm."""
    law = capacity_law(rng, n)["plain"]
    return lambda confidence: bracketed_interval(law.rho, "log", confidence)


def capacity_ratio(rng: np.random.Generator, n: int) -> Intervals:
    """Ratio of bits per parameter of two arms."""
    laws = capacity_law(rng, n)
    return Contrast("plain", laws["looped"].values, laws["plain"].values, tuple(range(n))).ratio


def graded(rng: np.random.Generator, n: int, middle: float, sizes: Sequence[int]) -> Mapping[int, Values]:
    """Accuracies along sizes: a smooth curve for each replicate, half-way at about `middle`."""
    middles = math.log(middle) + rng.normal(0, SPREAD, n)
    return {size: _noisy(rng, _height(math.log(size) - middles)) for size in sizes}


def all_or_nothing(rng: np.random.Generator, n: int, middle: float, sizes: Sequence[int]) -> Mapping[int, Values]:
    """Accuracies along sizes: each cell finds the rule or does not, half of them at `middle`."""
    found = {size: rng.random(n) < expit((math.log(size) - math.log(middle)) / 0.5) for size in sizes}
    return {size: _noisy(rng, np.where(found[size], 1 - FLOOR, FLOOR)) for size in sizes}


Draw = Callable[[np.random.Generator, int, float, Sequence[int]], Mapping[int, Values]]


def threshold(draw: Draw, middle: float) -> Callable[[np.random.Generator, int], Intervals]:
    """Threshold over sizes."""

    def drawn(rng: np.random.Generator, n: int) -> Intervals:
        sweep = {float(size): values for size, values in draw(rng, n, middle, SIZES).items()}
        found = fit_threshold(sweep, "rising", "log", FLOOR, 1 - FLOOR)
        return lambda confidence: bracketed_interval(found.crossings, "log", confidence)

    return drawn


def multiplier(draw: Draw, times: int) -> Callable[[np.random.Generator, int], Intervals]:
    """Parameter multiplier, where a looped model of size 4 does what a plain one of 4 `times` does."""

    def drawn(rng: np.random.Generator, n: int) -> Intervals:
        plain, looped = draw(rng, n, 12.0, SIZES), draw(rng, n, 12.0, [4 * times])[4 * times]
        return lambda confidence: parameter_multiplier(looped, 4, plain, confidence=confidence).interval

    return drawn


LATE, HORIZON, SCATTER = 2000.0, 2700.0, 0.7
"""Median steps of the late arm, the budget, and the logarithmic spread of the times: a third never gets there."""


def times(rng: np.random.Generator, n: int, median: float) -> Times:
    """Steps to a level, measured every 50 steps until the budget ends."""
    reached = median * np.exp(rng.normal(0, SCATTER, n))
    grid = np.arange(50, HORIZON + 1, 50)
    return {
        replicate: steps_to(0.5, {int(step): float(step >= when) for step in grid})
        for replicate, when in enumerate(reached)
    }


def restricted_difference(rng: np.random.Generator, n: int) -> Intervals:
    """Difference of restricted mean steps between an arm and one that takes twice as long."""
    late, early = (restricted(times(rng, n, median), HORIZON) for median in (LATE, LATE / 2))
    contrast = Contrast("early", late, early, tuple(range(n)))
    return lambda confidence: contrast.difference(HORIZON, confidence)


def restricted_mean(median: float) -> float:
    """Expectation of min(time, horizon), the time lognormal and rounded up to the next measurement."""
    # The sum of the survival function over the grid, as times are multiples of its step.
    grid = np.arange(0, HORIZON, 50)
    with np.errstate(divide="ignore"):
        return float(50 * stats.norm.sf(np.log(grid / median) / SCATTER).sum())


def median_steps(rng: np.random.Generator, n: int) -> Intervals:
    """Kaplan and Meier's median of the late arm."""
    drawn = times(rng, n, LATE)
    return lambda confidence: survival(drawn, confidence).median


def gap(depth: float) -> Callable[[np.random.Generator, int], Intervals]:
    """%Gap where looping closes three quarters of what depth gives."""

    def drawn(rng: np.random.Generator, n: int) -> Intervals:
        world = 0.4 + rng.normal(0, NOISE, n)
        return _gap([_noisy(rng, world + part * depth) for part in (0.75, 0.0, 1.0)])

    return drawn


def gap_all_or_nothing(rng: np.random.Generator, n: int) -> Intervals:
    """The same where 10 % of plain, 70 % of looped and 90 % of deep runs find the rule."""
    return _gap([_noisy(rng, np.where(rng.random(n) < share, 1 - FLOOR, FLOOR)) for share in (0.7, 0.1, 0.9)])


def _gap(arms: list[Values]) -> Intervals:
    looped, plain, deep = arms
    every = tuple(range(len(plain)))
    return lambda confidence: gap_closed(looped, plain, deep, every, least=0.05, confidence=confidence).interval


def _height(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    risen: npt.NDArray[np.float64] = FLOOR + (1 - 2 * FLOOR) * expit(x / 0.5)
    return risen


def _noisy(rng: np.random.Generator, accuracy: npt.NDArray[np.float64]) -> Values:
    return dict(enumerate((accuracy + rng.normal(0, NOISE, len(accuracy))).tolist()))


PLANTED = (
    Planted("law", "capacity_rho", RHO, capacity_rho),
    Planted("law", "capacity_ratio", 1.0, capacity_ratio),
    Planted("graded, mid-range", "threshold", 6.0, threshold(graded, 6.0)),
    Planted("graded, at the edge", "threshold", 28.0, threshold(graded, 28.0)),
    Planted("all or nothing", "threshold", 6.0, threshold(all_or_nothing, 6.0)),
    Planted(
        "a third censored",
        "restricted_difference",
        restricted_mean(LATE) - restricted_mean(LATE / 2),
        restricted_difference,
        positive=False,
    ),
    Planted("a third censored", "median_steps", LATE, median_steps),
    Planted("graded, mid-range", "multiplier", 3.0, multiplier(graded, 3)),
    Planted("graded, at the edge", "multiplier", 8.0, multiplier(graded, 8)),
    Planted("all or nothing", "multiplier", 3.0, multiplier(all_or_nothing, 3)),
    Planted("gap of 0.3", "gap_closed", 0.75, gap(0.3), positive=False),
    Planted("gap of 0.08", "gap_closed", 0.75, gap(0.08), positive=False),
    Planted("all or nothing", "gap_closed", 0.75, gap_all_or_nothing, positive=False),
)

"""Steps until an accuracy is reached, with runs that never got there: a deep arm may only be late.

A run that ended before it reached the level is censored at its last step. Kaplan and Meier's curve and its median say
how an arm fares; two arms are compared by their restricted times, min(time, horizon), which every run has:

    Contrast("deep", restricted(ours, horizon), restricted(theirs, horizon), replicates).difference(worst=horizon)

is the difference of restricted means in steps with its paired t-interval, and `.ratio()` that of geometric means.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from results.fits.bracket import Bracket, exactly
from results.statistics import Interval, Values

Times = Mapping[int, Bracket | None]
"""Steps to the level by replicate: exact, or open above a run's last step. None: the cell failed."""


def steps_to(level: float, metric: Mapping[int, float]) -> Bracket:
    """The first measured step at which `metric`, by step, is at least `level`; open above the last step if at none.

    The run may have reached it at any time since the measurement before: the times are as fine as the measurements.
    """
    if not metric:
        raise ValueError("metric is empty; it must hold at least one step")
    reached = [step for step, value in metric.items() if value >= level]
    return exactly(min(reached)) if reached else Bracket(max(metric), math.inf)


@dataclass(frozen=True)
class Survival:
    """Share of replicates that have not reached the level, against steps (Kaplan and Meier).

    Attributes:
        steps: 0, then every step at which some replicate reached the level.
        share: share that had not reached it just after each of those.
        median: the first step by which half have reached it, nan if half never did in the time that was watched. Its
            interval is between order statistics, at least as wide as it claims whatever the distribution, and open
            (0, inf) where no two order statistics suffice: at 95 % below 6 replicates, at 90 % below 5.
        reached: replicates that reached it.
        watched: the last step watched in any replicate.
    """

    steps: tuple[float, ...]
    share: tuple[float, ...]
    median: Interval
    reached: int
    watched: float


def survival(times: Times, confidence: float = 0.95) -> Survival:
    """Kaplan and Meier's estimate. A failed cell counts as one that never reaches the level, however long it is run."""
    known = [bracket for bracket in times.values() if bracket is not None]
    if not known:
        raise ValueError("times hold no replicate that ran; they must hold at least one")
    _check(times)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; it must be between 0 and 1, exclusive")
    watched = max(bracket.low for bracket in known)
    lows = np.array([bracket.low if bracket is not None else math.inf for bracket in times.values()])
    highs = np.array([bracket.high if bracket is not None else math.inf for bracket in times.values()])
    events = np.unique(highs[np.isfinite(highs)])
    at_risk = (lows[:, None] >= events).sum(axis=0)
    share = np.cumprod(1 - (highs[:, None] == events).sum(axis=0) / at_risk)
    # A product of shares may miss one half by a rounding error.
    half = events[share <= 0.5 + 1e-12]
    low, high = _median_ends(lows, highs, confidence)
    median = Interval(float(half[0]) if half.size else math.nan, low, high, confidence, len(times))
    return Survival((0.0, *events.tolist()), (1.0, *share.tolist()), median, int(np.isfinite(highs).sum()), watched)


def restricted(times: Times, horizon: float) -> Values:
    """min(time, horizon) by replicate, in steps; None for a failed cell, which `Contrast.difference` counts as worst.

    `horizon` must be a step that every run either reached or saw the level before.
    """
    _check(times)
    for replicate, bracket in times.items():
        if bracket is not None and not bracket.exact and bracket.low < horizon:
            raise ValueError(
                f"horizon is {horizon}; it must be at most {bracket.low:g}, where replicate {replicate} ended"
            )
    return {key: None if bracket is None else min(bracket.low, horizon) for key, bracket in times.items()}


def _check(times: Times) -> None:
    for replicate, bracket in times.items():
        if bracket is not None and not (bracket.exact or math.isinf(bracket.high)):
            raise ValueError(f"times of replicate {replicate} are {bracket}; they must be exact or open above")


def _median_ends(
    lows: npt.NDArray[np.float64], highs: npt.NDArray[np.float64], confidence: float
) -> tuple[float, float]:
    """The k-th smallest and k-th largest time, each at its worst; k is the largest whose tail is small enough."""
    n, tail = len(lows), (1 - confidence) / 2
    order = int((stats.binom.cdf(np.arange(n), n, 0.5) <= tail).sum())
    if order == 0:
        return 0.0, math.inf
    return float(np.sort(lows)[order - 1]), float(np.sort(highs)[n - order])

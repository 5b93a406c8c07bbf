"""Manipulation curves: where along a covariate (hops, loops, parameters, FLOPs, samples, load) accuracy is half-way.

Accuracy goes from its floor to its ceiling along a logistic curve; the threshold is the covariate half-way between.
A replicate whose curve is half-way outside the measured range has its threshold censored there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.special import expit

from results.fits.bracket import Bracket, Brackets, Scale, bracketed_interval, exactly, in_words
from results.statistics import Interval, Values, counted

Sweep = Mapping[float, Values]
"""Along a covariate, the metric by replicate."""

Direction = Literal["rising", "falling"]
"""Whether accuracy rises with the covariate, as with loops, or falls with it, as with hops."""

_Array = npt.NDArray[np.float64]

_TEN_TO_NINETY = 2 * math.log(9.0)
"""Width of a logistic curve from 10 to 90 % of its height, in its scale."""


@dataclass(frozen=True)
class Logistic:
    """accuracy = floor + (ceiling - floor) / (1 + exp(-(x - midpoint) / width)), the sign turned where it falls.

    Attributes:
        midpoint: in units of x, which is the covariate or, on a log scale, its natural logarithm.
        width: in the same; 4.4 of them lead from 10 to 90 % of the height.
        floor: accuracy far on one side.
        ceiling: accuracy far on the other.
        direction: which side is which.
        scale: of x.
    """

    midpoint: float
    width: float
    floor: float
    ceiling: float
    direction: Direction
    scale: Scale

    def accuracy(self, covariate: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The curve at values of the covariate."""
        return _logistic(
            _on(self.scale, covariate), self.midpoint, self.width, self.floor, self.ceiling, self.direction
        )


@dataclass(frozen=True)
class Threshold:
    """Where accuracy is half-way between floor and ceiling.

    Attributes:
        interval: mean (linear) or geometric mean (log) over replicates, in units of the covariate; open where some
            replicate's curve does not cross in range, its estimate then nan. None if no replicate was fitted.
        crossings: threshold of each replicate, or the edge beyond which it lies.
        curves: the fitted curve of each replicate; it says nothing outside `range`.
        range: smallest and largest value of the covariate.
        scale: on which curves were fitted and replicates averaged.
        left_out: replicates with fewer than three values.
    """

    interval: Interval | None
    crossings: Brackets
    curves: Mapping[int, Logistic]
    range: tuple[float, float]
    scale: Scale
    left_out: tuple[int, ...]

    @property
    def reading(self) -> str:
        """The threshold in words, censored replicates counted."""
        return in_words(self.crossings, self.interval)

    def against(self, theirs: "Threshold", confidence: float = 0.95) -> Interval | None:
        """Interval over paired replicates of this threshold over the other (log), or minus the other (linear).

        A replicate that is censored in one arm bounds it on one side; censored alike in both, it bounds nothing.
        None where no replicate was fitted in both.
        """
        if self.scale != theirs.scale:
            raise ValueError(f"scale is {theirs.scale!r}; it must be {self.scale!r} to be compared")
        both = {key: (self.crossings[key], theirs.crossings[key]) for key in self.crossings.keys() & theirs.crossings}
        relation = _quotient if self.scale == "log" else _difference
        return bracketed_interval({key: relation(*both[key]) for key in sorted(both)}, self.scale, confidence)


def fit_threshold(
    sweep: Sweep,
    direction: Direction,
    scale: Scale,
    floor: float,
    ceiling: float = 1.0,
    worst: float = 0.0,
    confidence: float = 0.95,
) -> Threshold:
    """Fit a logistic curve to each replicate by least squares of accuracy, and average their midpoints.

    All points weigh the same: replicates scatter by far more than the examples behind one accuracy. A curve is
    taken to rise from 10 to 90 % over no less than the gap between its closest points, as no data tell it from steeper.

    Args:
        sweep: accuracy, a share, along the covariate; a failed cell (None) counts as `worst`. A replicate that has not
            run at some value, or had nothing to measure there, is left out of the values there.
        direction: whether accuracy rises or falls with the covariate.
        scale: "log" for parameters, FLOPs, samples and whatever else is varied by factors.
        floor: accuracy that takes no skill, such as the best of the predictors that compose nothing.
        ceiling: accuracy of a model that always knows how.
        worst: what a failed cell counts as.
        confidence: nominal, two-sided.
    """
    if len(sweep) < 3:
        raise ValueError(f"sweep has covariate values {sorted(sweep)}; it must have at least three")
    if not 0 <= floor < ceiling <= 1:
        raise ValueError(f"floor and ceiling are {floor!r} and {ceiling!r}; they must be 0 <= floor < ceiling <= 1")
    if not all(math.isfinite(value) and (scale == "linear" or value > 0) for value in sweep):
        allowed = "finite" if scale == "linear" else "finite and above 0 on a log scale"
        raise ValueError(f"sweep has covariate values {sorted(sweep)}; they must be {allowed}")
    crossings, curves, left_out = {}, {}, []
    for replicate in sorted({replicate for values in sweep.values() for replicate in values}):
        covariate = np.array(sorted(value for value in sweep if replicate in sweep[value]), dtype=np.float64)
        if len(covariate) < 3:
            left_out.append(replicate)
            continue
        accuracy = np.array([counted(sweep[value], [replicate], worst)[0] for value in covariate.tolist()])
        curve = _fit(_on(scale, covariate), accuracy, floor, ceiling, direction, scale)
        curves[replicate] = curve
        crossings[replicate] = _crossing(curve, covariate)
    interval = bracketed_interval(crossings, scale, confidence)
    return Threshold(interval, crossings, curves, (min(sweep), max(sweep)), scale, tuple(left_out))


def _fit(
    x: _Array,
    accuracy: _Array,
    floor: float,
    ceiling: float,
    direction: Direction,
    scale: Scale,
) -> Logistic:
    span = x[-1] - x[0]
    narrow, wide = np.diff(x).min() / _TEN_TO_NINETY, span
    # A coarse grid first: between steep data the squares have several valleys.
    middles, widths = np.linspace(x[0] - span, x[-1] + span, 61), np.geomspace(narrow, wide, 6)
    grid = np.stack(np.meshgrid(middles, widths), axis=-1).reshape(-1, 2)
    drawn = _logistic(x, grid[:, :1], grid[:, 1:], floor, ceiling, direction)
    start = grid[np.square(drawn - accuracy).sum(axis=1).argmin()]

    def residuals(unknown: _Array) -> _Array:
        return _logistic(x, unknown[0], math.exp(unknown[1]), floor, ceiling, direction) - accuracy

    def jacobian(unknown: _Array) -> _Array:
        height, width = ceiling - floor, math.exp(unknown[1])
        risen = (_logistic(x, unknown[0], width, floor, ceiling, direction) - floor) / height
        by_x = height * risen * (1 - risen) / width * (1 if direction == "rising" else -1)
        return -np.column_stack([by_x, by_x * (x - unknown[0])])

    found = least_squares(
        residuals,
        [start[0], math.log(start[1])],
        jac=jacobian,
        bounds=([middles[0], math.log(narrow) - 1e-9], [middles[-1], math.log(wide) + 1e-9]),
    )
    return Logistic(float(found.x[0]), math.exp(found.x[1]), floor, ceiling, direction, scale)


def _crossing(curve: Logistic, covariate: _Array) -> Bracket:
    first, last = float(covariate[0]), float(covariate[-1])
    if curve.midpoint > _on(curve.scale, last):
        return Bracket(last, math.inf)
    if curve.midpoint < _on(curve.scale, first):
        return Bracket(0.0 if curve.scale == "log" else -math.inf, first)
    return exactly(math.exp(curve.midpoint) if curve.scale == "log" else curve.midpoint)


def _logistic(
    x: _Array, midpoint: _Array | float, width: _Array | float, floor: float, ceiling: float, direction: Direction
) -> _Array:
    sign = 1 if direction == "rising" else -1
    risen: _Array = expit(sign * (x - midpoint) / width)
    return floor + (ceiling - floor) * risen


def _on(scale: Scale, covariate: npt.ArrayLike) -> _Array:
    array = np.asarray(covariate, dtype=np.float64)
    return np.log(array) if scale == "log" else array


def _difference(ours: Bracket, theirs: Bracket) -> Bracket:
    return Bracket(ours.low - theirs.high, ours.high - theirs.low)


def _quotient(ours: Bracket, theirs: Bracket) -> Bracket:
    return Bracket(ours.low / theirs.high, math.inf if theirs.low == 0 else ours.high / theirs.low)

"""Intervals over replicates: of means, of a paired difference, of a paired ratio; equivalence; best of n; shares.

A replicate is a world of data and an initialisation, and arms are paired on it. Means get Student's t: with the few
replicates that an experiment affords, it covers what it claims for outcomes that scatter around one value, where a
bootstrap does not. For outcomes that are all or nothing no interval of the mean does; there `share_above` is exact, and
belongs beside it (`coverage.py` simulates all three). Which interval decides a hypothesis is said in `verdict.py`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special  # not scipy.stats, which takes a second to import

Values = Mapping[int, float | None]
"""A metric by replicate. None: the cell failed, or it has no value for this metric."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        mean: the estimate that it surrounds.
        low: lower end; -inf (0 for a ratio) where the data set no bound.
        high: upper end; inf where the data set no bound.
        confidence: nominal two-sided coverage.
        n: replicates behind it, failed ones included.
        left_out: replicates without a value that are not behind it, as there is no worst value that they could count
            as. What is left may be better than the whole: whoever shows it says so.
    """

    mean: float
    low: float
    high: float
    confidence: float
    n: int
    left_out: int = 0

    def inside(self, low: float, high: float) -> bool:
        """Whether all of it lies strictly between `low` and `high`."""
        return low < self.low and self.high < high

    def outside(self, low: float, high: float) -> bool:
        """Whether all of it lies strictly below `low` or strictly above `high`."""
        return self.high < low or self.low > high


@dataclass(frozen=True)
class Contrast:
    """An arm against one partner.

    Attributes:
        partner: name of the partner.
        ours: the arm's values.
        theirs: the partner's values.
        replicates: the denominator: every replicate that was run in both arms, however it ended. A replicate without a
            value in `ours` or `theirs` failed; one that has still to run belongs in a later denominator, not in this.
    """

    partner: str
    ours: Values
    theirs: Values
    replicates: tuple[int, ...]

    def difference(self, worst: float, confidence: float = 0.95) -> Interval:
        """Interval of the mean of ours minus theirs. A failed cell counts as `worst`, in whichever arm it failed."""
        ours, theirs = (counted(values, self.replicates, worst) for values in (self.ours, self.theirs))
        return mean_interval(ours - theirs, confidence)

    def ratio(self, confidence: float = 0.95) -> Interval:
        """Interval of the geometric mean of ours over theirs.

        The t-interval of the log ratios, exponentiated. No ratio can be formed with a failed cell, nor with a value
        that is not positive; one such replicate could have been anything, so that the interval becomes (0, inf).
        """
        logs = self._log_ratios()
        if logs is None:
            return Interval(math.nan, 0.0, math.inf, _checked_confidence(confidence), len(self.replicates))
        return _exponential(mean_interval(logs, confidence))

    def equivalence_p(self, low: float, high: float) -> float:
        """P-value of two one-sided t-tests (TOST) that the geometric mean ratio lies between `low` and `high`.

        The larger of the two. It is below alpha exactly where the ratio's 1 - 2 alpha interval lies inside the bounds;
        it is 1 where no ratio can be formed or there are fewer than two replicates.
        """
        if not 0 < low < high:
            raise ValueError(f"bounds are {low!r} and {high!r}; they must be 0 < low < high")
        logs = self._log_ratios()
        if logs is None or len(logs) < 2:
            return 1.0
        mean, error = logs.mean(), _standard_error(logs)
        margins = np.array([mean - math.log(low), math.log(high) - mean])
        if error == 0:
            return 0.0 if (margins > 0).all() else 1.0
        return float(special.stdtr(len(logs) - 1, -margins / error).max())

    def _log_ratios(self) -> npt.NDArray[np.float64] | None:
        ours, theirs = (counted(values, self.replicates, worst=0.0) for values in (self.ours, self.theirs))
        if (ours <= 0).any() or (theirs <= 0).any():
            return None
        return np.log(ours) - np.log(theirs)


def counted(values: Values, replicates: Iterable[int], worst: float | None) -> npt.NDArray[np.float64]:
    """The value of each replicate in turn, `worst` where it has none. Failed cells stay in the denominator.

    Only where there is no worst value (None) are replicates without a value left out.
    """
    found = (values.get(replicate) for replicate in replicates)
    singles = (worst if value is None else value for value in found)
    return np.array([single for single in singles if single is not None], dtype=np.float64)


def replicate_interval(values: Values, worst: float | None) -> Interval:
    """Mean over all replicates of `values` with its t-interval, those without a value as `counted` has it.

    Undefined, NaN, where all are left out.
    """
    singles = counted(values, values, worst)
    left_out = len(values) - singles.size
    if left_out and not singles.size:
        return Interval(math.nan, -math.inf, math.inf, 0.95, 0, left_out)
    return replace(mean_interval(singles), left_out=left_out)


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t-interval of the mean.

    One value bounds nothing: its interval is (-inf, inf). Values that are all equal give an interval of zero width,
    which is what t says of them, although it does not mean that the next value must be equal.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"values are {array.tolist()}; they must be at least one finite number")
    _checked_confidence(confidence)
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, -math.inf, math.inf, confidence, 1)
    half = student_quantile(array.size, confidence) * _standard_error(array)
    return Interval(mean, mean - half, mean + half, confidence, array.size)


def student_quantile(n: int, confidence: float) -> float:
    """Standard errors between the mean of n values and either end of its t-interval."""
    return float(special.stdtrit(n - 1, (1 + confidence) / 2))


def geometric_mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval of the geometric mean of positive values: the t-interval of their logarithms, exponentiated."""
    array = np.asarray(values, dtype=np.float64)
    if not (array > 0).all():
        raise ValueError(f"values are {array.tolist()}; they must be above 0 to have a geometric mean")
    return _exponential(mean_interval(np.log(array), confidence))


@dataclass(frozen=True)
class BestOf:
    """The largest of n values. It grows with n and has no interval: print it only beside papers that print it."""

    value: float
    n: int


def best_of(values: npt.ArrayLike) -> BestOf:
    """The best of n, higher being better."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("values are empty; best of n needs at least one")
    return BestOf(float(array.max()), array.size)


def share_above(values: npt.ArrayLike, threshold: float, confidence: float = 0.95) -> Interval:
    """Share of replicates strictly above `threshold`, with its exact (Clopper-Pearson) interval.

    For outcomes that come in two kinds, such as runs that found the rule and runs that did not.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("values are empty; a share needs at least one")
    _checked_confidence(confidence)
    n, above, tail = array.size, int((array > threshold).sum()), (1 - confidence) / 2
    low = float(special.betaincinv(above, n - above + 1, tail)) if above > 0 else 0.0
    high = float(special.betaincinv(above + 1, n - above, 1 - tail)) if above < n else 1.0
    return Interval(above / n, low, high, confidence, n)


def _standard_error(values: npt.NDArray[np.float64]) -> float:
    # Equal values leave a rounding error in the mean, and so in the deviation; their spread is exactly zero.
    return 0.0 if np.ptp(values) == 0 else float(values.std(ddof=1)) / math.sqrt(values.size)


def _exponential(log: Interval) -> Interval:
    return Interval(_exp(log.mean), _exp(log.low), _exp(log.high), log.confidence, log.n)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _checked_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; it must be between 0 and 1, exclusive")
    return confidence

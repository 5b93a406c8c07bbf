"""Parameter multiplier: how many times the looped model's parameters the plain model needs to match it.

Asked of bits it is about storage, asked of accuracy about use: the "2 to 3 times" of arXiv 2510.25741 taken apart.

The plain model matches at the size where its mean, over replicates, equals the looped arm's. The interval holds every
size within range at which a paired t-test does not tell the two apart: the t-test inverted, as in Fieller's theorem. So
outcomes that are all or nothing are treated as well, or as badly, as Student's t treats their means.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from results.capacity import SATURATION
from results.statistics import Interval, Values, counted

_STEPS = 200
"""Points between two sizes at which the test is made; the ends are interpolated between them."""


@dataclass(frozen=True)
class Multiplier:
    """Parameters of the plain model over those of the looped one, where their metrics are equal.

    Attributes:
        interval: the estimate is nan where the means do not meet in range; an end is 0 or inf where the test cannot
            tell the two apart, or the looped arm lies beyond the plain one, at that end of the range. None if
            `reason` says why nothing can be said.
        range: smallest and largest multiplier that the plain arm's sizes can show.
        reason: why there is no interval, else None.
    """

    interval: Interval | None
    range: tuple[float, float]
    reason: str | None

    @property
    def reading(self) -> str:
        """What to print: the multiplier and its interval, or which end of the range it lies beyond."""
        if self.interval is None:
            return str(self.reason)
        interval, (least, most) = self.interval, self.range
        if interval.low >= most:
            found = f"above {most:.3g}: beyond range"
        elif interval.high <= least:
            found = f"below {least:.3g}: beyond range"
        else:
            found = f"no match from {least:.3g} to {most:.3g}" if math.isnan(interval.mean) else f"{interval.mean:.3g}"
        ends = f"{100 * interval.confidence:.4g} % {interval.low:.3g} to {interval.high:.3g}"
        return f"{found} ({ends}, n={interval.n})"


def parameter_multiplier(
    looped: Values,
    parameters: int,
    plain: Mapping[int, Values],
    ceiling: float | None = None,
    worst: float = 0.0,
    confidence: float = 0.95,
) -> Multiplier:
    """Invert the plain arm's curve, linear in the logarithm of the parameters between sizes, at the looped arm's value.

    Replicates count that have ended in the looped arm and at every size of the plain arm.

    Args:
        looped: the metric of the looped arm by replicate: bits for storage, an accuracy for use. Higher is better.
        parameters: parameters of the looped arm, counted as those of the plain arm are.
        plain: by its parameters, the metric of the plain arm by replicate.
        ceiling: the most that the metric can be where it is bits, in the same units. A looped mean above `SATURATION`
            of it tells no sizes apart, and gives no multiplier.
        worst: what a failed cell (None) counts as.
        confidence: nominal, two-sided.
    """
    if parameters < 1 or len(plain) < 2 or min(plain) < 1:
        given = f"{parameters} and {sorted(plain)}"
        raise ValueError(f"parameters and sizes of plain are {given}; they must be at least 1, and plain have two")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; it must be between 0 and 1, exclusive")
    multiples = np.array(sorted(plain), dtype=np.float64) / parameters
    ends = (float(multiples[0]), float(multiples[-1]))
    replicates = sorted(set(looped).intersection(*plain.values()))
    if len(replicates) < 2:
        return Multiplier(None, ends, f"{len(replicates)} replicates have ended at every size; there must be 2")
    target_N = counted(looped, replicates, worst)
    if ceiling is not None and target_N.mean() > SATURATION * ceiling:
        share = f"{100 * target_N.mean() / ceiling:.0f} % of the ceiling is reached"
        return Multiplier(None, ends, f"{share}, more than {100 * SATURATION:.0f} %: sizes cannot be told apart")
    plain_PN = np.array([counted(plain[size], replicates, worst) for size in sorted(plain)])
    return Multiplier(_inverted(multiples, target_N - plain_PN, confidence), ends, None)


def _inverted(multiples_P: npt.NDArray[np.float64], short_PN: npt.NDArray[np.float64], confidence: float) -> Interval:
    """Where along the multiples the paired shortfall of the plain arm is 0."""
    n, logs_P = short_PN.shape[1], np.log(multiples_P)
    log_G = np.unique(np.concatenate([np.linspace(*pair, _STEPS + 1) for pair in itertools.pairwise(logs_P)]))
    short_GN = np.array([np.interp(log_G, logs_P, short_P) for short_P in short_PN.T]).T
    mean_G = short_GN.mean(axis=1)
    half_G = stats.t.ppf((1 + confidence) / 2, df=n - 1) * short_GN.std(axis=1, ddof=1) / math.sqrt(n)
    least, most = float(multiples_P[0]), float(multiples_P[-1])
    # The first size that the test lets stand, and, coming from the other side, the last.
    low = _first(log_G, mean_G - half_G)
    high = _first(-log_G[::-1], -(mean_G + half_G)[::-1])
    met = mean_G[0] >= 0 and mean_G.min() <= 0
    return Interval(
        math.exp(_first(log_G, mean_G)) if met else math.nan,
        most if math.isinf(low) else 0.0 if low == log_G[0] else math.exp(low),
        least if math.isinf(high) else math.inf if high == -log_G[-1] else math.exp(-high),
        confidence,
        n,
    )


def _first(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """The first x at which y is not above 0, interpolated; inf if it is above everywhere."""
    below = np.flatnonzero(y <= 0)
    if below.size == 0:
        return math.inf
    right = int(below[0])
    if right == 0:
        return float(x[0])
    return float(np.interp(0.0, [y[right], y[right - 1]], [x[right], x[right - 1]]))

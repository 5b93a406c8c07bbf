"""`Bracket`: what one replicate says of a number that its range may be too short to show; intervals over brackets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from results.statistics import Interval, Values, geometric_mean_interval, mean_interval

Scale = Literal["linear", "log"]
"""Whether a quantity is averaged and interpolated as it is or in its logarithm; "log" needs it to be positive."""


@dataclass(frozen=True)
class Bracket:
    """A number known to lie between two ends.

    Attributes:
        low: lower end. -inf (0 for what is positive): it lies left of the range, by an unknown amount.
        high: upper end, equal to `low` where the number is known. inf: it lies right of the range.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"low and high are {self.low!r} and {self.high!r}; they must be numbers with low <= high")

    @property
    def exact(self) -> bool:
        """Whether the number is known."""
        return self.low == self.high


def exactly(value: float) -> Bracket:
    """The bracket of a known number."""
    return Bracket(value, value)


Brackets = Mapping[int, Bracket]
"""A bracket by replicate."""


def exact_values(brackets: Brackets) -> Values:
    """The known number by replicate, None where a replicate has but a bracket. What `Contrast` takes."""
    return {replicate: bracket.low if bracket.exact else None for replicate, bracket in brackets.items()}


def bracketed_interval(brackets: Brackets, scale: Scale, confidence: float = 0.95) -> Interval | None:
    """Interval of the mean (linear) or geometric mean (log) of what is bracketed; None where nothing is.

    Its lower end is that of the t-interval of the lower ends, whose mean is at most the mean in question; its upper end
    that of the upper ends. So it is the t-interval where all is known, open where a bracket is, and its estimate is nan
    unless all is known. Lower ends that are all at the edge of the range have no spread: the end then lies at the edge.
    """
    if not brackets:
        return None
    of = mean_interval if scale == "linear" else geometric_mean_interval
    nothing = -math.inf if scale == "linear" else 0.0
    lows = np.array([bracket.low for bracket in brackets.values()])
    highs = np.array([bracket.high for bracket in brackets.values()])
    low = of(lows, confidence).low if (lows > nothing).all() else nothing
    high = of(highs, confidence).high if np.isfinite(highs).all() else math.inf
    mean = of(lows, confidence).mean if all(bracket.exact for bracket in brackets.values()) else math.nan
    return Interval(mean, low, high, confidence, len(brackets))


def in_words(brackets: Brackets, interval: Interval | None) -> str:
    """What to print: estimate and interval, or how many replicates lie beyond which edge, then the interval."""
    if interval is None:
        return "not measured"
    n = len(brackets)
    known = [bracket for bracket in brackets.values() if bracket.exact]
    if len(known) == n:
        parts = [f"{interval.mean:.3g}"]
    else:
        others = [bracket for bracket in brackets.values() if not bracket.exact]
        names = [_beyond(bracket) for bracket in others]
        parts = [f"{name} in {names.count(name)} of {n}" for name in dict.fromkeys(names)]
        if known:
            parts.append(f"{min(b.low for b in known):.3g} to {max(b.low for b in known):.3g} in {len(known)} of {n}")
    ends = f"{100 * interval.confidence:.4g} % {interval.low:.3g} to {interval.high:.3g}"
    return f"{', '.join(parts)} ({ends}, n={interval.n})"


def _beyond(bracket: Bracket) -> str:
    if math.isinf(bracket.high):
        return "unknown" if bracket.low in (0.0, -math.inf) else f"above {bracket.low:.3g}"
    return f"below {bracket.high:.3g}"

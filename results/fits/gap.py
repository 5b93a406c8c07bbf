"""%Gap of Saunshi et al. 2025 (arXiv 2502.17416): how much of what depth gives at equal FLOPs looping gives too.

    %Gap = (looped - iso-parameter) / (iso-FLOP - iso-parameter)

It means nothing where depth gives nothing, and is then not given. Nor is it to be trusted where each run is all or
nothing: eight such replicates cover 92 % instead of 95, three 62 (`coverage.csv`).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from results.statistics import Contrast, Interval, Values, counted


@dataclass(frozen=True)
class GapClosed:
    """The share of the gap that the looped arm closes: 0 none, 1 all, more where it beats the deeper model.

    Attributes:
        interval: ratio of the means with Fieller's interval, as a share (times 100 for %Gap); None if suppressed.
        gap: iso-FLOP minus iso-parameter, in units of the metric: what there is to close.
        reason: why it is suppressed, else None.
    """

    interval: Interval | None
    gap: Interval
    reason: str | None


def gap_closed(
    looped: Values,
    same_parameters: Values,
    same_flops: Values,
    replicates: tuple[int, ...],
    least: float,
    worst: float = 0.0,
    confidence: float = 0.95,
) -> GapClosed:
    """The ratio of paired mean differences, by Fieller's theorem, unless the gap cannot be told from nothing.

    Args:
        looped: the metric of the looped arm k⊗R by replicate, higher being better.
        same_parameters: that of k⊗1.
        same_flops: that of kR⊗1.
        replicates: those that were run in all three, however they ended.
        least: smallest mean gap, in units of the metric, that is worth dividing by.
        worst: what a failed cell (None) counts as.
        confidence: nominal, two-sided: of the ratio, and of the gap, whose interval must lie above 0.
    """
    if not least >= 0:
        raise ValueError(f"least is {least!r}; it must be at least 0")
    gap = Contrast("same_parameters", same_flops, same_parameters, replicates).difference(worst, confidence)
    ends = f"{gap.mean:.3g} ({100 * confidence:.4g} % {gap.low:.3g} to {gap.high:.3g}, n={gap.n})"
    if gap.low <= 0:
        return GapClosed(None, gap, f"the gap between equal FLOPs and equal parameters, {ends}, is not above 0")
    if gap.mean < least:
        return GapClosed(None, gap, f"the gap between equal FLOPs and equal parameters, {ends}, is below {least:g}")
    base = counted(same_parameters, replicates, worst)
    gained, whole = counted(looped, replicates, worst) - base, counted(same_flops, replicates, worst) - base
    return GapClosed(_fieller(gained, whole, confidence), gap, None)


def _fieller(over: npt.NDArray[np.float64], under: npt.NDArray[np.float64], confidence: float) -> Interval:
    """Interval of mean(over) / mean(under): the ratios r that a t-test of mean(over - r under) = 0 lets stand.

    A proper interval wherever the t-interval of mean(under) at the same confidence leaves out 0.
    """
    n = len(over)
    t = float(stats.t.ppf((1 + confidence) / 2, df=n - 1))
    covariance = np.cov(over, under) / n
    a = under.mean() ** 2 - t**2 * covariance[1, 1]
    b = over.mean() * under.mean() - t**2 * covariance[0, 1]
    c = over.mean() ** 2 - t**2 * covariance[0, 0]
    # Rounding may leave the smallest negative number where there is no spread.
    half = float(np.sqrt(max(b * b - a * c, 0.0)))
    return Interval(
        float(over.mean() / under.mean()), float(b - half) / float(a), float(b + half) / float(a), confidence, n
    )

"""The metrics: by name, whether more or less of each is better, and what a replicate without a value counts as.

What each one is stands with the evaluation that measures it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """What is known of a metric.

    Attributes:
        better: whether `higher` or `lower` values are better; None where neither is.
        worst: what a replicate that failed counts as: nothing answered, nothing stored. (Bits go below 0 where a model
            is surer of what is wrong than one that knows nothing; a failed one is taken to know nothing.) None where
            there is no such value (a loss has no upper end): then it can only be left out, which whoever shows the rest
            has to say.
    """

    better: Literal["higher", "lower"] | None = None
    worst: float | None = None


_FROM_ZERO = Metric("higher", 0.0)
_LOSS = Metric("lower")

METRICS: Mapping[str, Metric] = {
    "accuracy": _FROM_ZERO,
    "accuracy_given_recall": _FROM_ZERO,
    "bits": _FROM_ZERO,
    "bits_per_parameter": _FROM_ZERO,
    "stored/": _FROM_ZERO,
    "depth/accuracy": _FROM_ZERO,
    "exits/accuracy/": _FROM_ZERO,
    "exits/control/": _FROM_ZERO,
    "nats": _LOSS,
    "nats/": _LOSS,
    "loss_nats": _LOSS,
}
"""By name; one that ends in a slash stands for all that begin with it. Of every other metric nothing is known."""


def metric(name: str) -> Metric:
    """What is known of a metric; of one that is not in `METRICS`, that neither is better and none the worst."""
    families = (known for known in METRICS if known.endswith("/") and name.startswith(known))
    return METRICS.get(name, METRICS.get(next(families, ""), Metric()))

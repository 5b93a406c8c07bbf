"""Bits of knowledge in a model, from what its predictions cost: the estimator of Physics of Language Models, Part 3.3.

Losses come in as natural-log cross-entropies *summed* over the tokens of a name or a value; bits go out. Def. 4.3 of
arXiv 2404.05405, for N people whose names are drawn from N0 and whose values from S0 possibilities:

    R     = [N log2(N0 / e^p1) + N log2(S0 / e^p2)] / P
    R_max = [N log2(N0 / N)    + N log2 S0        ] / P

with p1 and p2 the mean over people of the summed nats of the name and of all values, and P the parameters, embeddings
included. The pools that values come from count as known for free. arXiv 2510.25741 prints the same formulas with
S0 * e^p2 and N0 * N; a model would then score more the worse it predicts, so the quotients above are what is meant.

Nothing is clamped, for a person or for an attribute: clamping before the mean is biased upwards. A model that predicts
worse than chance has negative bits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

SATURATION = 0.8
"""Largest share of the ceiling at which bits can still be called a capacity."""

STABILITY = 0.05
"""Relative change of bits per parameter that a doubling must stay below."""


@dataclass(frozen=True)
class StoredBits:
    """Knowledge of N people, in bits for all of them together.

    Attributes:
        name: bits of their names.
        values: bits of each attribute, in the order of the spans.
        ceiling: what a model that knows all of it stores.
    """

    name: float
    values: tuple[float, ...]
    ceiling: float

    @property
    def total(self) -> float:
        """Bits of names and values."""
        return self.name + math.fsum(self.values)

    def per_parameter(self, parameters: int) -> float:
        """R: bits per parameter."""
        return self.total / _checked_parameters(parameters)

    def ceiling_per_parameter(self, parameters: int) -> float:
        """R_max: bits per parameter of a model that knows everything."""
        return self.ceiling / _checked_parameters(parameters)


def stored_bits(
    name_nats_N: npt.ArrayLike, value_nats_NK: npt.ArrayLike, people: int, name_bits: float, value_bits_K: npt.ArrayLike
) -> StoredBits:
    """Bits stored about `people` people, from the summed nats of each measured person's name and K values.

    Args:
        name_nats_N: nats of the name of each measured person, who may be a sample of all.
        value_nats_NK: nats of each of their values.
        people: how many people the model was trained on: the N of the equations.
        name_bits: log2 N0.
        value_bits_K: log2 of the possibilities of each value; their sum is log2 S0.

    Raises:
        ValueError: a shape or number is impossible, or everyone was measured and the bits exceed the ceiling, which no
            model can do: the spans were then read wrongly, or answers were visible in the context.
    """
    name_nats_N = _checked_nats("name_nats_N", name_nats_N, ndim=1)
    value_nats_NK = _checked_nats("value_nats_NK", value_nats_NK, ndim=2)
    value_bits_K = np.asarray(value_bits_K, dtype=np.float64)
    if value_nats_NK.shape != (len(name_nats_N), len(value_bits_K)):
        allowed = (len(name_nats_N), len(value_bits_K))
        raise ValueError(f"value_nats_NK has shape {value_nats_NK.shape}; it must be {allowed}")
    if not 1 <= people <= 2**name_bits * (1 + 1e-12):  # 2 ** log2(100) is less than 100
        raise ValueError(f"people is {people}; it must be at least 1 and at most 2**name_bits = {2**name_bits:g}")
    name = people * (name_bits - name_nats_N.mean() / math.log(2))
    values_K = people * (value_bits_K - value_nats_NK.mean(axis=0) / math.log(2))
    ceiling = people * (name_bits - math.log2(people) + value_bits_K.sum())
    bits = StoredBits(float(name), tuple(values_K.tolist()), float(ceiling))
    if len(name_nats_N) == people and bits.total > ceiling + 1e-6 * abs(ceiling) + 1e-6:
        raise ValueError(f"stored bits are {bits.total:g}; they must be at most the ceiling {ceiling:g}")
    return bits


def fact_bits(nats_F: npt.ArrayLike, answers: int) -> float:
    """Bits stored about F facts, each one of `answers` equally likely answers: sum of log2(answers) - nats / ln 2.

    The ceiling is F log2(answers); a model that guesses uniformly stores 0.
    """
    nats_F = _checked_nats("nats_F", nats_F, ndim=1)
    if answers < 2:
        raise ValueError(f"answers is {answers}; it must be at least 2")
    return float(len(nats_F) * math.log2(answers) - nats_F.sum() / math.log(2))


@dataclass(frozen=True)
class Reading:
    """How a measurement of bits per parameter may be read.

    Attributes:
        kind: "capacity", or "exposures" for what was stored after so many exposures and could still change.
        label: the words to print: "capacity" or "bits at E exposures".
        reasons: what forbids calling it capacity; empty if nothing does.
    """

    kind: Literal["capacity", "exposures"]
    label: str
    reasons: tuple[str, ...]


def read_as(bits: float, ceiling: float, exposures: float, twice: Mapping[str, tuple[float, float] | None]) -> Reading:
    """Whether bits per parameter are a capacity: room is left, and neither more people nor more time changes them.

    Args:
        bits: bits per parameter, above 0 to be a capacity.
        ceiling: bits per parameter of a model that knows everything; `bits` must be at most `SATURATION` of it.
        exposures: how often each person was seen.
        twice: by what was doubled, bits per parameter before and after it, both of the same worlds; None if that was
            not measured.
    """
    reasons = []
    if bits <= 0:
        reasons.append(f"nothing is stored ({bits:.2f} bits per parameter)")
    elif bits > SATURATION * ceiling:
        reasons.append(f"{100 * bits / ceiling:.0f} % of the ceiling is reached, more than {100 * SATURATION:.0f} %")
    for what, measured in twice.items():
        if measured is None:
            reasons.append(f"twice the {what} was not measured")
            continue
        before, after = measured
        if before <= 0 < bits:
            reasons.append(f"twice the {what} was measured where nothing is stored ({before:.2f} bits per parameter)")
        elif bits > 0 and abs(after / before - 1) >= STABILITY:
            change = 100 * (after / before - 1)
            reasons.append(f"twice the {what} moves it by {change:+.1f} %, not less than {100 * STABILITY:.0f} %")
    if reasons:
        return Reading("exposures", f"bits at {exposures:g} exposures", tuple(reasons))
    return Reading("capacity", "capacity", ())


def _checked_nats(field: str, nats: npt.ArrayLike, ndim: int) -> npt.NDArray[np.float64]:
    array = np.asarray(nats, dtype=np.float64)
    if array.ndim != ndim or len(array) == 0:
        raise ValueError(f"{field} has shape {array.shape}; it must have {ndim} dimensions and at least one row")
    wrong = array[~(np.isfinite(array) & (array >= -1e-6))]
    if wrong.size:
        raise ValueError(f"{field} holds {wrong[0]}; nats must be finite and at least 0")
    return array


def _checked_parameters(parameters: int) -> int:
    if parameters < 1:
        raise ValueError(f"parameters is {parameters}; it must be at least 1")
    return parameters

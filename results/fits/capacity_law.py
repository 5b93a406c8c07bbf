"""The capacity law of an arm: bits stored are a soft minimum of rho times the parameters and of the ceiling.

    bits = ((rho P)^-s + C^-s)^(-1/s)

P counts parameters; C is the ceiling in bits, all there is to know; rho is in bits per parameter, what the arm stores
where there is far more to know than it can hold. A large sharpness s makes it the plain minimum;
GPT-2's curves of Physics of Language Models 3.3 (figure 1a, digitised: `published/physics33_capacity.csv`) give 3.5 to
9. It is a nuisance to be fitted, not a constant: one s for all arms of a replicate, so that arms differ by rho alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.special import expit

from results.capacity import SATURATION
from results.fits.bracket import Bracket, Brackets, bracketed_interval, exact_values, exactly
from results.statistics import Interval, Values

SHARPNESS = (1.0, 64.0)
"""Where the sharpness is sought: from the hyperbola of Michaelis and Menten to what no data tell from a corner."""

_START = math.log(5.0)


@dataclass(frozen=True)
class CapacityPoint:
    """One cell of a sweep over sizes and amounts of knowledge.

    Attributes:
        replicate: which world and initialisation.
        parameters: P, embeddings included.
        ceiling: bits that a model that knows everything stores.
        bits: bits stored; None if the cell failed.
    """

    replicate: int
    parameters: int
    ceiling: float
    bits: float | None

    def __post_init__(self) -> None:
        if self.parameters < 1:
            raise ValueError(f"parameters is {self.parameters}; it must be at least 1")
        if not 0 < self.ceiling < math.inf:
            raise ValueError(f"ceiling is {self.ceiling}; it must be above 0 and finite")


@dataclass(frozen=True)
class CapacityLaw:
    """The law of one arm.

    Attributes:
        interval: rho, bits per parameter: geometric mean over replicates with its t-interval. None if none was fitted.
        rho: rho of each replicate. Only a lower end where every cell is above `SATURATION` of its ceiling; nothing is
            known where a cell failed or stored no bits.
        sharpness: s of each replicate that was fitted, in common with the other arms of the fit.
        misfit: root mean square of the logarithm of bits over law, 0.1 for 10 %; nan if nothing was fitted.
        left_out: replicates with fewer than two cells.
    """

    interval: Interval | None
    rho: Brackets
    sharpness: Mapping[int, float]
    misfit: float
    left_out: tuple[int, ...]

    @property
    def values(self) -> Values:
        """rho by replicate, for a `Contrast` with another arm of the same fit: its ratio and two one-sided tests."""
        return exact_values(self.rho)

    def bits(self, parameters: float, ceiling: float) -> float:
        """The law in bits, at the mean rho and the median sharpness; nan where the mean is not known."""
        if self.interval is None or math.isnan(self.interval.mean):
            return math.nan
        sharpness = float(np.median(list(self.sharpness.values())))
        return float(soft_minimum(self.interval.mean * parameters, ceiling, sharpness))


def soft_minimum(first: npt.ArrayLike, second: npt.ArrayLike, sharpness: float) -> npt.NDArray[np.float64]:
    """(first^-s + second^-s)^(-1/s): below both, near the smaller where they differ. Both must be positive."""
    return np.exp(_log_soft_minimum(np.log(first), np.log(second), sharpness))


def fit_capacity_laws(arms: Mapping[str, Sequence[CapacityPoint]], confidence: float = 0.95) -> dict[str, CapacityLaw]:
    """The law of each arm, by least squares of log bits, replicate by replicate with one sharpness for all arms.

    A replicate needs two cells in an arm to be fitted there. To spare a size at which cells failed, leave that size out
    for every replicate and arm.
    """
    rho: dict[str, dict[int, Bracket]] = {arm: {} for arm in arms}
    sharpness: dict[str, dict[int, float]] = {arm: {} for arm in arms}
    residuals: dict[str, list[float]] = {arm: [] for arm in arms}
    left_out: dict[str, list[int]] = {arm: [] for arm in arms}
    for replicate in sorted({point.replicate for points in arms.values() for point in points}):
        sound = {}
        for arm, points in arms.items():
            here = [point for point in points if point.replicate == replicate]
            if len({(point.parameters, point.ceiling) for point in here}) < 2:
                left_out[arm] += [replicate] if here else []
            elif (bracket := _bracket(here)) is not None:
                rho[arm][replicate] = bracket
            else:
                sound[arm] = here
        if sound:
            rhos, common, rests = _fit(list(sound.values()))
            for arm, value, rest in zip(sound, rhos, rests, strict=True):
                rho[arm][replicate] = exactly(value)
                sharpness[arm][replicate] = common
                residuals[arm] += rest
    return {
        arm: CapacityLaw(
            bracketed_interval(rho[arm], "log", confidence),
            rho[arm],
            sharpness[arm],
            float(np.sqrt(np.mean(np.square(residuals[arm])))) if residuals[arm] else math.nan,
            tuple(left_out[arm]),
        )
        for arm in arms
    }


def _bracket(points: Sequence[CapacityPoint]) -> Bracket | None:
    """What is known of rho without a fit; None where there is something to fit."""
    if any(point.bits is None or point.bits <= 0 for point in points):
        return Bracket(0.0, math.inf)
    bits = [(point.bits or 0.0, point) for point in points]
    if all(stored > SATURATION * point.ceiling for stored, point in bits):
        return Bracket(max(stored / point.parameters for stored, point in bits), math.inf)
    return None


def _fit(arms: Sequence[Sequence[CapacityPoint]]) -> tuple[list[float], float, list[list[float]]]:
    """rho of each arm, their common sharpness, and the residuals in log bits of each arm."""
    points = [point for arm in arms for point in arm]
    owner = np.repeat(np.arange(len(arms)), [len(arm) for arm in arms])
    parameters = np.log([point.parameters for point in points])
    ceiling = np.log([point.ceiling for point in points])
    bits = np.log([point.bits or math.nan for point in points])
    one_hot = np.eye(len(arms))[owner]

    def residuals(unknown: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return bits - _log_soft_minimum(unknown[owner] + parameters, ceiling, math.exp(unknown[-1]))

    def jacobian(unknown: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        room, sharpness = unknown[owner] + parameters, math.exp(unknown[-1])
        share = expit(sharpness * (ceiling - room))
        by_sharpness = share * room + (1 - share) * ceiling - _log_soft_minimum(room, ceiling, sharpness)
        return -np.column_stack([share[:, None] * one_hot, by_sharpness])

    # The arm's most bits per parameter: at most rho, and close to it.
    start = [math.log(max((point.bits or math.nan) / point.parameters for point in arm)) for arm in arms]
    ends = np.log(SHARPNESS)
    found = least_squares(
        residuals,
        [*start, _START],
        jac=jacobian,
        bounds=([-np.inf] * len(arms) + [ends[0]], [np.inf] * len(arms) + [ends[1]]),
    )
    rests = [found.fun[owner == arm].tolist() for arm in range(len(arms))]
    return np.exp(found.x[:-1]).tolist(), float(np.exp(found.x[-1])), rests


def _log_soft_minimum(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], sharpness: float
) -> npt.NDArray[np.float64]:
    return -np.logaddexp(-sharpness * first, -sharpness * second) / sharpness

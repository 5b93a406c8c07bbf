"""How often an interval holds the truth, simulated for few replicates, where outcomes are normal and where bimodal.

    python -m results.coverage --out results/reference/coverage.csv

Bimodal is what accuracies are when some runs find the rule and the others stay at the floor. Compared are Student's t
and the percentile bootstrap for the mean, and the exact interval for the share of runs that found the rule. Below them
stand the intervals of `results.fits`, for the experiments of `planted.py`, with a quarter of the trials.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from results.bundle import write_durably
from results.planted import PLANTED, Planted
from results.statistics import mean_interval, share_above

REPLICATES = (3, 5, 8)
FIT_REPLICATES = (3, 4, 5, 8)
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
CONFIDENCES = (0.90, 0.95)
FLOOR, SOLVED, SPREAD = 0.05, 0.95, 0.02
RESAMPLES = 2000


def main() -> None:
    """Simulate and write the table as CSV."""
    parser = argparse.ArgumentParser(description="Simulate the coverage of intervals over few replicates.")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--trials", type=int, default=4000, help="simulated experiments per row (default 4000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation (default 0)")
    arguments = parser.parse_args()
    tables = (
        simulate(arguments.trials, arguments.seed),
        simulate_fits(PLANTED, -(-arguments.trials // 4), arguments.seed),
    )
    write_durably(arguments.out, pl.concat(tables).write_csv().encode())


def simulate(trials: int, seed: int) -> pl.DataFrame:
    """A row per kind of outcome, n, confidence and method.

    `coverage` is the share of trials whose interval held the truth; the others lay wholly above it (`too_high`) or
    wholly below it (`too_low`). `mean_width` is that of the intervals; none of them is `unbounded`.
    """
    rows = []
    for share in (None, *SHARES):
        for n in REPLICATES:
            rng = np.random.default_rng([seed, n, 0 if share is None else round(100 * share)])
            values_TN = outcomes(rng, share, (trials, n))
            for confidence in CONFIDENCES:
                mean = true_mean(share)
                measured = {
                    "student_t": (mean, student_t(values_TN, confidence)),
                    "percentile_bootstrap": (mean, percentile_bootstrap(values_TN, confidence, rng)),
                }
                if share is not None:
                    measured["exact_share"] = (share, exact_share(values_TN, confidence))
                for method, (truth, (low_T, high_T)) in measured.items():
                    too_high, too_low = float((low_T > truth).mean()), float((high_T < truth).mean())
                    rows.append(
                        {
                            "outcomes": "normal" if share is None else "bimodal",
                            "share_solved": share,
                            "n": n,
                            "confidence": confidence,
                            "method": method,
                            "coverage": round(1 - too_high - too_low, 5),
                            "too_high": round(too_high, 5),
                            "too_low": round(too_low, 5),
                            "mean_width": round(float((high_T - low_T).mean()), 4),
                            "trials": trials,
                            "unbounded": 0.0,
                        }
                    )
    return pl.DataFrame(rows, infer_schema_length=None)


def simulate_fits(planted: Sequence[Planted], trials: int, seed: int) -> pl.DataFrame:
    """A row per kind of planted experiment, n and confidence, with the columns of `simulate`.

    `trials` counts the experiments that gave an interval: a %Gap may be suppressed. `unbounded` is the share of those
    whose interval is open at an end, which holds the truth more easily; `mean_width` is that of the others, null if
    there are none.
    """
    rows = []
    for kind in planted:
        for n in FIT_REPLICATES:
            rng = np.random.default_rng([seed, n])
            drawn = [kind.draw(rng, n) for _ in range(trials)]
            for confidence in CONFIDENCES:
                given = [interval for of in drawn if (interval := of(confidence)) is not None]
                low_T, high_T = np.array([(interval.low, interval.high) for interval in given]).reshape(-1, 2).T
                open_T = np.isinf(low_T) | np.isinf(high_T) | (kind.positive & (low_T == 0))
                too_high, too_low = (float((miss_T).mean()) for miss_T in (low_T > kind.truth, high_T < kind.truth))
                rows.append(
                    {
                        "outcomes": kind.outcomes,
                        "share_solved": None,
                        "n": n,
                        "confidence": confidence,
                        "method": kind.method,
                        "coverage": round(1 - too_high - too_low, 5),
                        "too_high": round(too_high, 5),
                        "too_low": round(too_low, 5),
                        "mean_width": None if open_T.all() else round(float((high_T - low_T)[~open_T].mean()), 4),
                        "trials": len(given),
                        "unbounded": round(float(open_T.mean()), 5),
                    }
                )
    return pl.DataFrame(rows, schema_overrides={"share_solved": pl.Float64, "mean_width": pl.Float64})


Ends = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Low and high end of each trial's interval."""


def outcomes(rng: np.random.Generator, share: float | None, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Accuracies of independent runs: a `share` of them solved, the others at the floor; normal where it is None."""
    if share is None:
        return rng.normal(0.5, 0.1, shape)
    return rng.normal(np.where(rng.random(shape) < share, SOLVED, FLOOR), SPREAD)


def true_mean(share: float | None) -> float:
    """The expectation of `outcomes`."""
    return 0.5 if share is None else share * SOLVED + (1 - share) * FLOOR


def student_t(values_TN: npt.NDArray[np.float64], confidence: float) -> Ends:
    """Intervals of the mean, by the function that the verdicts use."""
    intervals = [mean_interval(values_N, confidence) for values_N in values_TN]
    return np.array([interval.low for interval in intervals]), np.array([interval.high for interval in intervals])


def percentile_bootstrap(values_TN: npt.NDArray[np.float64], confidence: float, rng: np.random.Generator) -> Ends:
    """Intervals of the mean: quantiles of the means of `RESAMPLES` resamplings, drawn anew for each trial."""
    n = values_TN.shape[1]
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    ends = [np.quantile(values_N[rng.integers(n, size=(RESAMPLES, n))].mean(axis=1), tails) for values_N in values_TN]
    low_T, high_T = np.array(ends).T
    return low_T, high_T


def exact_share(values_TN: npt.NDArray[np.float64], confidence: float) -> Ends:
    """Intervals of the share of solved runs, by the function that reports use."""
    intervals = [share_above(values_N, (FLOOR + SOLVED) / 2, confidence) for values_N in values_TN]
    return np.array([interval.low for interval in intervals]), np.array([interval.high for interval in intervals])


if __name__ == "__main__":
    main()

"""Splits by content, for spaces too large to list: a keyed hash decides of every question whether it may be trained.

Two splits made this way share no question, whatever is drawn and in whatever order. What is drawn is the task's affair.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from synthdata.examples import Examples, concatenate
from synthdata.task import require

MAX_ROUNDS = 64
"""Rounds of proposals after which a split counts as empty; nearly always one suffices."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def check_train_fraction(train_fraction: float) -> None:
    """Raise `ValueError` unless both sides of the split keep at least a hundredth of the proposals."""
    require(0.01 <= train_fraction <= 0.99, "train_fraction", train_fraction, "between 0.01 and 0.99")


def draw_key(rng: np.random.Generator) -> np.uint64:
    """The secret of a partition: 64 random bits."""
    return rng.integers(2**64, dtype=np.uint64)


def trainable(key: np.uint64, examples: Examples, train_fraction: float) -> npt.NDArray[np.bool_]:
    """Which examples may be trained: those whose tokens hash, under `key`, into the first `train_fraction`.

    Tokens times keyed random coefficients, summed modulo 2 ** 64, then mixed so that no sum of tokens shows in the
    result. Examples must be as wide as their task's longest one, because every place has its own coefficient.
    """
    place_L = np.arange(1, examples.tokens_NL.shape[1] + 1, dtype=np.uint64)
    coefficient_L = _mixed(key + place_L * _GOLDEN).view(np.int64)
    total_N = np.einsum("nl,l->n", examples.tokens_NL, coefficient_L).view(np.uint64)
    return (_mixed(key + total_N) >> np.uint64(11)) * 2.0**-53 < train_fraction


def _mixed(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The 64-bit finaliser of SplitMix64 (Steele et al. 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def draw_side(
    propose: Callable[[int], Examples], key: np.uint64, train_fraction: float, train: bool, count: int
) -> Examples:
    """`count` independent examples of one side of the partition, out of those that `propose(n)` draws.

    Raises:
        ValueError: if that side hardly exists, because there are too few different questions to divide.
    """
    share = train_fraction if train else 1 - train_fraction
    pieces, missing = [], count
    for _ in range(MAX_ROUNDS):
        proposal = propose(math.ceil(1.03 * missing / share) + 16)
        kept = np.flatnonzero(trainable(key, proposal, train_fraction) == train)
        pieces.append(proposal.take(kept[:missing]))
        missing -= len(pieces[-1])
        if missing == 0:
            return pieces[0] if len(pieces) == 1 else concatenate(pieces)
    raise ValueError(
        f"train_fraction is {train_fraction}; in this world it leaves (almost) no question "
        f"{'to train' if train else 'untrained'}: there are too few different questions to divide"
    )

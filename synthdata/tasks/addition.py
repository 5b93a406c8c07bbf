"""Addition modulo p: a rule to generalise, with nothing to store."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from synthdata.examples import UNSCORED, Examples
from synthdata.partition import check_train_fraction, draw_key, draw_side
from synthdata.task import Task, register, require
from synthdata.vocabulary import BOS, PAD, SPECIALS, Vocabulary


@register
@dataclass(frozen=True, kw_only=True)
class Addition(Task):
    """The sum of some numbers modulo p, asked in one line; only the sum is trained.

        inputs   <bos>  8  +  90  =
        labels   _      _  _  _   1

    A keyed hash of the question, drawn with the world, decides whether it belongs to `train` or to `test`;
    `a + b` and `b + a` are two questions.

    Attributes:
        modulus: p; operands and sums are 0 … p - 1.
        operands: most operands; examples have 2 to `operands` of them, uniformly. Difficulty is their number.
        train_fraction: share of the questions that may be trained.
    """

    name: ClassVar[str] = "addition"
    version: ClassVar[int] = 2
    source: ClassVar[str] = "after Power et al. 2022, Grokking, arXiv 2201.02177, App. A.1"
    difficulty: ClassVar[str] = "operands"
    splits = ("train", "test")

    modulus: int = 97
    operands: int = 2
    train_fraction: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(2 <= self.modulus <= 10_000, "modulus", self.modulus, "between 2 and 10,000")
        require(2 <= self.operands <= 1_000, "operands", self.operands, "between 2 and 1,000")
        check_train_fraction(self.train_fraction)

    @property
    def vocabulary(self) -> Vocabulary:
        """Numbers, then `+` and `=`."""
        return Vocabulary((*map(str, range(self.modulus)), "+", "="))

    @property
    def max_length(self) -> int:
        """BOS, then an operator or `=` after each operand, then the sum."""
        return 2 * self.operands + 2

    def world(self, rng: np.random.Generator) -> np.uint64:
        """The key that divides the questions; sums are the same in every world."""
        return draw_key(rng)

    def draw(self, world: np.uint64, split: str, rng: np.random.Generator, count: int) -> Examples:
        """Independent uniform questions of one side of the partition."""
        return draw_side(lambda n: self._ask(rng, n), world, self.train_fraction, split == "train", count)

    def _ask(self, rng: np.random.Generator, count: int) -> Examples:
        operands_N = rng.integers(2, self.operands + 1, size=count, dtype=np.int32)
        number_NK = rng.integers(self.modulus, size=(count, self.operands), dtype=np.int32)
        used_NK = np.arange(self.operands) < operands_N[:, None]
        first_number = len(SPECIALS)
        plus, equals = first_number + self.modulus, first_number + self.modulus + 1

        tokens_NL = np.full((count, self.max_length), PAD, dtype=np.int32)
        tokens_NL[:, 0] = BOS
        tokens_NL[:, 1:-1:2] = np.where(used_NK, first_number + number_NK, PAD)
        tokens_NL[:, 2:-1:2] = np.where(used_NK, plus, PAD)
        n = np.arange(count)
        tokens_NL[n, 2 * operands_N] = equals
        tokens_NL[n, 2 * operands_N + 1] = first_number + (number_NK * used_NK).sum(axis=1) % self.modulus
        scored_NL = np.full(tokens_NL.shape, UNSCORED, dtype=np.int8)
        scored_NL[n, 2 * operands_N + 1] = 0
        parts_NP = np.empty((count, 0), dtype=np.int32)
        return Examples(tokens_NL, 2 * operands_N + 2, scored_NL != UNSCORED, scored_NL, operands_N, parts_NP)

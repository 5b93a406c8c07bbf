"""Mano: modular arithmetic on prefix expressions, whose tables are knowledge to be stored and used many times over."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from synthdata.examples import UNSCORED, Examples
from synthdata.partition import check_train_fraction, draw_key, draw_side
from synthdata.task import Task, register, require
from synthdata.vocabulary import BOS, PAD, SPECIALS, Vocabulary

_NONE = -1


@register
@dataclass(frozen=True, kw_only=True)
class Mano(Task):
    """The value modulo p of an expression in prefix form. Here (5 + 20) - 7 = 18 modulo 23:

        inputs   <bos>    <len_2>  -  +  5   20  7  <ans>
        labels   <len_2>  -        +  5  20  7   <ans>  18

    An expression of l operations is an operand, uniform over 0 … p - 1, where l = 0; else a uniform operator, a left
    expression of l' operations with l' uniform over 0 … l - 1, and a right one of l - 1 - l'. `train` draws l uniformly
    from 1 … L, `test` has exactly L; a keyed hash of the whole question, drawn with the world, keeps them apart.
    Multiplication makes 0 the commonest answer, so chance is above 1 / p (see `constants`).

    Attributes:
        modulus: p.
        operations: L, operations of the longest expression. Difficulty is the number of operations.
        operators: which of `+`, `-` and `*` occur, as one string.
        trained: `all` trains every token, as the source does; `answer` the answer alone, which is all that is scored.
        train_fraction: share of the questions that may be trained.
    """

    name: ClassVar[str] = "mano"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Allen-Zhu 2025, Physics of Language Models: Part 4.1, arXiv 2512.17351 (Mano)"
    splits = ("train", "test")

    modulus: int = 23
    operations: int = 10
    operators: str = "+-*"
    trained: Literal["all", "answer"] = "all"
    train_fraction: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        require(2 <= self.modulus <= 1_000, "modulus", self.modulus, "between 2 and 1,000")
        require(1 <= self.operations <= 1_000, "operations", self.operations, "between 1 and 1,000")
        require(
            0 < len(self.operators) == len(set(self.operators)) and set(self.operators) <= set("+-*"),
            "operators",
            self.operators,
            "one or more of the characters +, - and *, each at most once",
        )
        check_train_fraction(self.train_fraction)

    @property
    def vocabulary(self) -> Vocabulary:
        """Numbers, operators, `<ans>`, and the lengths `<len_1>` … `<len_L>`."""
        lengths = (f"<len_{length}>" for length in range(1, self.operations + 1))
        return Vocabulary((*map(str, range(self.modulus)), *self.operators, "<ans>", *lengths))

    @property
    def max_length(self) -> int:
        """BOS, length, 2L + 1 symbols of the expression, `<ans>`, answer."""
        return 2 * self.operations + 5

    def world(self, rng: np.random.Generator) -> np.uint64:
        """The key that divides the questions; arithmetic is the same in every world."""
        return draw_key(rng)

    def draw(self, world: np.uint64, split: str, rng: np.random.Generator, count: int) -> Examples:
        """Independent expressions of one side of the partition."""
        shortest = 1 if split == "train" else self.operations
        return draw_side(lambda n: self._ask(rng, shortest, n), world, self.train_fraction, split == "train", count)

    def constants(self, world: np.uint64) -> dict[str, float]:
        """`chance`: the probability of the commonest answer to L operations, which a constant guess scores. Exact."""
        return {"chance": float(self.answer_probabilities()[-1].max())}

    def answer_probabilities(self) -> npt.NDArray[np.float64]:
        """Probability of every answer [l, answer] for expressions of l = 0 … L operations, by their recursion."""
        table_OVV = _table(self.operators, self.modulus)
        probability = np.zeros((self.operations + 1, self.modulus))
        probability[0] = 1 / self.modulus
        for length in range(1, self.operations + 1):
            left_TV, right_TV = probability[:length], probability[:length][::-1]
            pair_VV = left_TV.T @ right_TV / length
            for answer_VV in table_OVV:
                weights = pair_VV.ravel() / len(table_OVV)
                probability[length] += np.bincount(answer_VV.ravel(), weights, minlength=self.modulus)
        return probability

    def _ask(self, rng: np.random.Generator, shortest: int, count: int) -> Examples:
        operations_N = rng.integers(shortest, self.operations + 1, size=count, dtype=np.int32)
        symbol_NE = self._expressions(rng, operations_N)
        n, answer_at = np.arange(count), 2 * operations_N + 4
        first = len(SPECIALS)
        tokens_NL = np.full((count, self.max_length), PAD, dtype=np.int32)
        tokens_NL[:, 0] = BOS
        tokens_NL[:, 1] = first + self.modulus + len(self.operators) + operations_N
        tokens_NL[:, 2:-2] = np.where(symbol_NE == _NONE, PAD, first + symbol_NE)
        tokens_NL[n, answer_at - 1] = first + self.modulus + len(self.operators)
        tokens_NL[n, answer_at] = first + self._values(symbol_NE)
        scored_NL = np.full(tokens_NL.shape, UNSCORED, dtype=np.int8)
        scored_NL[n, answer_at] = 0
        trained_NL = tokens_NL > BOS if self.trained == "all" else scored_NL != UNSCORED
        parts_NP = np.empty((count, 0), dtype=np.int32)
        return Examples(tokens_NL, answer_at + 1, trained_NL, scored_NL, operations_N, parts_NP)

    def _expressions(self, rng: np.random.Generator, operations_N: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Prefix expressions: operands as 0 … p - 1, operators from p on, `_NONE` behind the end.

        All grow one symbol at a time, each with a stack of the sizes of the subexpressions still to be written.
        """
        count = len(operations_N)
        symbol_NE = np.full((count, 2 * self.operations + 1), _NONE, dtype=np.int32)
        size_NS = np.zeros((count, self.operations + 1), dtype=np.int32)
        size_NS[:, 0] = operations_N
        depth_N = np.ones(count, dtype=np.int32)
        for e in range(symbol_NE.shape[1]):
            n = np.flatnonzero(depth_N)
            size = size_NS[n, depth_N[n] - 1]
            operator = self.modulus + rng.integers(len(self.operators), size=len(n))
            symbol_NE[n, e] = np.where(size > 0, operator, rng.integers(self.modulus, size=len(n)))
            left = rng.integers(np.maximum(size, 1))
            n, size, left = n[size > 0], size[size > 0], left[size > 0]
            size_NS[n, depth_N[n] - 1] = size - 1 - left
            size_NS[n, depth_N[n]] = left
            depth_N -= (symbol_NE[:, e] != _NONE) & (symbol_NE[:, e] < self.modulus)
            depth_N[n] += 1
        return symbol_NE

    def _values(self, symbol_NE: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Values of prefix expressions: read from the right, an operator finds its operands on top of the stack."""
        table_OVV = _table(self.operators, self.modulus)
        value_NS = np.zeros((len(symbol_NE), self.operations + 1), dtype=np.int32)
        depth_N = np.zeros(len(symbol_NE), dtype=np.int32)
        for symbol_N in symbol_NE.T[::-1]:
            n = np.flatnonzero((symbol_N != _NONE) & (symbol_N < self.modulus))
            value_NS[n, depth_N[n]] = symbol_N[n]
            depth_N[n] += 1
            n = np.flatnonzero(symbol_N >= self.modulus)
            left, right = value_NS[n, depth_N[n] - 1], value_NS[n, depth_N[n] - 2]
            value_NS[n, depth_N[n] - 2] = table_OVV[symbol_N[n] - self.modulus, left, right]
            depth_N[n] -= 1
        return value_NS[:, 0]


@lru_cache(maxsize=8)
def _table(operators: str, modulus: int) -> npt.NDArray[np.int32]:
    """[operator, left, right] -> value."""
    left, right = np.arange(modulus)[:, None], np.arange(modulus)[None, :]
    values = {"+": left + right, "-": left - right, "*": left * right}
    return np.stack([values[operator] % modulus for operator in operators]).astype(np.int32)

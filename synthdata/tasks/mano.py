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
    version: ClassVar[int] = 2
    source: ClassVar[str] = "Allen-Zhu 2025, Physics of Language Models: Part 4.1, arXiv 2512.17351 (Mano)"
    difficulty: ClassVar[str] = "operations"
    splits = ("train", "test")

    modulus: int = 23
    operations: int = 10
    operators: str = "+-*"
    trained: Literal["all", "answer"] = "all"
    train_fraction: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        require(2 <= self.modulus <= 1_000, "modulus", self.modulus, "between 2 and 1,000")
        require(1 <= self.operations <= 200, "operations", self.operations, "between 1 and 200")
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
        table_OVV = _table(self.operators, self.modulus)[:-1]
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
        written, value_N = self._expressions(rng, operations_N)
        first, width = len(SPECIALS), self.max_length
        tokens_NL = np.full((count, width), PAD, dtype=np.int32)
        scored_NL = np.full((count, width), UNSCORED, dtype=np.int8)
        tokens_NL[:, 0] = BOS
        tokens_NL[:, 1] = first + self.modulus + len(self.operators) + operations_N
        token, begin_N = tokens_NL.ravel(), np.arange(2, count * width + 2, width)
        for place_SN, symbol_SN in written:
            for place_N, symbol_N in zip(place_SN, symbol_SN, strict=True):
                token[place_N + begin_N] = symbol_N
        answer = begin_N + (2 * operations_N + 2)
        token[answer - 1] = first + self.modulus + len(self.operators)
        token[answer] = first + value_N
        scored_NL.ravel()[answer] = 0
        trained_NL = tokens_NL > BOS if self.trained == "all" else scored_NL != UNSCORED
        parts_NP = np.empty((count, 0), dtype=np.int32)
        return Examples(tokens_NL, 2 * operations_N + 5, trained_NL, scored_NL, operations_N, parts_NP)

    def _expressions(
        self, rng: np.random.Generator, operations_N: npt.NDArray[np.int32]
    ) -> tuple[list[tuple[npt.NDArray[np.int16], npt.NDArray[np.int32]]], npt.NDArray[np.int32]]:
        """Places [S, N] of operators and of operands in prefix expressions (together each of 0 … 2L once), the tokens
        there (`PAD` from the end on); values.

        A tree is read from the infix order of its operators K and operands G by giving every operator a random key: the
        smallest key of a range is its root, which makes the left size uniform at every operation, as it must be. What
        stands before a symbol in prefix order is then what lies to the left of its range, and the operators above it.
        """
        longest, count = self.operations, len(operations_N)
        used_GN = np.arange(longest + 1, dtype=np.int32)[:, None] <= operations_N
        used_KN = used_GN[1:]
        operator_KN = rng.integers(len(self.operators), size=(longest, count), dtype=np.int16)
        operand_GN = rng.integers(self.modulus, size=(longest + 1, count), dtype=np.int16)
        start_KN, minima_GN = _ranges(_keys(rng, used_KN), used_KN)
        # Among the operators; those that are not there come last, as do their places.
        rank_KN = start_KN + minima_GN[:-1] - used_KN

        operator_place_KN = rank_KN + start_KN + ~used_KN
        operand_place_GN = minima_GN + np.arange(0, 2 * longest + 1, 2, dtype=np.int16)[:, None]
        first_operand, first_operator = np.int32(len(SPECIALS)), np.int32(len(SPECIALS) + self.modulus)
        written = [
            (operator_place_KN, (operator_KN + first_operator) * used_KN),
            (operand_place_GN, (operand_GN + first_operand) * used_GN),
        ]
        operator_KN += (np.int16(len(self.operators)) - operator_KN) * ~used_KN
        return written, self._values(rank_KN, start_KN, operator_KN, operand_GN)

    def _values(
        self,
        rank_KN: npt.NDArray[np.int16],
        start_KN: npt.NDArray[np.int16],
        operator_KN: npt.NDArray[np.int16],
        operand_GN: npt.NDArray[np.int16],
    ) -> npt.NDArray[np.int32]:
        """Values of expressions, operators from the last in prefix order to the first: each leaves its result in the
        place of the first operand of its range."""
        table = _table(self.operators, self.modulus).ravel()
        count, n = rank_KN.shape[1], np.arange(rank_KN.shape[1])
        flat_KN = np.empty(rank_KN.shape, dtype=np.int64)
        flat = flat_KN.ravel()
        for k, rank_N in enumerate(rank_KN):
            flat[rank_N * np.int64(count) + n] = k * count + n
        start, operator = start_KN.ravel(), operator_KN.ravel()
        value, modulus = operand_GN.ravel().astype(np.int32), np.int32(self.modulus)
        for flat_N in flat_KN[::-1]:
            left_N, right_N = start.take(flat_N) * np.int64(count) + n, flat_N + count
            pair_N = value.take(left_N) * modulus + value.take(right_N)
            value[left_N] = table.take(operator.take(flat_N) * modulus**2 + pair_N)
        return value[:count]


def _keys(rng: np.random.Generator, used_KN: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    """Random keys, all of a column different: the low bits are the operation's index. Those of operations that are not
    there are larger than all others. (Of keys that agree in the high bits the leftmost is the root. With up to 200
    operations that happens to one pair in 2 ** 24 at most.)"""
    longest, count = used_KN.shape
    low = np.uint32((1 << (longest - 1).bit_length()) - 1)
    words = rng.bit_generator.random_raw((longest * count + 1) // 2).view(np.uint32)
    key_KN = words[: longest * count].reshape(longest, count) | (used_KN.astype(np.uint32) - np.uint32(1))
    return (key_KN & ~low) | np.arange(longest, dtype=np.uint32)[:, None]


def _ranges(
    key_KN: npt.NDArray[np.uint32], used_KN: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """The first operand of every operation's range [K, N], and how many operations begin at or to the right of each
    operand, up to the end, with a key below all before them [G, N]: it and those above that it is on the left of."""
    longest, count = key_KN.shape
    start_KN = np.empty((longest, count), dtype=np.int16)
    start_KN[:] = np.arange(longest)[:, None]
    minima_GN = np.zeros((longest + 1, count), dtype=np.int16)
    minima_GN[:-1] = used_KN
    lowest_KN, open_KN = key_KN.copy(), np.ones((longest, count), dtype=np.bool_)
    for distance in range(1, longest):
        near, far = key_KN[:-distance], key_KN[distance:]
        open_KN[distance:] &= near > far
        start_KN[distance:] -= open_KN[distance:]
        lowest = lowest_KN[:-distance]
        minima_GN[: longest - distance] += far < lowest
        np.minimum(lowest, far, out=lowest)
    return start_KN, minima_GN


@lru_cache(maxsize=8)
def _table(operators: str, modulus: int) -> npt.NDArray[np.int32]:
    """[operator, left, right] -> value; behind the operators one that keeps its left side."""
    left, right = np.arange(modulus)[:, None], np.arange(modulus)[None, :]
    values = {"+": left + right, "-": left - right, "*": left * right}
    return np.stack([*(values[operator] % modulus for operator in operators), left + 0 * right]).astype(np.int32)

"""Records to store: people with random names and random attributes, nothing of which follows from anything else."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from synthdata.examples import UNSCORED, Examples
from synthdata.task import MAX_LENGTH, MAX_STORED, MAX_SYMBOLS, Attributes, Task, register, require
from synthdata.vocabulary import BOS, SPECIALS, Vocabulary, numbered

MAX_BITS = 62
"""Names and strings are numbered in 64-bit integers, so that neither may be drawn from more than 2 ** 62."""

MAX_DRAWN = MAX_STORED // 50
"""Strings of an attribute that are drawn from more: NumPy lists up to 50 times as many to draw them."""


@dataclass(frozen=True)
class People:
    """A world. N = person, K = attribute, L = token of a name, M = token of a value.

    Attributes:
        name_NL: int32 symbols; no two names are equal.
        value_NKM: int32 symbols.
        order_NK: the order of the attributes in which each person is evaluated.
    """

    name_NL: npt.NDArray[np.int32]
    value_NKM: npt.NDArray[np.int32]
    order_NK: npt.NDArray[np.int64]


@register
@dataclass(frozen=True, kw_only=True)
class Records(Task):
    """bioD(N, K, C, D, L, T): a name, then every attribute's id and value in an order drawn anew at each exposure.

        inputs  <bos> s5 s61 s0 a2 s9 s4 a0 s1 s1 a5 s8 s0 a1 s3 s7 a3 s6 s2 a4 s2
        labels  s5 s61 s0 a2 s9 s4 a0 s1 s1 a5 s8 s0 a1 s3 s7 a3 s6 s2 a4 s2 s15

    Everything is trained. Scored are the name (span `name`) and all values (span `value`), not the attribute ids, which
    are random. Names come first and values are independent, so neither can be read off the context.

    Training goes through the people in epochs, each in an order of its own: after E * `people` examples everybody has
    been shown exactly E times. (Independent draws would leave people whose exposures differ by a few times sqrt(E),
    and so measure an average over exposures.) Split `people` has everybody once, in an order of attributes that the
    world fixes.

    Attributes:
        people: N; everyone has one record.
        name_length: tokens of a name.
        name_symbols: symbols that names are made of; names are drawn without replacement from all
            N0 = name_symbols ** name_length strings.
        attributes: K.
        chunks: C, chunks of a value.
        diversity: D, strings that a chunk is uniformly drawn from, drawn for each attribute out of T ** L. Below T ** L
            it requires one chunk, because the bits of the set itself are then measured by the first chunk alone.
        chunk_length: L, tokens of a chunk.
        value_symbols: T, symbols that values are made of; the first of those that names are made of, or more.
    """

    name: ClassVar[str] = "records"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Allen-Zhu & Li 2024, Physics of Language Models: Part 3.3, arXiv 2404.05405 (bioD)"
    difficulty: ClassVar[str] = "attributes told"
    trained_splits: ClassVar[tuple[str, ...]] = ("people",)
    spans: ClassVar[tuple[str, ...]] = ("name", "value")
    splits = ("train", "people")

    people: int = 1000
    name_length: int = 3
    name_symbols: int = 64
    attributes: int = 6
    chunks: int = 1
    diversity: int = 256
    chunk_length: int = 2
    value_symbols: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("people", "name_length", "attributes", "chunks", "diversity", "chunk_length"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")
        for symbols, length in (("name_symbols", "name_length"), ("value_symbols", "chunk_length")):
            base, digits = getattr(self, symbols), getattr(self, length)
            require(2 <= base <= MAX_SYMBOLS, symbols, base, f"at least 2 and at most {MAX_SYMBOLS:,}")
            require(
                digits * math.log2(base) <= MAX_BITS, length, digits, f"at most {MAX_BITS} / log2 of {symbols} {base}"
            )
        require(
            self.max_length <= MAX_LENGTH,
            "attributes",
            self.attributes,
            f"fewer, or of fewer chunks: a record has {self.max_length} tokens, more than {MAX_LENGTH:,}",
        )
        require(
            self.people * self.max_length <= MAX_STORED,
            "people",
            self.people,
            f"at most {MAX_STORED // self.max_length:,} with records of {self.max_length} tokens",
        )
        require(self.people <= self._names, "people", self.people, f"at most {self._names}, the number of names")
        require(
            self.diversity == self._strings or (self.diversity < self._strings and self.chunks == 1),
            "diversity",
            self.diversity,
            f"value_symbols ** chunk_length = {self._strings}, or less where chunks is 1",
        )
        require(
            self.diversity == self._strings or self.diversity <= MAX_DRAWN,
            "diversity",
            self.diversity,
            f"at most {MAX_DRAWN:,} where it is less than value_symbols ** chunk_length",
        )

    @property
    def _names(self) -> int:
        return self.name_symbols**self.name_length

    @property
    def _strings(self) -> int:
        return self.value_symbols**self.chunk_length

    @property
    def _symbols(self) -> int:
        return max(self.name_symbols, self.value_symbols)

    @property
    def vocabulary(self) -> Vocabulary:
        """The symbols that names and values share, then one id for each attribute."""
        return Vocabulary((*numbered("s", self._symbols), *numbered("a", self.attributes)))

    @property
    def max_length(self) -> int:
        """BOS, name, and for each attribute its id and value."""
        return 1 + self.name_length + self.attributes * (1 + self.chunks * self.chunk_length)

    def world(self, rng: np.random.Generator) -> People:
        """Draw names, the strings of each attribute, everybody's values and the orders of evaluation."""
        name_N = rng.choice(self._names, size=self.people, replace=False)
        value_NKC = rng.integers(self.diversity, size=(self.people, self.attributes, self.chunks))
        if self.diversity < self._strings:
            for k in range(self.attributes):
                value_NKC[:, k] = rng.choice(self._strings, size=self.diversity, replace=False)[value_NKC[:, k]]
        value_NKCL = _digits(value_NKC, self.value_symbols, self.chunk_length)
        return People(
            _digits(name_N, self.name_symbols, self.name_length),
            value_NKCL.reshape(self.people, self.attributes, self.chunks * self.chunk_length),
            self._orders(rng, self.people),
        )

    def items(self, world: People, split: str) -> int | None:
        """Training shows the people in turn."""
        return self.people if split == "train" else None

    def show(self, world: People, split: str, rng: np.random.Generator, item_N: npt.NDArray[np.integer]) -> Examples:
        """The records of these people, each in a fresh order of attributes."""
        return self._write(world, item_N, self._orders(rng, len(item_N)))

    def pool(self, world: People, split: str) -> Examples | None:
        """Everybody's record, in the order of attributes that the world fixes."""
        return None if split == "train" else self._write(world, np.arange(self.people), world.order_NK)

    def constants(self, world: People) -> dict[str, float]:
        """What measured nats are turned into bits with; all in bits but the counts.

        - `people`: N, and `name_bits`: log2 N0, `value_bits`: log2 S0 = K C log2 D, per person: what a model that knows
          nothing pays for a name and for all values of a person.
        - `attributes`: K.
        - `diversity_strings`: K D where D < T ** L, else 0, and `diversity_bits`: log2(T ** L / D) for each of them.
        - `ceiling_bits`: N log2(N0 / N) + N log2 S0 + K D log2(T ** L / D), the most that the measure can show
          (with p1 = ln N and p2 = p3 = 0; Def. 4.1 writes it per parameter).
        - `entropy_bits`: log2 C(N0, N) + N log2 S0 + K log2 C(T ** L, D), what there exactly is to store (Prop. 2.3);
          about 1.44 bits more for each name than the measure credits.

        With summed nats per person averaged over people, p1 of the name and p2 of all values, the bits stored are
        N (name_bits - p1 / ln 2) + N (value_bits - p2 / ln 2) + diversity_strings (diversity_bits - p2 / (K ln 2)).
        At D = T ** L there is no set to learn and the last term, which Def. 4.1 would make negative, is left out.
        """
        strings = self.attributes * self.diversity if self.diversity < self._strings else 0
        diversity_bits = math.log2(self._strings / self.diversity)
        name_bits, value_bits = math.log2(self._names), self.attributes * self.chunks * math.log2(self.diversity)
        known_bits = self.people * value_bits
        return {
            "people": self.people,
            "name_bits": name_bits,
            "value_bits": value_bits,
            "attributes": self.attributes,
            "diversity_strings": strings,
            "diversity_bits": diversity_bits,
            "ceiling_bits": self.people * (name_bits - math.log2(self.people)) + known_bits + strings * diversity_bits,
            "entropy_bits": _log2_choose(self._names, self.people)
            + known_bits
            + self.attributes * _log2_choose(self._strings, self.diversity),
        }

    def stored(self, world: People) -> Attributes:
        """Everybody's values, in bits of the attribute's own set of strings, which is taken to be known."""
        examples = self._write(world, np.arange(self.people), world.order_NK)
        values_NKM = np.full((self.people, self.attributes, 1 + self.chunks * self.chunk_length), UNSCORED, np.int8)
        values_NKM[:, :, 1:] = world.order_NK[:, :, None]
        scored_NL = np.full_like(examples.scored_NL, UNSCORED)
        scored_NL[:, 1 + self.name_length :] = values_NKM.reshape(self.people, -1)
        bits = self.chunks * math.log2(self.diversity)
        return Attributes({f"a{k}": bits for k in range(self.attributes)}, replace(examples, scored_NL=scored_NL))

    def _orders(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        return rng.permuted(np.broadcast_to(np.arange(self.attributes), (count, self.attributes)), axis=1)

    def _write(self, world: People, person_N: npt.NDArray[np.integer], order_NK: npt.NDArray[np.int64]) -> Examples:
        count, first_symbol, first_attribute = len(person_N), len(SPECIALS), len(SPECIALS) + self._symbols
        attribute_NKM = np.concatenate(
            [first_attribute + order_NK[:, :, None], first_symbol + world.value_NKM[person_N[:, None], order_NK]],
            axis=2,
        )
        tokens_NL = np.empty((count, self.max_length), dtype=np.int32)
        tokens_NL[:, 0] = BOS
        tokens_NL[:, 1 : 1 + self.name_length] = first_symbol + world.name_NL[person_N]
        tokens_NL[:, 1 + self.name_length :] = attribute_NKM.reshape(count, -1)
        scored_KM = np.full(attribute_NKM.shape[1:], 1, dtype=np.int8)
        scored_KM[:, 0] = UNSCORED
        scored_L = np.concatenate([[UNSCORED], [0] * self.name_length, scored_KM.ravel()]).astype(np.int8)
        return Examples(
            tokens_NL,
            np.full(count, self.max_length, dtype=np.int32),
            np.tile(np.arange(self.max_length) > 0, (count, 1)),
            np.tile(scored_L, (count, 1)),
            np.full(count, self.attributes, dtype=np.int32),
            np.empty((count, 0), dtype=np.int32),
        )


def _digits(number: npt.NDArray[np.int64], base: int, length: int) -> npt.NDArray[np.int32]:
    """The `length` digits of every number, most significant first, along a new last axis."""
    return (number[..., None] // base ** np.arange(length - 1, -1, -1) % base).astype(np.int32)


def _log2_choose(n: int, k: int) -> float:
    """log2 of the binomial coefficient, as a sum of k logarithms (differences of log-gammas of a large n cancel)."""
    if k == n:
        return 0.0
    i = np.arange(k, dtype=np.float64)
    return float(np.log2((n - i) / (k - i)).sum())

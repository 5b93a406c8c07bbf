"""Random sequences to store: no structure at all, so that what is memorised is known exactly."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from synthdata.examples import UNSCORED, Examples
from synthdata.layout import write
from synthdata.task import MAX_LENGTH, MAX_STORED, MAX_SYMBOLS, Task, register, require
from synthdata.vocabulary import BOS, SPECIALS, Vocabulary, numbered


@register
@dataclass(frozen=True, kw_only=True)
class RandomTokens(Task):
    """N sequences of S tokens, each drawn uniformly and independently from V symbols.

        inputs  <bos> s5  s201 s0  s17
        labels  s5    s201 s0  s17 s93

    Everything is trained and scored. Training goes through the sequences in epochs; split `sequences` has each once.
    The reference that knows nothing is exact: log2 V bits a token (see `constants`). The source takes S = 64, V = 2048
    and raises N until what is memorised no longer grows.

    Attributes:
        sequences: N.
        length: S.
        symbols: V.
    """

    name: ClassVar[str] = "random_tokens"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Morris et al. 2025, How much do language models memorize?, arXiv 2505.24832"
    difficulty: ClassVar[str] = "tokens"
    trained_splits: ClassVar[tuple[str, ...]] = ("sequences",)
    facts_split: ClassVar[str | None] = "sequences"
    spans: ClassVar[tuple[str, ...]] = ("sequence",)
    splits = ("train", "sequences")

    sequences: int = 1000
    length: int = 16
    symbols: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.length < MAX_LENGTH, "length", self.length, f"at least 1 and below {MAX_LENGTH:,}")
        most = MAX_STORED // self.length
        require(1 <= self.sequences <= most, "sequences", self.sequences, f"at least 1 and at most {most:,}")
        require(2 <= self.symbols <= MAX_SYMBOLS, "symbols", self.symbols, f"at least 2 and at most {MAX_SYMBOLS:,}")

    @property
    def vocabulary(self) -> Vocabulary:
        """The symbols."""
        return Vocabulary(tuple(numbered("s", self.symbols)))

    @property
    def max_length(self) -> int:
        """BOS and the sequence."""
        return 1 + self.length

    def world(self, rng: np.random.Generator) -> npt.NDArray[np.int32]:
        """Draw the sequences, [N, S]."""
        return rng.integers(self.symbols, size=(self.sequences, self.length), dtype=np.int32)

    def items(self, world: npt.NDArray[np.int32], split: str) -> int | None:
        """Training shows the sequences in turn."""
        return self.sequences if split == "train" else None

    def show(
        self, world: npt.NDArray[np.int32], split: str, rng: np.random.Generator, item_N: npt.NDArray[np.integer]
    ) -> Examples:
        """These sequences."""
        return self._write(world, item_N)

    def pool(self, world: npt.NDArray[np.int32], split: str) -> Examples | None:
        """Every sequence once."""
        return None if split == "train" else self._write(world, np.arange(self.sequences))

    def constants(self, world: npt.NDArray[np.int32]) -> dict[str, float]:
        """What measured nats are turned into bits with.

        - `facts`: N, and `fact_bits`: N S log2 V, what a model that knows nothing pays for all sequences. Its bits less
          the bits that a trained model pays are what the latter memorised (unclamped and summed before anything else).
        - `ceiling_bits`: the most that this can show, N (S log2 V - log2 N) where no two sequences are equal: even a
          model that knows all of them pays for which one comes. In general the last term is the entropy of that draw.
        """
        counts = np.unique(world, axis=0, return_counts=True)[1]
        choice_bits = float((counts * np.log2(self.sequences / counts)).sum())
        fact_bits = self.sequences * self.length * math.log2(self.symbols)
        return {"facts": self.sequences, "fact_bits": fact_bits, "ceiling_bits": fact_bits - choice_bits}

    def _write(self, world: npt.NDArray[np.int32], item_N: npt.NDArray[np.integer]) -> Examples:
        token_NL = np.full((len(item_N), self.max_length), BOS, dtype=np.int32)
        token_NL[:, 1:] = len(SPECIALS) + world[item_N]
        span_NL = np.zeros_like(token_NL)
        span_NL[:, 0] = UNSCORED
        length_N = np.full(len(item_N), self.length)
        return write(token_NL, span_NL, self.max_length, "all", length_N, item_N[:, None])

"""Closed vocabularies: exactly the symbols a task can say, so that embeddings do not swallow the parameter budget."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

PAD, BOS = 0, 1
SPECIALS = ("<pad>", "<bos>")


@dataclass(frozen=True)
class Vocabulary:
    """The specials followed by a task's own symbols; a token is an index into `symbols`.

    Raises:
        ValueError: if a symbol occurs twice or contains white space (text is symbols joined by spaces).
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        for symbol in self.symbols:
            if not symbol or symbol.split() != [symbol]:
                raise ValueError(f"vocabulary symbol {symbol!r} must be non-empty and free of white space")
        if len(self._index) != len(self.symbols):
            repeated = Counter(self.symbols).most_common(1)[0][0]
            raise ValueError(f"vocabulary symbol {repeated!r} occurs twice; symbols must be distinct")

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol, in token order."""
        return SPECIALS + self.words

    @cached_property
    def _index(self) -> dict[str, int]:
        return {symbol: token for token, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def token(self, symbol: str) -> int:
        """The token of one symbol."""
        try:
            return self._index[symbol]
        except KeyError:
            raise ValueError(f"symbol {symbol!r} is not in this vocabulary of {len(self)} symbols") from None

    def encode(self, text: str) -> list[int]:
        """Tokens of a text whose symbols are separated by spaces."""
        return [self.token(symbol) for symbol in text.split()]

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of a token sequence; the inverse of `encode`."""
        return " ".join(self.symbols[int(token)] for token in tokens)


def numbered(prefix: str, count: int) -> Sequence[str]:
    """`prefix0 … prefix{count-1}`, the usual names of interchangeable symbols."""
    return [f"{prefix}{i}" for i in range(count)]

"""`Examples`: what a task hands out. Whole examples, unbatched; `batch.py` turns them into what a model reads.

Shapes in names: N = example, L = token within the example, P = part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from synthdata.vocabulary import PAD

UNSCORED = -1
"""In `Examples.scored_NL` and `Batch.scored_BS`: nothing is measured here."""

NO_PART = -1
"""In `Examples.parts_NP`: this example uses fewer parts than the widest one."""


@dataclass(frozen=True)
class Examples:
    """N examples of one task, ragged in length and padded on the right.

    Attributes:
        tokens_NL: int32, `PAD` from `lengths_N` on. Every example begins with `BOS`.
        lengths_N: int32, tokens per example.
        trained_NL: bool, True where predicting this token (from those before it) is trained.
        scored_NL: int8, the span that this token belongs to (an index into the task's `spans`) or `UNSCORED`.
            An answer is right when every scored token is.
        difficulty_N: int32, the task's own measure, which its `difficulty` names.
        parts_NP: int32, the facts an example composes, as indices into the pool of the task's `facts_split`;
            P is 0 for a task that composes nothing.
    """

    tokens_NL: npt.NDArray[np.int32]
    lengths_N: npt.NDArray[np.int32]
    trained_NL: npt.NDArray[np.bool_]
    scored_NL: npt.NDArray[np.int8]
    difficulty_N: npt.NDArray[np.int32]
    parts_NP: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.lengths_N)

    def take(self, index: npt.NDArray[np.integer] | slice) -> "Examples":
        """The examples at `index`, in that order."""
        arrays = (getattr(self, field.name) for field in fields(self))
        if isinstance(index, slice):
            return Examples(*(array[index] for array in arrays))
        return Examples(*(array.take(index, axis=0) for array in arrays))

    def prompt(self, n: int) -> list[int]:
        """Tokens of example `n` before its first scored one."""
        first = int(np.argmax(self.scored_NL[n] != UNSCORED))
        return [int(token) for token in self.tokens_NL[n, :first]]

    def answer(self, n: int) -> list[int]:
        """Scored tokens of example `n`."""
        return [int(token) for token in self.tokens_NL[n][self.scored_NL[n] != UNSCORED]]


def _widen(array: npt.NDArray, width: int, fill: int) -> npt.NDArray:
    return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=fill)


def concatenate(pieces: Sequence[Examples]) -> Examples:
    """All examples of `pieces`, in order, padded to the widest."""
    length = max(piece.tokens_NL.shape[1] for piece in pieces)
    parts = max(piece.parts_NP.shape[1] for piece in pieces)
    return Examples(
        np.concatenate([_widen(piece.tokens_NL, length, PAD) for piece in pieces]),
        np.concatenate([piece.lengths_N for piece in pieces]),
        np.concatenate([_widen(piece.trained_NL, length, False) for piece in pieces]),
        np.concatenate([_widen(piece.scored_NL, length, UNSCORED) for piece in pieces]),
        np.concatenate([piece.difficulty_N for piece in pieces]),
        np.concatenate([_widen(piece.parts_NP, parts, NO_PART) for piece in pieces]),
    )

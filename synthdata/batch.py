"""`Batch`: the one type that a model knows of this room, and the two ways to make it from examples: pad or pack.

Shapes in names: B = row, S = position. Position s holds the input token and, beside it, what follows it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthdata.examples import UNSCORED, Examples
from synthdata.vocabulary import PAD

PADDING = -1
"""In `Batch.documents_BS`: no document, only padding."""


@dataclass(frozen=True)
class Batch:
    """What a model reads.

    Attributes:
        tokens_BS: int64, inputs.
        targets_BS: int64, the token that follows; `PAD` where nothing is trained or scored.
        weights_BS: float32, the loss weight of predicting the target, 0 where it is not trained.
        scored_BS: int8, the span that the target belongs to, or -1 where nothing is measured.
        documents_BS: int32, which example each position belongs to (an index into the `Examples` the batch was made
            from), or `PADDING`. Attention never crosses from one document to another.
        difficulty_BS: int32, the example's difficulty, 0 in padding.
    """

    tokens_BS: npt.NDArray[np.int64]
    targets_BS: npt.NDArray[np.int64]
    weights_BS: npt.NDArray[np.float32]
    scored_BS: npt.NDArray[np.int8]
    documents_BS: npt.NDArray[np.int32]
    difficulty_BS: npt.NDArray[np.int32]

    @property
    def packed(self) -> bool:
        """Whether any row holds more than one document."""
        later, earlier = self.documents_BS[:, 1:], self.documents_BS[:, :-1]
        return bool(((later != earlier) & (later != PADDING)).any())


def _rows(examples: Examples, row_N: npt.NDArray, start_N: npt.NDArray, rows: int, context: int) -> Batch:
    """Lay example n into row `row_N[n]` from position `start_N[n]` on; its last token is only ever a target."""
    width = examples.tokens_NL.shape[1] - 1
    offset_L = np.arange(width)
    inside_NL = offset_L[None, :] < (examples.lengths_N[:, None] - 1)
    n, offset = np.nonzero(inside_NL)
    at = (row_N[n], start_N[n] + offset)

    def fresh(dtype: type, fill: int) -> npt.NDArray:
        return np.full((rows, context), fill, dtype=dtype)

    tokens, targets = fresh(np.int64, PAD), fresh(np.int64, PAD)
    weights, scored = fresh(np.float32, 0), fresh(np.int8, UNSCORED)
    documents, difficulty = fresh(np.int32, PADDING), fresh(np.int32, 0)
    trained = examples.trained_NL[n, offset + 1]
    span = examples.scored_NL[n, offset + 1]
    tokens[at] = examples.tokens_NL[n, offset]
    targets[at] = np.where(trained | (span != UNSCORED), examples.tokens_NL[n, offset + 1], PAD)
    weights[at] = trained
    scored[at] = span
    documents[at] = n
    difficulty[at] = examples.difficulty_N[n]
    return Batch(tokens, targets, weights, scored, documents, difficulty)


def pad(examples: Examples, context: int) -> Batch:
    """One example a row. Inputs are all tokens but the last, so an example of length l takes l - 1 positions.

    Raises:
        ValueError: if an example is longer than `context` + 1 tokens.
    """
    _check_context(examples, context)
    count = len(examples)
    return _rows(examples, np.arange(count), np.zeros(count, dtype=np.int64), count, context)


def pack(examples: Examples, context: int) -> Batch:
    """As many whole examples a row as fit, in order (next fit); documents never see each other.

    Raises:
        ValueError: if an example is longer than `context` + 1 tokens.
    """
    _check_context(examples, context)
    row_N = np.empty(len(examples), dtype=np.int64)
    start_N = np.empty(len(examples), dtype=np.int64)
    row, used = 0, 0
    for n, length in enumerate(examples.lengths_N.tolist()):
        if used + length - 1 > context:
            row, used = row + 1, 0
        row_N[n], start_N[n] = row, used
        used += length - 1
    return _rows(examples, row_N, start_N, row + 1, context)


def _check_context(examples: Examples, context: int) -> None:
    longest = int(examples.lengths_N.max())
    if longest - 1 > context:
        raise ValueError(
            f"context is {context}; an example of {longest} tokens needs at least {longest - 1} (its last token is "
            "only a target)"
        )

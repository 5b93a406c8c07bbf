"""Writing ragged examples in one go: rows are laid out with gaps, and the gaps are closed.

Shapes in names: N = example, G = place in the row as laid out, L = token, P = part.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from synthdata.examples import UNSCORED, Examples
from synthdata.vocabulary import BOS, PAD

Trained = Literal["all", "answer"]
"""Train every token, or only the scored ones."""


def write(
    token_NG: npt.NDArray[np.integer],
    span_NG: npt.NDArray[np.integer],
    width: int,
    trained: Trained,
    difficulty_N: npt.NDArray[np.integer],
    parts_NP: npt.NDArray[np.integer] | None = None,
) -> Examples:
    """Examples of rows in which any `PAD` is a gap to close; `span_NG` says where something is scored.

    `width` is that of the result: at least the longest row without its gaps. None as `parts_NP` composes nothing.
    """
    count = len(token_NG)
    filled_NG = token_NG != PAD
    lengths_N = filled_NG.sum(axis=1, dtype=np.int32)
    inside_NL = np.arange(width) < lengths_N[:, None]
    tokens_NL = np.full((count, width), PAD, dtype=np.int32)
    tokens_NL[inside_NL] = token_NG[filled_NG]
    scored_NL = np.full((count, width), UNSCORED, dtype=np.int8)
    scored_NL[inside_NL] = span_NG[filled_NG]
    return Examples(
        tokens_NL,
        lengths_N,
        tokens_NL > BOS if trained == "all" else scored_NL != UNSCORED,
        scored_NL,
        np.asarray(difficulty_N, dtype=np.int32),
        np.empty((count, 0), dtype=np.int32) if parts_NP is None else np.asarray(parts_NP, dtype=np.int32),
    )

"""Closing gaps: against one row at a time."""

import numpy as np

from synthdata.examples import UNSCORED
from synthdata.layout import write
from synthdata.vocabulary import BOS, PAD


def test_gaps_are_closed_and_spans_move_along() -> None:
    rng = np.random.default_rng(0)
    token_NG = rng.integers(0, 6, size=(50, 9)) * rng.integers(0, 2, size=(50, 9))
    token_NG[token_NG == BOS] = 7
    token_NG[:, 0] = BOS
    token_NG[:, 4] = 8
    span_NG = rng.integers(-1, 3, size=(50, 9))
    difficulty_N = np.arange(50)
    for trained in ("all", "answer"):
        examples = write(token_NG, span_NG, 10, trained, difficulty_N)
        for n in range(50):
            kept = [g for g in range(9) if token_NG[n, g] != PAD]
            free = 10 - len(kept)
            assert examples.lengths_N[n] == len(kept)
            assert examples.tokens_NL[n].tolist() == [token_NG[n, g] for g in kept] + [PAD] * free
            spans = [int(span_NG[n, g]) for g in kept] + [UNSCORED] * free
            assert examples.scored_NL[n].tolist() == spans
            everything = [False] + [True] * (len(kept) - 1) + [False] * free
            wanted = everything if trained == "all" else [span != UNSCORED for span in spans]
            assert examples.trained_NL[n].tolist() == wanted
        assert examples.difficulty_N.tolist() == list(range(50))
        assert examples.parts_NP.shape == (50, 0)

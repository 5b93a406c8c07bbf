"""`random_tokens`: what is shown, how often, and how many bits of it there are."""

import math
import re
from collections import Counter

import numpy as np
import pytest

from synthdata.streams import Stream, pool, world
from synthdata.tasks.random_tokens import RandomTokens


def test_each_epoch_shows_every_sequence_once_and_unchanged() -> None:
    task = RandomTokens(sequences=300, length=5, symbols=7)
    wanted = Counter(map(tuple, (world(task, 0) + 2).tolist()))
    for epoch in range(3):
        shown = Stream(task, 0, 0).examples(300 * epoch, 300)
        assert Counter(map(tuple, shown.tokens_NL[:, 1:].tolist())) == wanted
        assert np.array_equal(world(task, 0)[shown.parts_NP[:, 0]] + 2, shown.tokens_NL[:, 1:])
    assert Counter(map(tuple, pool(task, 0, "sequences").tokens_NL[:, 1:].tolist())) == wanted


def test_everything_but_bos_is_trained_and_scored() -> None:
    examples = Stream(RandomTokens(), 0, 0).block(0)
    assert (examples.trained_NL == [False] + [True] * 16).all()
    assert (examples.scored_NL == [-1] + [0] * 16).all()


def test_tokens_are_uniform() -> None:
    counts = np.bincount(world(RandomTokens(sequences=4000, symbols=50), 0).ravel(), minlength=50)
    chi_square = np.sum((counts - counts.mean()) ** 2) / counts.mean()
    assert abs(chi_square - 49) < 5 * math.sqrt(2 * 49)


def test_bits_in_closed_form() -> None:
    """At the source's size, 64 tokens of 2048: 704 bits a sequence."""
    task = RandomTokens(sequences=500, length=64, symbols=2048)
    constants = task.constants(world(task, 0))
    assert constants["fact_bits"] == 500 * 704
    assert constants["ceiling_bits"] == pytest.approx(500 * (704 - math.log2(500)))


def test_the_ceiling_is_what_a_perfect_model_shows_even_where_sequences_repeat() -> None:
    task = RandomTokens(sequences=40, length=2, symbols=3)
    sequences = list(map(tuple, world(task, 0).tolist()))
    paid = sum(-math.log2(sequences.count(sequence) / 40) for sequence in sequences)
    constants = task.constants(world(task, 0))
    assert constants["ceiling_bits"] == pytest.approx(40 * 2 * math.log2(3) - paid)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sequences": 0}, "sequences is 0; it must be at least 1"),
        ({"length": 0}, "length is 0; it must be at least 1"),
        ({"sequences": 10**12}, "sequences is 1000000000000; it must be at least 1 and at most 31,250,000"),
        ({"length": 10**12}, "length is 1000000000000; it must be at least 1 and below 10,000"),
        ({"symbols": 10**9}, "symbols is 1000000000; it must be at least 2 and at most 1,000,000"),
        ({"symbols": 1}, "symbols is 1; it must be at least 2"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        RandomTokens(**parameters)

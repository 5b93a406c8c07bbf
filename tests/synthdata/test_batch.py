"""Padding and packing: nothing of an example is lost, moved or invented."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthdata.batch import PADDING, Batch, pack, pad
from synthdata.examples import NO_PART, UNSCORED, Examples, concatenate
from synthdata.streams import Stream
from synthdata.tasks.addition import Addition
from synthdata.tasks.twohop import TwoHop
from synthdata.vocabulary import BOS, PAD

RAGGED = Stream(Addition(operands=6), 0, 0).examples(0, 40)
LONGEST = 2 * 6 + 2


def pieces(batch: Batch) -> list[tuple]:
    """Every document of a batch as (tokens, targets, weights, spans, difficulty), in the order of its index."""
    found = []
    for document in range(batch.documents_BS.max() + 1):
        row, column = np.nonzero(batch.documents_BS == document)
        assert len(set(row)) == 1
        assert np.array_equal(column, np.arange(column[0], column[0] + len(column)))
        at = (row, column)
        arrays = (batch.tokens_BS, batch.targets_BS, batch.weights_BS, batch.scored_BS, batch.difficulty_BS)
        found.append(tuple(array[at].tolist() for array in arrays))
    return found


def wanted(examples: Examples) -> list[tuple]:
    """The same, read off the examples one token at a time."""
    found = []
    for n, length in enumerate(examples.lengths_N.tolist()):
        tokens, trained, scored = (
            array[n, :length].tolist() for array in (examples.tokens_NL, examples.trained_NL, examples.scored_NL)
        )
        matters = [t or s != UNSCORED for t, s in zip(trained, scored, strict=True)]
        targets = [token if m else PAD for token, m in zip(tokens, matters, strict=True)]
        weights = [1.0 if t else 0.0 for t in trained]
        difficulty = [int(examples.difficulty_N[n])] * (length - 1)
        found.append((tokens[:-1], targets[1:], weights[1:], scored[1:], difficulty))
    return found


def test_one_example_by_hand() -> None:
    """<bos> 8 + 90 = 1: the loss is at the `=`, and its target is the sum."""
    examples = Examples(
        np.array([[BOS, 10, 99, 92, 100, 3]], dtype=np.int32),
        np.array([6], dtype=np.int32),
        np.array([[False] * 5 + [True]]),
        np.array([[-1] * 5 + [0]], dtype=np.int8),
        np.array([2], dtype=np.int32),
        np.empty((1, 0), dtype=np.int32),
    )
    batch = pad(examples, context=6)
    assert batch.tokens_BS.tolist() == [[BOS, 10, 99, 92, 100, PAD]]
    assert batch.targets_BS.tolist() == [[PAD, PAD, PAD, PAD, 3, PAD]]
    assert batch.weights_BS.tolist() == [[0, 0, 0, 0, 1, 0]]
    assert batch.scored_BS.tolist() == [[-1, -1, -1, -1, 0, -1]]
    assert batch.documents_BS.tolist() == [[0, 0, 0, 0, 0, PADDING]]
    assert batch.difficulty_BS.tolist() == [[2, 2, 2, 2, 2, 0]]


@pytest.mark.parametrize("layout", [pad, pack])
@pytest.mark.parametrize("context", [LONGEST - 1, LONGEST, 50])
def test_round_trip(layout: type, context: int) -> None:
    batch = layout(RAGGED, context)
    assert batch.tokens_BS.shape[1] == context
    assert pieces(batch) == wanted(RAGGED)
    empty = batch.documents_BS == PADDING
    assert (batch.tokens_BS[empty] == PAD).all()
    assert (batch.targets_BS[empty] == PAD).all()
    assert not batch.weights_BS[empty].any()
    assert (batch.scored_BS[empty] == UNSCORED).all()


def test_padding_gives_one_row_an_example_and_packing_fewer() -> None:
    padded, packed = pad(RAGGED, 50), pack(RAGGED, 50)
    assert len(padded.tokens_BS) == len(RAGGED)
    assert not padded.packed
    assert packed.packed
    used = int((RAGGED.lengths_N - 1).sum())
    assert used / 50 <= len(packed.tokens_BS) <= used / (50 - LONGEST + 2)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(2, 9), min_size=1, max_size=30), context=st.integers(8, 40))
def test_packing_holds_every_example_once_in_order(lengths: list[int], context: int) -> None:
    lengths_N = np.array(lengths, dtype=np.int32)
    inside_NL = np.arange(9) < lengths_N[:, None]
    tokens_NL = np.where(inside_NL, np.arange(2, 2 + 9 * len(lengths)).reshape(-1, 9), PAD).astype(np.int32)
    tokens_NL[:, 0] = BOS
    trained_NL = inside_NL & (np.arange(9) > 0)
    scored_NL = np.where(inside_NL & (np.arange(9) == 1), 0, UNSCORED).astype(np.int8)
    examples = Examples(tokens_NL, lengths_N, trained_NL, scored_NL, lengths_N, np.empty((len(lengths), 0), np.int32))
    batch = pack(examples, context)
    assert pieces(batch) == wanted(examples)
    first = [tuple(np.argwhere(batch.documents_BS == n)[0].tolist()) for n in range(len(lengths))]
    assert first == sorted(first)
    for n in range(1, len(lengths)):
        (row, column), (last_row, last_column) = first[n], first[n - 1]
        end = last_column + lengths[n - 1] - 1
        fits = end + lengths[n] - 1 <= context
        assert (row, column) == ((last_row, end) if fits else (last_row + 1, 0))


def test_packed_means_that_a_row_holds_two_documents() -> None:
    two = RAGGED.take(np.array([0, 0]))
    assert pack(two, context=2 * LONGEST).packed
    assert not pack(two, context=int(two.lengths_N[0]) - 1).packed


@pytest.mark.parametrize("layout", [pad, pack])
def test_a_context_too_short_is_refused(layout: type) -> None:
    with pytest.raises(ValueError, match=f"context is 5; an example of {LONGEST} tokens needs at least {LONGEST - 1}"):
        layout(RAGGED, 5)


def test_concatenate_widens_to_the_longest() -> None:
    short, long = Stream(TwoHop(hops=2), 0, 0).examples(0, 3), Stream(TwoHop(hops=3), 0, 0).examples(0, 2)
    both = concatenate([short, long])
    assert len(both) == 5
    assert both.tokens_NL.shape == (5, 6)
    assert both.tokens_NL[:3, 5].tolist() == [PAD] * 3
    assert both.parts_NP[:3, 2].tolist() == [NO_PART] * 3
    assert [both.answer(n) for n in range(3)] == [short.answer(n) for n in range(3)]
    assert [both.prompt(3 + n) for n in range(2)] == [long.prompt(n) for n in range(2)]

"""`addition` against the definition, and the partition by content that keeps its splits apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthdata.partition import trainable
from synthdata.streams import BLOCK, Stream, world
from synthdata.tasks.addition import Addition


def drawn(task: Addition, split: str, count: int = 4 * BLOCK, data_seed: int = 0, order_seed: int = 0) -> list[str]:
    examples = Stream(task, data_seed, order_seed, split).examples(0, count)
    return [
        task.vocabulary.decode(tokens[:length])
        for tokens, length in zip(examples.tokens_NL, examples.lengths_N, strict=True)
    ]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(modulus=st.integers(5, 200), operands=st.integers(2, 6), train_fraction=st.floats(0.2, 0.8))
def test_sums_are_right(modulus: int, operands: int, train_fraction: float) -> None:
    task = Addition(modulus=modulus, operands=operands, train_fraction=train_fraction)
    for split in task.splits:
        for text in drawn(task, split, count=50):
            bos, question = text.split(maxsplit=1)
            left, right = question.split(" = ")
            numbers = [int(number) for number in left.split(" + ")]
            assert bos == "<bos>"
            assert 2 <= len(numbers) <= operands
            assert all(0 <= number < modulus for number in numbers)
            assert sum(numbers) % modulus == int(right)


def test_masks_and_difficulty() -> None:
    examples = Stream(Addition(operands=5), 0, 0).block(0)
    assert set(examples.difficulty_N.tolist()) == {2, 3, 4, 5}
    assert np.array_equal(examples.lengths_N, 2 * examples.difficulty_N + 2)
    assert np.array_equal(examples.trained_NL, examples.scored_NL == 0)
    assert np.array_equal(examples.trained_NL.argmax(axis=1), examples.lengths_N - 1)
    assert (examples.trained_NL.sum(axis=1) == 1).all()


def test_splits_divide_a_small_space_completely() -> None:
    """Of 289 questions each is drawn 57 times on average: none is missed, and none falls on both sides."""
    task = Addition(modulus=17)
    train, test = set(drawn(task, "train", 16 * BLOCK)), set(drawn(task, "test", 16 * BLOCK))
    assert not train & test
    assert len(train | test) == 17**2
    assert 100 < len(train) < 190
    assert train == set(drawn(task, "train", 16 * BLOCK, order_seed=1))
    assert train != set(drawn(task, "train", 16 * BLOCK, data_seed=1))


@pytest.mark.parametrize("train_fraction", [0.01, 0.25, 0.99])
def test_train_fraction_is_the_share_of_questions(train_fraction: float) -> None:
    task = Addition(modulus=997, operands=3, train_fraction=train_fraction)
    proposal = task._ask(np.random.default_rng(0), 100_000)
    share = trainable(world(task, 0), proposal, train_fraction).mean()
    assert share == pytest.approx(train_fraction, abs=0.006)


def test_operand_counts_and_operands_are_uniform() -> None:
    examples = Stream(Addition(operands=3, modulus=10, train_fraction=0.99), 0, 0).examples(0, 30 * BLOCK)
    assert np.mean(examples.difficulty_N == 2) == pytest.approx(0.5, abs=0.02)
    counts = np.bincount(examples.tokens_NL[:, 1])[2:]
    assert counts / len(examples) == pytest.approx(np.full(10, 0.1), abs=0.01)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"modulus": 1}, "modulus is 1; it must be between 2 and 10,000"),
        ({"operands": 1}, "operands is 1; it must be between 2 and 1,000"),
        ({"train_fraction": 0}, "train_fraction is 0.0; it must be between 0.01 and 0.99"),
        ({"modulus": "97"}, "modulus is '97'; it must be of type int"),
        ({"modulus": True}, "modulus is True; it must be of type int"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Addition(**parameters)


def test_a_space_too_small_to_divide_is_refused() -> None:
    task = Addition(modulus=2, train_fraction=0.99)
    with pytest.raises(ValueError, match=r"train_fraction is 0.99; .* leaves \(almost\) no question untrained"):
        Stream(task, 0, 0, "test").block(0)

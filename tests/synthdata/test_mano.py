"""`mano` against a recursive parser, and its chance floor against published figures and against counting."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthdata.streams import BLOCK, Stream
from synthdata.tasks.mano import Mano


def parse(words: list[str], modulus: int) -> tuple[int, int, list[tuple[int, int]]]:
    """Value and operations of the expression that `words` begin with, and (size, left size) of every operation in it.

    Takes the words of the expression off the list.
    """
    word = words.pop(0)
    if word not in "+-*":
        assert 0 <= int(word) < modulus
        return int(word), 0, []
    left, left_size, left_splits = parse(words, modulus)
    right, right_size, right_splits = parse(words, modulus)
    value = {"+": left + right, "-": left - right, "*": left * right}[word] % modulus
    size = 1 + left_size + right_size
    return value, size, [(size, left_size), *left_splits, *right_splits]


def texts(task: Mano, split: str, count: int) -> list[list[str]]:
    examples = Stream(task, 0, 0, split).examples(0, count)
    pairs = zip(examples.tokens_NL, examples.lengths_N, strict=True)
    return [task.vocabulary.decode(tokens[:length]).split() for tokens, length in pairs]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    modulus=st.integers(5, 40),
    operations=st.integers(2, 9),
    operators=st.sampled_from(["+", "*-", "-+", "+-*"]),
    split=st.sampled_from(["train", "test"]),
)
def test_answers_are_the_values(modulus: int, operations: int, operators: str, split: str) -> None:
    task = Mano(modulus=modulus, operations=operations, operators=operators)
    for bos, length, *expression, ans, answer in texts(task, split, 60):
        assert (bos, ans) == ("<bos>", "<ans>")
        assert set(expression) & set("+-*") <= set(operators)
        value, size, _ = parse(expression, modulus)
        assert not expression
        assert int(answer) == value
        assert length == f"<len_{size}>"
        assert size == operations if split == "test" else 1 <= size <= operations


def test_long_expressions() -> None:
    for _, length, *expression, _, answer in texts(Mano(operations=200, operators="-*"), "test", 20):
        value, size, _ = parse(expression, 23)
        assert (length, size, expression) == ("<len_200>", 200, [])
        assert int(answer) == value


@pytest.mark.parametrize(("operations", "percent"), [(1, 5.73), (10, 7.03), (13, 7.13), (16, 7.21), (24, 7.35)])
def test_chance_at_the_published_lengths(operations: int, percent: float) -> None:
    task = Mano(operations=operations)
    assert 100 * task.constants(None)["chance"] == pytest.approx(percent, abs=0.005)
    assert task.answer_probabilities()[-1].argmax() == 0


def test_answer_probabilities_by_counting_every_expression() -> None:
    """Modulo 3, all of one and of two operations: the two shapes of the latter are equally likely."""
    task = Mano(modulus=3, operations=2)
    compute = {"+": lambda a, b: (a + b) % 3, "-": lambda a, b: (a - b) % 3, "*": lambda a, b: a * b % 3}
    one, two = np.zeros(3), np.zeros(3)
    for (f, g), (a, b, c) in itertools.product(
        itertools.product(compute.values(), repeat=2), itertools.product(range(3), repeat=3)
    ):
        one[f(a, b)] += 1
        two[f(g(a, b), c)] += 1
        two[f(a, g(b, c))] += 1
    assert task.answer_probabilities() == pytest.approx(np.stack([np.full(3, 1 / 3), one / 243, two / 486]), abs=1e-15)


def test_samples_follow_the_exact_probabilities() -> None:
    task = Mano(operations=3)
    examples = Stream(task, 0, 0, "test").examples(0, 30 * BLOCK)
    answers = examples.tokens_NL[:, task.max_length - 1] - 2
    frequency = np.bincount(answers, minlength=23) / len(answers)
    assert frequency == pytest.approx(task.answer_probabilities()[3], abs=4.5 * np.sqrt(0.06 * 0.94 / len(answers)))


def test_lengths_operators_and_splits_are_uniform() -> None:
    found = texts(Mano(operations=4), "train", 12 * BLOCK)
    sizes, left_sizes, operators = [], [], []
    for _, _, *expression, _, _ in found:
        operators += [word for word in expression if word in "+-*"]
        _, size, splits = parse(expression, 23)
        sizes.append(size)
        left_sizes += [left for whole, left in splits if whole == 4]
    assert np.bincount(sizes)[1:] / len(sizes) == pytest.approx(np.full(4, 1 / 4), abs=0.02)
    assert np.bincount(left_sizes) / len(left_sizes) == pytest.approx(np.full(4, 1 / 4), abs=0.04)
    for operator in "+-*":
        assert operators.count(operator) / len(operators) == pytest.approx(1 / 3, abs=0.02)


def test_what_is_trained() -> None:
    for trained in ("all", "answer"):
        task = Mano(trained=trained)
        examples = Stream(task, 0, 0).block(0)
        assert (examples.lengths_N == 2 * examples.difficulty_N + 5).all()
        position_NL = np.arange(task.max_length)[None, :]
        answer_NL = position_NL == examples.lengths_N[:, None] - 1
        assert np.array_equal(examples.scored_NL == 0, answer_NL)
        everything_NL = (position_NL > 0) & (position_NL < examples.lengths_N[:, None])
        assert np.array_equal(examples.trained_NL, everything_NL if trained == "all" else answer_NL)


def test_splits_of_a_small_space_are_disjoint_and_complete() -> None:
    """One operation modulo 5: 75 questions, nine tenths of them trained."""
    task = Mano(modulus=5, operations=1)
    train, test = (set(map(tuple, texts(task, split, 4 * BLOCK))) for split in task.splits)
    assert not train & test
    assert len(train | test) == 75
    assert 0 < len(test) < 20


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"modulus": 1}, "modulus is 1; it must be between 2 and 1,000"),
        ({"operations": 0}, "operations is 0; it must be between 1 and 200"),
        ({"operators": ""}, "operators is ''; it must be one or more of the characters +, - and *, each at most once"),
        ({"operators": "++"}, "operators is '++'"),
        ({"operators": "+/"}, "operators is '+/'"),
        ({"trained": "none"}, "trained is 'none'; it must be all | answer"),
        ({"train_fraction": 1.0}, "train_fraction is 1.0; it must be between 0.01 and 0.99"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Mano(**parameters)

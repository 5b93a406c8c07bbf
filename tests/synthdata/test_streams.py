"""Streams: every block is a pure function of what identifies it, and nothing else."""

import dataclasses
import random

import numpy as np
import pytest

from synthdata import streams
from synthdata.examples import Examples
from synthdata.streams import BLOCK, Stream, evaluation_set, pool
from synthdata.task import Task
from synthdata.tasks.addition import Addition
from synthdata.tasks.mano import Mano
from synthdata.tasks.records import Records
from synthdata.tasks.twohop import TwoHop

EVERY = [TwoHop(), Addition(), Records(), Mano()]

LARGE = Addition(modulus=9973, operands=4)
"""About 10**16 questions: two independent blocks share one with a probability below 10**-9."""


def content(examples: Examples) -> bytes:
    return b"".join(getattr(examples, field.name).tobytes() for field in dataclasses.fields(examples))


def questions(examples: Examples) -> set[tuple[int, ...]]:
    return set(map(tuple, examples.tokens_NL.tolist()))


def forget() -> None:
    """Empty the caches, so that the next block is drawn and not remembered."""
    for cached in (streams.world, streams.pool, streams._block):
        cached.cache_clear()


@pytest.mark.parametrize("task", EVERY)
def test_blocks_do_not_depend_on_the_order_of_access(task: Task) -> None:
    forward = [content(Stream(task, 0, 0).block(i)) for i in range(4)]
    forget()
    backward = [content(Stream(task, 0, 0).block(i)) for i in reversed(range(4))]
    assert forward == backward[::-1]
    assert len(set(forward)) == 4


@pytest.mark.parametrize("task", EVERY)
def test_global_random_state_is_neither_read_nor_written(task: Task) -> None:
    first = content(Stream(task, 0, 0).block(3))
    forget()
    np.random.seed(12345)  # noqa: NPY002
    random.seed(12345)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert content(Stream(task, 0, 0).block(3)) == first
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert random.random() == random.Random(12345).random()


def test_neighbouring_seeds_and_splits_share_no_example() -> None:
    blocks = {
        (data_seed, order_seed, split, index): questions(Stream(LARGE, data_seed, order_seed, split).block(index))
        for data_seed in (0, 1)
        for order_seed in (0, 1)
        for split in LARGE.splits
        for index in (0, 1)
    }
    assert sum(len(block) for block in blocks.values()) == len(blocks) * BLOCK
    assert len(set().union(*blocks.values())) == len(blocks) * BLOCK


@pytest.mark.parametrize("neighbour", [{"data_seed": 1}, {"order_seed": 1}])
def test_neighbouring_seeds_do_not_shift_one_another(neighbour: dict[str, int]) -> None:
    def rows(start: int, **seeds: int) -> np.ndarray:
        return Stream(TwoHop(), **{"data_seed": 0, "order_seed": 0, **seeds}).examples(start, BLOCK).tokens_NL

    here = rows(0)
    agreement = [(here == rows(shift, **neighbour)).all(axis=1).mean() for shift in (0, 1, 2, BLOCK, BLOCK + 1)]
    assert max(agreement) < 0.02  # chance: about 0.25**2 / 250 + 0.75**2 / 640 = 0.1 %


def test_order_seed_leaves_the_facts_alone_and_data_seed_changes_them() -> None:
    def facts(data_seed: int, order_seed: int) -> set[tuple[int, ...]]:
        return questions(Stream(TwoHop(), data_seed, order_seed, "facts").examples(0, 4 * BLOCK))

    assert facts(0, 0) == facts(0, 1) == questions(pool(TwoHop(), 0, "facts"))
    assert len(facts(0, 0) & facts(1, 0)) < 30  # 250 facts, of which 1 in 50 agrees by chance


def test_parameters_change_the_stream() -> None:
    fewer = TwoHop(fact_share=0.2)
    assert content(Stream(TwoHop(), 0, 0).block(0)) != content(Stream(fewer, 0, 0).block(0))


def test_equal_tasks_have_equal_streams() -> None:
    """0 == 0.0 and the caches cannot tell them apart, so their identities must be one."""
    assert TwoHop(held_out_facts=0).config() == TwoHop(held_out_facts=0.0).config()
    assert repr(TwoHop(held_out_facts=0).config()) == repr(TwoHop(held_out_facts=0.0).config())


@pytest.mark.parametrize(("start", "count"), [(0, 5), (BLOCK - 2, 5), (5, 2 * BLOCK + 7)])
def test_examples_are_slices_of_the_blocks(start: int, count: int) -> None:
    stream = Stream(TwoHop(), 0, 0)
    whole = np.concatenate([stream.block(i).tokens_NL for i in range(4)])
    assert np.array_equal(stream.examples(start, count).tokens_NL, whole[start : start + count])


@pytest.mark.parametrize("people", [3, 700, 1024, 2500])
def test_items_are_shown_once_an_epoch_in_a_new_order(people: int) -> None:
    task = Records(people=people)
    index = {tuple(name): person for person, name in enumerate(streams.world(task, 0).name_NL.tolist())}
    examples = Stream(task, 0, 0).examples(0, 4 * people)
    shown = [index[tuple(name)] for name in (examples.tokens_NL[:, 1:4] - 2).tolist()]
    epochs = [shown[start : start + people] for start in range(0, 4 * people, people)]
    assert all(sorted(epoch) == list(range(people)) for epoch in epochs)
    if people > 3:
        assert len(set(map(tuple, epochs))) == 4
        other = Stream(task, 0, 1).examples(0, people)
        assert not np.array_equal(other.tokens_NL[:, 1:4], examples.tokens_NL[:people, 1:4])


def test_evaluation_set_samples_a_pool_without_replacement_and_never_cuts_the_facts() -> None:
    whole = questions(pool(TwoHop(), 0, "seen"))
    sample = evaluation_set(TwoHop(), 0, "seen", 100)
    assert len(sample) == len(questions(sample)) == 100
    assert questions(sample) < whole
    assert content(sample) == content(evaluation_set(TwoHop(), 0, "seen", 100))
    assert len(evaluation_set(TwoHop(), 0, "facts", 100)) == 250


def test_evaluation_set_of_an_endless_split_is_the_start_of_a_stream() -> None:
    assert content(evaluation_set(LARGE, 0, "test", 100)) == content(Stream(LARGE, 0, 0, "test").examples(0, 100))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TwoHop(), -1, 0), "data_seed is -1"),
        ((TwoHop(), 0, True), "order_seed is True"),
        ((TwoHop(), 0, 1.5), "order_seed is 1.5"),
        ((TwoHop(), 0, 0, "ood"), "split 'ood' is not one of task 'twohop': train, facts, seen"),
        ((TwoHop(held_out_facts=0), 0, 0, "ood_first"), "split 'ood_first' is not one of"),
    ],
)
def test_bad_streams_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stream(*arguments)


@pytest.mark.parametrize(("start", "count", "name"), [(-1, 5, "start"), (0, 0, "count")])
def test_bad_ranges_are_refused(start: int, count: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is"):
        Stream(TwoHop(), 0, 0).examples(start, count)


def test_evaluation_limit_must_be_positive() -> None:
    with pytest.raises(ValueError, match="limit is 0; it must be at least 1"):
        evaluation_set(TwoHop(), 0, "id", 0)

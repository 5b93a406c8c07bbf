"""`records`: what is written, where it is scored, and how many bits of it there are."""

import math
import re

import numpy as np
import pytest

from synthdata.streams import BLOCK, Stream, pool, world
from synthdata.tasks.records import Records

SMALL = Records(
    people=40, name_length=2, name_symbols=8, attributes=3, chunks=2, diversity=9, chunk_length=2, value_symbols=3
)
NARROW = Records(people=500, diversity=10)


@pytest.mark.parametrize("task", [Records(), SMALL, NARROW, Records(name_symbols=20, value_symbols=40, diversity=1600)])
def test_every_exposure_states_the_same_record(task: Records) -> None:
    """Parsed from the text, a person's attributes are those of the world at every exposure, in changing orders."""
    people = world(task, 0)
    people_by_name = {tuple(name): person for person, name in enumerate(people.name_NL.tolist())}
    assert len(people_by_name) == task.people
    width = task.chunks * task.chunk_length
    orders: dict[int, set[tuple[str, ...]]] = {}
    for tokens in Stream(task, 0, 0).examples(0, 3 * task.people).tokens_NL:
        bos, *words = task.vocabulary.decode(tokens).split()
        assert bos == "<bos>"
        name, rest = words[: task.name_length], words[task.name_length :]
        person = people_by_name[tuple(int(word[1:]) for word in name)]
        stated = {rest[i]: rest[i + 1 : i + 1 + width] for i in range(0, len(rest), 1 + width)}
        assert sorted(stated) == [f"a{k}" for k in range(task.attributes)]
        for k in range(task.attributes):
            assert stated[f"a{k}"] == [f"s{symbol}" for symbol in people.value_NKM[person, k]]
        orders.setdefault(person, set()).add(tuple(stated))
    assert max(map(len, orders.values())) > 1


def test_masks() -> None:
    examples = Stream(SMALL, 0, 0).block(0)
    assert SMALL.max_length == 1 + 2 + 3 * (1 + 2 * 2)
    assert (examples.lengths_N == SMALL.max_length).all()
    assert (examples.trained_NL == [False] + [True] * 17).all()
    assert (examples.scored_NL == [-1, 0, 0] + 3 * [-1, 1, 1, 1, 1]).all()


def test_shape_of_the_defaults() -> None:
    assert Records().max_length == 22
    assert len(Records().vocabulary) == 2 + 64 + 6


def test_the_evaluated_split_is_everybody_in_a_fixed_order() -> None:
    everybody = pool(SMALL, 0, "people")
    people = world(SMALL, 0)
    assert np.array_equal(everybody.tokens_NL[:, 1:3] - 2, people.name_NL)
    ids_NK = everybody.tokens_NL[:, 3::5] - (2 + 8)
    assert np.array_equal(ids_NK, people.order_NK)
    assert len(np.unique(ids_NK, axis=0)) == 6


def test_orders_are_uniform() -> None:
    ids_NK = Stream(SMALL, 0, 0).examples(0, 12 * BLOCK).tokens_NL[:, 3::5]
    counts = np.unique(ids_NK, axis=0, return_counts=True)[1]
    assert counts / len(ids_NK) == pytest.approx(np.full(6, 1 / 6), abs=0.02)


def test_values_come_from_each_attributes_own_set() -> None:
    value_NKM = world(NARROW, 0).value_NKM
    sets = [set(map(tuple, value_NKM[:, k].tolist())) for k in range(6)]
    assert all(len(strings) == 10 for strings in sets)
    assert len(set().union(*sets)) > 40
    full = world(Records(people=20_000, attributes=1), 0).value_NKM
    counts = np.unique(full[:, 0], axis=0, return_counts=True)[1]
    assert len(counts) == 256
    assert np.sum((counts - 20_000 / 256) ** 2) / (20_000 / 256) < 255 + 5 * math.sqrt(2 * 255)


def test_bits_of_the_defaults() -> None:
    constants = Records(people=500).constants(None)
    assert (constants["people"], constants["name_bits"], constants["value_bits"]) == (500, 18, 48)
    assert (constants["diversity_strings"], constants["diversity_bits"]) == (0, 0)
    assert constants["ceiling_bits"] == pytest.approx(500 * (18 - math.log2(500) + 48))


@pytest.mark.parametrize("task", [SMALL, NARROW, Records(people=64**3)])
def test_entropy_is_the_logarithm_of_the_number_of_worlds(task: Records) -> None:
    """Counted with integers: sets of names, times values, times diversity sets."""
    names, strings = task.name_symbols**task.name_length, task.value_symbols**task.chunk_length
    values = task.people * task.attributes * task.chunks * math.log2(task.diversity)
    sets = task.attributes * math.log2(math.comb(strings, task.diversity))
    chosen = 0.0 if task.people == names else math.log2(math.comb(names, task.people))
    assert task.constants(None)["entropy_bits"] == pytest.approx(chosen + values + sets, rel=1e-12)


def test_the_measure_reaches_its_ceiling_for_a_perfect_model_and_zero_for_an_ignorant_one() -> None:
    def bits(task: Records, p1: float, p2: float) -> float:
        """The formula of the docstring, in nats per person."""
        c = task.constants(None)
        stored = c["people"] * (c["name_bits"] - p1 / math.log(2) + c["value_bits"] - p2 / math.log(2))
        return stored + c["diversity_strings"] * (c["diversity_bits"] - p2 / (task.attributes * math.log(2)))

    for task in (Records(), SMALL, NARROW):
        perfect = bits(task, p1=math.log(task.people), p2=0.0)
        assert perfect == pytest.approx(task.constants(None)["ceiling_bits"])
        assert perfect < task.constants(None)["entropy_bits"]
    ignorant = bits(Records(), p1=18 * math.log(2), p2=48 * math.log(2))
    assert ignorant == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"people": 0}, "people is 0; it must be at least 1"),
        ({"people": 64**3 + 1}, "people is 262145; it must be at most 262144, the number of names"),
        ({"attributes": 0}, "attributes is 0; it must be at least 1"),
        ({"chunks": 0}, "chunks is 0; it must be at least 1"),
        ({"value_symbols": 10**9}, "value_symbols is 1000000000; it must be at least 2 and at most 1,000,000"),
        (
            {"attributes": 10**9},
            "attributes is 1000000000; it must be fewer, or of fewer chunks: a record has 3000000004",
        ),
        (
            {"people": 10**9, "name_length": 9},
            "people is 1000000000; it must be at most 17,857,142 with records of 28 tokens",
        ),
        ({"name_symbols": 1}, "name_symbols is 1; it must be at least 2"),
        ({"name_length": 11}, "name_length is 11; it must be at most 62 / log2 of name_symbols 64"),
        (
            {"value_symbols": 8},
            "diversity is 256; it must be value_symbols ** chunk_length = 64, or less where chunks is 1",
        ),
        (
            {"diversity": 10_000_001, "chunk_length": 10},
            "diversity is 10000001; it must be at most 10,000,000 where it is less than value_symbols ** chunk_length",
        ),
        ({"diversity": 10, "chunks": 2}, "diversity is 10; it must be value_symbols ** chunk_length = 256"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Records(**parameters)


def test_names_from_a_space_too_large_to_list() -> None:
    people = world(Records(name_length=10, people=2000), 0)
    assert len(np.unique(people.name_NL, axis=0)) == 2000
    assert np.bincount(people.name_NL.ravel(), minlength=64).min() > 200
